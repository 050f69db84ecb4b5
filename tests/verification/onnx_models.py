"""Small ONNX models, right ones and ones with a single fault."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray[Any, np.dtype[Any]]
N = helper.make_node


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, tuple[int, Sequence[Any]]],
    outputs: dict[str, tuple[int, Sequence[Any] | None]],
    weights: dict[str, Array] | None = None,
) -> Path:
    graph = helper.make_graph(
        list(nodes),
        "model",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=11)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def network(
    path: Path,
    *,
    approximate: str = "none",
    epsilon: float = 1e-5,
    weight_factor: float = 1.0,
    input_name: str = "image",
    batch: Any = "N",
    half_weights: bool = False,
) -> Path:
    """Convolution, batch normalization, GELU, pooling, dense; the faults are arguments."""
    rng = np.random.default_rng(7)
    weights = {
        "conv.weight": rng.standard_normal((8, 3, 3, 3)) * 0.3,
        "bn.scale": rng.uniform(0.5, 1.5, 8),
        "bn.bias": rng.standard_normal(8),
        "bn.mean": rng.standard_normal(8),
        "bn.var": rng.uniform(0.02, 1.5, 8),
        "fc.weight": rng.standard_normal((8, 5)),
    }
    weights["fc.weight"][3, 2] *= weight_factor
    nodes = [
        N("Conv", [input_name, "conv.weight"], ["conv"], pads=[1, 1, 1, 1]),
        N(
            "BatchNormalization",
            ["conv", "bn.scale", "bn.bias", "bn.mean", "bn.var"],
            ["bn"],
            epsilon=epsilon,
        ),
        N("Gelu", ["bn"], ["gelu"], approximate=approximate),
        N("GlobalAveragePool", ["gelu"], ["pool"]),
        N("Flatten", ["pool"], ["flat"]),
        N("MatMul", ["flat", "fc.weight"], ["logits"]),
    ]
    arrays = {name: array.astype(np.float32) for name, array in weights.items()}
    if half_weights:
        arrays = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
    return save(
        path,
        nodes,
        {input_name: (TensorProto.FLOAT, [batch, 3, 12, 12])},
        {"logits": (TensorProto.FLOAT, [batch, 5])},
        arrays,
    )
