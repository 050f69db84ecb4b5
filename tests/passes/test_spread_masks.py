"""Masks of attention for onnxruntime."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import parser

from bridge.passes.shapes import infer_shapes
from bridge.passes.spread_masks import spread_masks

_HEADER = '<ir_version: 11, opset_import: ["" : 23]>'


def attention(q: str, mask: str, *, heads: str = "", layers: int = 1) -> ir.Model:
    """Self-attention of `layers` layers that share a mask."""
    steps = [
        f"x{i + 1} = Attention{heads}(x{i}, x{i}, x{i}, m)"
        if i
        else f"x{i + 1} = Attention{heads}(x, x, x, m)"
        for i in range(layers)
    ]
    text = f"{_HEADER} net (float[{q}] x, bool[{mask}] m) => (float[{q}] x{layers}) {{ {' '.join(steps)} }}"
    return infer_shapes(ir.from_proto(parser.parse_model(text)))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def run(model: ir.Model, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return np.asarray(session.run(None, {"x": x, "m": mask})[0])


@pytest.mark.parametrize(
    ("q", "mask", "heads", "shape"),
    [
        ("B,2,S,4", "B,1,1,S", "", (3, 2, 5, 4)),
        ("B,2,S,4", "1,S", "", (3, 2, 5, 4)),
        ("B,S,8", "B,1,1,S", "<q_num_heads=2, kv_num_heads=2>", (3, 5, 8)),
    ],
)
def test_one_row_for_all_queries_runs_in_onnxruntime(
    q: str, mask: str, heads: str, shape: tuple[int, ...]
) -> None:
    generator = np.random.default_rng(0)
    x = generator.standard_normal(shape).astype(np.float32)
    steps = shape[-2]
    sizes = {"B": shape[0], "S": steps, "1": 1}
    seen = generator.random([sizes[each] for each in mask.split(",")]) < 0.7
    seen[..., 0] = True
    found = run(spread_masks(attention(q, mask, heads=heads)), x, seen)
    parts = x.reshape(3, steps, 2, 4).transpose(0, 2, 1, 3) if len(shape) == 3 else x
    scores = np.where(seen, parts @ parts.swapaxes(-1, -2) / 2, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ parts
    if len(shape) == 3:
        expected = expected.transpose(0, 2, 1, 3).reshape(shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_layers_of_the_same_length_share_the_repeated_mask() -> None:
    assert operators(spread_masks(attention("B,2,S,4", "B,1,1,S", layers=2))).count("Expand") == 1


@pytest.mark.parametrize("mask", ["B,1,S,S", "S,S"])
def test_masks_with_a_row_for_each_query_are_left_alone(mask: str) -> None:
    assert operators(spread_masks(attention("B,2,S,4", mask))) == ["Attention"]
