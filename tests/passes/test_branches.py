"""Branches that are always taken, conditions that say nothing, values that loops only pass on."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from bridge.hub import control, metadata
from bridge.hub.metadata import SourceInfo
from bridge.passes.branches import capture_invariants, simplify_loops, take_known_branches
from bridge.passes.loop_shapes import find_loop_shapes
from bridge.passes.scalars import give_range_scalars


def model_of(text: str) -> ir.Model:
    model = ir.from_proto(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23]>\nnet {text}'))
    metadata.set_source_info(model, SourceInfo(framework="onnx", format="onnx"))
    return model


def run(model: ir.Model, *inputs: object) -> list[np.ndarray]:
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString())
    return list(
        session.run(
            None, {each.name: value for each, value in zip(session.get_inputs(), inputs, strict=True)}
        )
    )


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


X = np.arange(4, dtype=np.float32)


def test_a_known_branch_takes_the_place_of_its_node() -> None:
    model = model_of("""(float[4] x) => (float[4] y) <bool c = {0}> {
        y = If(c) <
            then_branch = t () => (float[4] a) { a = Exp(x) },
            else_branch = e () => (float[4] b) <float two = {2}> { h = Mul(x, two)  b = Neg(h) }
        >
    }""")
    assert take_known_branches(model)
    assert operators(model) == ["Mul", "Neg", "Identity"]
    np.testing.assert_array_equal(run(model, X)[0], -2 * X)
    assert not take_known_branches(model)


def test_a_computed_condition_stays() -> None:
    model = model_of("""(float[4] x, bool c) => (float[4] y) {
        y = If(c) <
            then_branch = t () => (float[4] a) { a = Exp(x) },
            else_branch = e () => (float[4] b) { b = Neg(x) }
        >
    }""")
    assert not take_known_branches(model)


LOOP = """(float[4] x, float[4] w, int64 n) => (float[4] y)
<bool c = {1}, int64 endless = {9223372036854775807}> {
    y, v = Loop(COUNT, c, x, w) <body = b (int64 i, bool go, float[4] h, float[4] u)
        => (bool on, float[4] h2, float[4] u2) {
        h2 = Mul(h, u)
        u2 = Identity(u)
        ON
    }>
}"""


def test_a_condition_that_is_always_true_is_left_out() -> None:
    model = model_of(LOOP.replace("COUNT", "n").replace("ON", "on = Identity(go)"))
    simplify_loops(model)
    (loop,) = model.graph
    assert loop.inputs[1] is None
    assert control.continues_always(loop.attributes["body"].as_graph())


def test_an_endless_trip_count_is_left_out_where_a_condition_ends_the_loop() -> None:
    stop = "s = ReduceSum<keepdims=0>(h2)  l = Constant<value_float=9.0>()  on = Less(s, l)"
    model = model_of(LOOP.replace("COUNT", "endless").replace("ON", stop))
    simplify_loops(model)
    (loop,) = model.graph
    assert loop.inputs[0] is None
    assert loop.inputs[1] is not None


def test_a_loop_reads_from_outside_what_it_only_passes_on() -> None:
    model = model_of(LOOP.replace("COUNT", "n").replace("ON", "on = Identity(go)"))
    weights = np.full(4, 0.5, np.float32)
    before = run(model, X, weights, np.array(3))
    capture_invariants(model)
    loop = next(node for node in model.graph if node.op_type == "Loop")
    assert len(loop.inputs) == 3
    assert len(loop.attributes["body"].as_graph().inputs) == 3
    np.testing.assert_array_equal(run(model, X, weights, np.array(3))[0], before[0])


def test_a_loop_keeps_the_shapes_that_hold_in_every_step() -> None:
    model = model_of("""(float[N,4] x, float[N,4] z, int64 n) => (float y, float v) {
        y, v = Loop(n, , x, z) <body = b (int64 i, bool go, float h, float k)
            => (bool on, float h2, float k2) {
            on = Identity(go)
            h2 = Relu(h)
            k2 = Concat<axis=0>(k, x)
        }>
    }""")
    for value in model.graph.outputs:
        value.shape = None
    (loop,) = model.graph
    body = loop.attributes["body"].as_graph()
    for value in (*body.inputs[2:], *body.outputs[1:]):
        value.shape = None
    find_loop_shapes(model)
    for kept, grown in (body.inputs[2:], loop.outputs):
        assert kept.shape == ["N", 4]
        assert grown.shape is not None
        assert grown.shape[1] == 4
        assert grown.shape[0] not in (1, "N")


def test_ranges_get_scalars() -> None:
    model = model_of("""(int64[1] n) => (int64[k] y) <int64 zero = {0}, int64 one = {1}> {
        y = Range(zero, n, one)
    }""")
    give_range_scalars(model)
    assert operators(model) == ["Reshape", "Range"]
    np.testing.assert_array_equal(run(model, np.array([3]))[0], [0, 1, 2])
