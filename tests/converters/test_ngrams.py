"""Counts of n-grams on both targets, against onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from scripts.onnx_suite import engines

Array = np.ndarray[Any, np.dtype[Any]]
TOKENS = np.array([[1, 2, 1, 3, 3, 2], [5, 1, 2, 9, 1, 3]])
WORDS = np.array([["a", "b", "a", "ä"], ["b", "x", "a", "b"]], object)


def model_of(x: Array, attributes: dict[str, Any]) -> onnx.ModelProto:
    node = helper.make_node("TfIdfVectorizer", ["x"], ["y"], **attributes)
    text = x.dtype == object
    kind = onnx.TensorProto.STRING if text else int(helper.np_dtype_to_tensor_dtype(x.dtype))
    shape = ["n", *x.shape[1:]] if x.ndim > 1 else list(x.shape)
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    outputs = [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["m", "k"][-x.ndim :])]
    graph = helper.make_graph([node], "ngrams", inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


CASES: dict[str, tuple[Array, dict[str, Any]]] = {
    f"{mode}-{skips}-{kind}": (
        data,
        {
            "mode": mode,
            "min_gram_length": 1,
            "max_gram_length": 3,
            "max_skip_count": skips,
            "ngram_counts": [0, 3, 7],
            "ngram_indexes": [0, 1, 2, 3, 4, 5],
            "weights": [0.5, 1.0, 2.0, 0.25, 3.0, 1.5],
            **pool,
        },
    )
    for mode in ("TF", "IDF", "TFIDF")
    for skips in (0, 2)
    for kind, data, pool in (
        ("int64", TOKENS, {"pool_int64s": [1, 2, 3, 1, 2, 3, 2, 1, 2, 1]}),
        ("int32", TOKENS.astype(np.int32), {"pool_int64s": [1, 2, 3, 1, 2, 3, 2, 1, 2, 1]}),
        ("row", TOKENS[0], {"pool_int64s": [1, 2, 3, 1, 2, 3, 2, 1, 2, 1]}),
        ("short", TOKENS[:, :2], {"pool_int64s": [1, 2, 3, 1, 2, 3, 2, 1, 2, 1]}),
        ("text", WORDS, {"pool_strings": ["a", "b", "ä", "a", "b", "b", "a", "a", "b", "a"]}),
    )
}


@pytest.mark.parametrize("name", CASES)
def test_counts(name: str, tmp_path: Path) -> None:
    data, attributes = CASES[name]
    model = model_of(data, attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (right,) = session.run(None, {"x": data})
    targets = ("tf",) if name.endswith("text") else ("torch", "tf")
    for target in targets:
        folder = tmp_path / target
        folder.mkdir()
        written = engines.convert(model, target, folder)
        (mine,) = engines.load(target, folder, written)([data])
        np.testing.assert_allclose(mine, right, rtol=1e-6)
