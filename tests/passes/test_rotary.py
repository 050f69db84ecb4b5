"""Rotary positions in the spellings of exporters, and near misses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_graphs import Array, feeds_for, hub, ints, outputs

from bridge.passes.recipes import attach_recipes
from bridge.passes.rotary import fuse_rotations
from bridge.passes.shapes import infer_shapes
from bridge.passes.unused import drop_unused

_CONSTANTS = {
    **{f"i{number}": ints(number) for number in (0, 1, 2, 3, 4, 8)},
    "end": ints(2**63 - 1),
    "last": ints(-1),
    "three": ints(3),
    "shape": ints(0, 0, 0, 8),
}
_HALVES = "a = Slice(x, i0, i4, {axis}); b = Slice(x, i4, end, {axis}, i1); n = Neg(b)"
_SPLIT = "a, b = Split <axis = -1, num_outputs = 2> (x); n = Neg(b)"
_NEIGHBOURS = """o = Slice(x, i1, end, last, i2); e = Slice(x, i0, end, last, i2); n = Neg(o);
    p = Unsqueeze(n, last); q = Unsqueeze(e, last); j = Concat <axis = -1> (p, q); t = Reshape(j, shape)"""
_PRODUCTS = "c = Mul(x, cos); s = Mul(t, sin); y = Add(c, s)"
_SPELLINGS = [
    (0, f"{_HALVES.format(axis='last')}; t = Concat <axis = -1> (n, a); {_PRODUCTS}"),
    (0, f"{_HALVES.format(axis='three')}; t = Concat <axis = 3> (n, a); {_PRODUCTS}"),
    (0, f"{_SPLIT}; t = Concat <axis = -1> (n, a); c = Mul(cos, x); s = Mul(sin, t); y = Add(s, c)"),
    (1, f"{_NEIGHBOURS}; {_PRODUCTS}"),
]


def read(text: str) -> ir.Model:
    return infer_shapes(attach_recipes(hub(text.replace(";", "\n"), constants=_CONSTANTS)))


def model(body: str, angles: str = "1,1,6,8") -> ir.Model:
    text = f"(float[N,4,6,8] x, float[{angles}] cos, float[{angles}] sin) => (float[N,4,6,8] y) {{ {body} }}"
    return read(text)


def fused(body: str, angles: str = "1,1,6,8") -> ir.Model:
    return drop_unused(fuse_rotations(model(body, angles)))


def turned(x: Array, interleaved: int) -> Array:
    """The points that are pairs of x, turned by a right angle."""
    pairs = x.reshape(*x.shape[:-1], 4, 2) if interleaved else x.reshape(*x.shape[:-1], 2, 4).swapaxes(-1, -2)
    result = np.stack([-pairs[..., 1], pairs[..., 0]], -1)
    return (result if interleaved else result.swapaxes(-1, -2)).reshape(x.shape)


@pytest.mark.parametrize(("interleaved", "body"), _SPELLINGS)
@pytest.mark.parametrize("angles", ["1,1,6,8", "N,1,6,8", "6,8"])
def test_spellings(interleaved: int, body: str, angles: str) -> None:
    (node,) = fused(body, angles).graph
    assert (node.domain, node.op_type) == ("bridge", "Rotate")
    assert [value.name for value in node.inputs if value is not None] == ["x", "cos", "sin"]
    assert node.attributes["interleaved"].value == interleaved
    feeds = feeds_for(model(body, angles))
    (found,) = outputs(model(body, angles), feeds)
    expected = feeds["x"] * feeds["cos"] + turned(feeds["x"], interleaved) * feeds["sin"]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


_SLICES = _HALVES.format(axis="last")
_JOIN = "t = Concat <axis = -1> (n, a)"


@pytest.mark.parametrize(
    "body",
    [
        f"{_SLICES}; t = Concat <axis = -1> (a, n); {_PRODUCTS}",
        f"{_SLICES}; {_JOIN.replace('n, a', 'b, a')}; {_PRODUCTS}",
        f"a = Slice(x, i0, i3, last); b = Slice(x, i3, end, last); n = Neg(b); {_JOIN}; {_PRODUCTS}",
        f"a = Slice(x, i4, end, last); b = Slice(x, i0, i4, last); n = Neg(b); {_JOIN}; {_PRODUCTS}",
        f"{_SLICES}; {_JOIN}; c = Mul(t, cos); s = Mul(t, sin); y = Add(c, s)",
        f"{_SLICES}; {_JOIN}; c = Mul(x, cos); s = Mul(t, sin); y = Sub(c, s)",
        f"z = Neg(x); {_SLICES}; {_JOIN}; c = Mul(z, cos); s = Mul(t, sin); y = Add(c, s)",
        _NEIGHBOURS.replace("Slice(x, i1", "Slice(x, i0") + f"; {_PRODUCTS}",
        _NEIGHBOURS.replace("(p, q)", "(q, p)") + f"; {_PRODUCTS}",
    ],
)
def test_near_misses(body: str) -> None:
    assert "Rotate" not in [node.op_type for node in fused(body).graph]


def test_points_that_are_broadcast_to_angles() -> None:
    body = f"{_SLICES}; {_JOIN}; {_PRODUCTS}"
    text = f"(float[1,4,1,8] x, float[N,4,6,8] cos, float[N,4,6,8] sin) => (float[N,4,6,8] y) {{ {body} }}"
    found = fuse_rotations(read(text))
    assert [node.op_type for node in found.graph if node.domain == "bridge"] == ["Rotate"]


def test_what_others_read_stays() -> None:
    body = f"{_SLICES}; {_JOIN}; c = Mul(x, cos); s = Mul(t, sin); y = Add(c, s); w = Neg(t)"
    text = f"(float[N,4,6,8] x, float[6,8] cos, float[6,8] sin) => (float y, float w) {{ {body} }}"
    found = drop_unused(fuse_rotations(read(text)))
    assert {"Rotate", "Concat"} <= {node.op_type for node in found.graph}
