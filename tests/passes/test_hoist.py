"""Moves of trained tensors leave the bodies of control flow."""

from __future__ import annotations

import onnx_ir as ir
from pass_graphs import apply, assert_equivalent, floats, hub, ints, operators

from bridge.passes.fold_trained import fold_moves
from bridge.passes.hoist import hoist_moves

HEAD = "(float[3,N,4] x, float[N,5] h) => (float[N,5] y)"


def scan(body: str) -> str:
    return (
        f"{HEAD} {{ y = Scan <num_scan_inputs = 1, body = g (float[N,5] old, float[N,4] row) => (new)"
        f" {{ {body} }}> (h, x) }}"
    )


def inner(model: ir.Model) -> list[str]:
    (loop,) = [node for node in model.graph if node.op_type == "Scan"]
    return [node.op_type for node in loop.attributes["body"].as_graph()]


def test_a_transposed_weight_is_a_tensor_of_its_own() -> None:
    text = scan(
        "t = Transpose <perm = [1, 0]> (w) s = Reshape(t, shape) p = MatMul(row, s) new = Add(old, p)"
    )
    model = hub(text, trained={"w": floats(5, 4)}, constants={"shape": ints(4, 5)})
    found = apply(model, hoist_moves, fold_moves)
    assert inner(found) == ["MatMul", "Add"]
    assert operators(found) == ["Scan"]
    assert_equivalent(apply(model), found)


def test_what_depends_on_a_step_or_is_computed_stays() -> None:
    text = scan(
        "t = Transpose <perm = [1, 0]> (row) u = Transpose <perm = [1, 0]> (t) n = Neg(w)"
        " s = Transpose <perm = [1, 0]> (n) p = MatMul(u, s) new = Add(old, p)"
    )
    model = hub(text, trained={"w": floats(5, 4)})
    found = apply(model, hoist_moves)
    assert inner(found) == ["Transpose", "Transpose", "Neg", "Transpose", "MatMul", "Add"]
    assert_equivalent(apply(model), found)
