"""Identities that stop gradients: where they stay, and what would lose them."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, operators

from bridge.hub import metadata
from bridge.hub.graph import all_nodes, producer
from bridge.passes.branches import capture_invariants
from bridge.passes.element_moves import Elements, is_move
from bridge.passes.fold_trained import fold_buffers, fold_moves
from bridge.passes.identity import drop_identities
from bridge.passes.match import same
from bridge.passes.pipeline import canonicalise, prepare
from bridge.passes.stopped import drop_idle_stops, stop_gradients


def stopped(text: str, **options: object) -> ir.Model:
    """A hub model in which each Identity stops gradients."""
    model = hub(text, **options)  # type: ignore[arg-type]
    for node in all_nodes(model):
        if node.op_type == "Identity":
            metadata.set_stops_gradient(node, True)
    return model


STRAIGHT_THROUGH = """(float[N,4] x) => (float y) {
    rounded = Round(x)
    less = Sub(rounded, x)
    held = Identity(less)
    y = Add(x, held)
}"""


@pytest.mark.parametrize("target", ["torch", "tf"])
def test_a_stopped_identity_arrives_at_both_targets(target: str) -> None:
    model = canonicalise(stopped(STRAIGHT_THROUGH))
    assert "Identity" in operators(model)
    assert_equivalent(stopped(STRAIGHT_THROUGH), model)
    prepared = prepare(model, target=target)  # type: ignore[arg-type]
    assert operators(prepared).count("StopGradient") == 1
    assert node_of(prepared, "StopGradient").domain == "bridge"


def test_it_survives_a_file_that_is_valid(tmp_path: Path) -> None:
    ir.save(canonicalise(stopped(STRAIGHT_THROUGH)), tmp_path / "net.onnx")
    onnx.checker.check_model(str(tmp_path / "net.onnx"), full_check=True)
    assert metadata.stops_gradient(node_of(ir.load(tmp_path / "net.onnx"), "Identity"))


def test_passes_that_look_for_producers_do_not_look_through_it() -> None:
    model = stopped("(float[2,3] x) => (float y) { a = Identity(x) y = Neg(a) }")
    held = model.graph[0].outputs[0]
    assert producer(held, "Identity") is None
    assert not is_move(model.graph[0])
    assert Elements({}).origin(held) is None
    assert operators(apply(model, drop_identities)) == ["Identity", "Neg"]
    metadata.set_stops_gradient(model.graph[0], False)
    assert producer(held, "Identity") is model.graph[0]
    assert is_move(model.graph[0])
    assert operators(apply(model, drop_identities)) == ["Neg"]


def test_a_stopped_value_is_not_the_same_as_one_that_is_not() -> None:
    model = stopped("(float[2,3] x) => (float y) { a = Identity(x) b = Identity(x) y = Mul(a, b) }")
    first, second = model.graph[0], model.graph[1]
    assert same(first.outputs[0], second.outputs[0])
    metadata.set_stops_gradient(second, False)
    assert not same(first.outputs[0], second.outputs[0])


@pytest.mark.parametrize("fold", [fold_moves, fold_buffers])
def test_a_stopped_parameter_is_no_other_parameter(fold: object) -> None:
    model = stopped(
        "(float[N,4] x) => (float y) { h = Identity(w) t = Transpose <perm=[1,0]> (h) y = MatMul(x, t) }",
        trained={"w": floats(3, 4)},
    )
    found = apply(model, fold)  # type: ignore[arg-type]
    assert operators(found) == ["Identity", "Transpose", "MatMul"]


def test_a_loop_that_stops_what_it_carries_is_left_alone() -> None:
    model = stopped(
        """(float[4] x, int64 n) => (float y, float z) {
            y, z = Loop(n, , x, x) <body = b (int64 i, bool go, float[4] h, float[4] k)
                => (bool on, float[4] h2, float[4] k2) {
                on = Not(never)
                h2 = Mul(h, k)
                k2 = Identity(k)
            }>
        }""",
        constants={"never": ints(0).astype(bool).reshape(())},
    )
    capture_invariants(model)
    assert len(node_of(model, "Loop").outputs) == 2


@pytest.mark.parametrize(
    ("text", "buffers"),
    [
        ("(float[4] x, int64[4] ids) => (float y) { a = Add(c, c) h = Identity(a) y = Add(x, h) }", ()),
        ("(float[4] x, int64[4] ids) => (float y) { h = Identity(ids) s = Shape(h) y = Expand(x, s) }", ()),
        ("(float[4] x, int64[4] ids) => (int64 y) { h = Identity(x) y = ArgMax(h) }", ()),
        ("(float[4] x, int64[4] ids) => (float y) { h = Identity(w) y = Add(x, h) }", ("w",)),
        (
            "(float[4] x, int64[4] ids) => (float y)"
            " { k = Cast <to=1> (ids) s = Sin(k) h = Identity(s) y = Mul(x, h) }",
            (),
        ),
    ],
)
def test_where_no_gradient_comes_by_none_is_stopped(text: str, buffers: tuple[str, ...]) -> None:
    trained = {"w": floats(4)} if "w)" in text else {}
    model = stopped(text, trained=trained, buffers=buffers, constants={"c": floats(4)})
    assert "Identity" not in operators(apply(model, drop_idle_stops, drop_identities))


def test_behind_a_stop_there_is_no_gradient_to_stop() -> None:
    model = stopped("(float[4] x) => (float y) { a = Identity(x) b = Neg(a) c = Identity(b) y = Exp(c) }")
    assert operators(apply(model, drop_idle_stops, drop_identities)) == ["Identity", "Neg", "Exp"]


@pytest.mark.parametrize(
    "text",
    [
        "(float[4] x) => (float y) { h = Identity(x) y = Add(x, h) }",
        "(float[4] x) => (float y) { h = Neg(x) y = Identity(h) }",
        "(int64[4] ids) => (float y) { h = Identity(w) y = Gather(h, ids) }",
        "(float[4] x) => (float y) { v, i = TopK(x, one) h = Identity(v) y = Neg(h) }",
        "(float[4] x, bool c) => (float y) {"
        " k = If(c) <then_branch = t () => (float[4] a) { a = Neg(x) },"
        " else_branch = e () => (float[4] b) { b = Exp(x) }>"
        " h = Identity(k) y = Neg(h) }",
    ],
)
def test_where_a_gradient_comes_by_it_is_stopped(text: str) -> None:
    model = stopped(text, trained={"w": floats(4)} if "w)" in text else {}, constants={"one": ints(1)})
    found = apply(model, drop_idle_stops, drop_identities)
    assert metadata.stops_gradient(node_of(found, "Identity"))
    assert "StopGradient" in operators(stop_gradients(found))
