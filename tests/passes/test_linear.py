"""Affine maps of the last axis become one node, and only those."""

from __future__ import annotations

import pytest
from pass_graphs import apply, floats, hub, operators

from bridge.passes.fold_trained import fold_moves
from bridge.passes.linear import DOMAIN, fuse_linear


def test_a_product_of_higher_rank_takes_its_bias() -> None:
    model = hub(
        "(float[N,3,4] x) => (float[N,3,5] y) { p = MatMul(x, w) y = Add(p, b) }",
        trained={"w": floats(4, 5), "b": floats(5)},
    )
    found = fuse_linear(apply(model, fold_moves))
    (node,) = found.graph
    assert (node.op_type, node.domain) == ("Linear", DOMAIN)
    assert [value.name for value in node.inputs if value is not None] == ["x", "w", "b"]
    assert node.outputs[0].name == "y"


@pytest.mark.parametrize(
    ("text", "bias"),
    [
        ("(float[N,3,4] x) => (float[N,3,5] y) { p = MatMul(x, w) y = Add(p, b) }", (3, 5)),
        ("(float[N,3,4] x) => (float[N,3,5] y) { p = MatMul(x, w) y = Add(p, b) }", (1,)),
        ("(float[N,3,4] x) => (float[N,3,5] y) { p = MatMul(x, w) q = Add(p, b) y = Mul(p, q) }", (5,)),
        ("(float[N,3,4] x, float[5] b2) => (float[N,3,5] y) { p = MatMul(x, w) y = Add(p, b2) }", (5,)),
    ],
)
def test_what_is_no_affine_map_stays(text: str, bias: tuple[int, ...]) -> None:
    model = apply(hub(text, trained={"w": floats(4, 5), "b": floats(*bias)}), fold_moves)
    before = operators(model)
    assert operators(fuse_linear(model)) == before
