"""Graphs of newer opsets take the lowest opset that says the same of their nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from pass_graphs import floats, hub

from bridge.hub.check import check_model
from bridge.hub.opset import HUB_OPSET
from bridge.passes.lowest_opset import NEWER, take_lowest_opset, type_text
from bridge.passes.opset import to_hub_opset
from bridge.passes.shapes import infer_shapes


@pytest.mark.parametrize(
    ("text", "opset", "expected"),
    [
        ("(float[N] x) => (float[N] y) { y = Relu(x) }", 28, 23),
        ("(float[N] x) => (float[N] y) { y = Swish(x) }", 28, 24),
        ("(float[N] x) => (float[N] y) { y = Swish(x) }", 24, 24),
        ("(float[N] x) => (int32[N] y) { y = BitCast <to=6> (x) }", 27, 26),
        ("(float[N] x) => (int32[N] y) { s = Swish(x) y = BitCast <to=6> (s) }", 28, 26),
        ("(uint8[N] x) => (uint8[N] y) { y = BitShift <direction=\"LEFT\"> (x, x) }", 28, 23),
        ("(int8[N] x) => (int8[N] y) { y = BitShift <direction=\"LEFT\"> (x, x) }", 28, 28),
        ("(float[N] x) => (float[N] y) { y = Celu(x) }", 28, 23),
        ("(float16[N] x) => (float16[N] y) { y = Celu(x) }", 28, 28),
        ("(float[1,1,4,4] x) => (float[1,4,2,2] y) { y = SpaceToDepth <blocksize=2> (x) }", 28, 23),
        ('(float[1,1,2,2] x) => (float y) { y = SpaceToDepth <blocksize=2, mode="CRD"> (x) }', 28, 28),
        ("(int32[N] x) => (int32[N] y) { y = Mod(x, x) }", 28, 23),
        ("(float[N] x) => (float[N] y) { y = Mod <fmod=1> (x, x) }", 28, 23),
        ("(float[N] x) => (float[N] y) { y = Mod(x, x) }", 28, 28),
        ("(float[N] x) => (float16[N] y) { y = Cast <to=10> (x) }", 28, 23),
        ("(float[N] x) => (float8e5m2[N] y) { y = Cast <to=19> (x) }", 25, 24),
        ("(float a, float b, float c) => (float[N] y) { y = Range(a, b, c) }", 28, 23),
        ("(float16 a, float16 b, float16 c) => (float16[N] y) { y = Range(a, b, c) }", 28, 27),
    ],
)  # fmt: skip
def test_opset(text: str, opset: int, expected: int) -> None:
    model = to_hub_opset(hub(text, opset=opset))
    assert model.graph.opset_imports[""] == opset
    lowered = take_lowest_opset(infer_shapes(model))
    assert lowered.graph.opset_imports[""] == expected
    check_model(lowered, stage="in a test")


def test_types_and_attributes_in_bodies_count() -> None:
    model = hub(
        "(bool c, float[N] x) => (float[N] y) {"
        " y = If(c) <then_branch = t () => (float[N] z) { z = Swish(x) },"
        " else_branch = e () => (float[N] z) { z = Neg(x) }> }",
        opset=28,
    )
    assert take_lowest_opset(infer_shapes(to_hub_opset(model))).graph.opset_imports[""] == 24


def test_a_graph_of_the_hub_is_left_alone() -> None:
    model = hub("(float[N,2] x) => (float[N,3] y) { y = MatMul(x, w) }", constants={"w": floats(2, 3)})
    assert take_lowest_opset(model).graph.opset_imports[""] == HUB_OPSET


def test_sequences_need_their_types() -> None:
    model = hub(
        "(float[N] x) => (seq(float[N]) y) { y = SequenceConstruct(x) }", opset=28
    )  # fmt: skip
    lowered = take_lowest_opset(infer_shapes(to_hub_opset(model)))
    assert lowered.graph.opset_imports[""] == HUB_OPSET
    (output,) = lowered.graph.outputs
    assert type_text(output.type) == "seq(tensor(float))"
    assert type_text(ir.OptionalType(ir.TensorType(ir.DataType.BFLOAT16))) == "optional(tensor(bfloat16))"


def test_every_newer_version_is_decided() -> None:
    known = {
        (schema.name, schema.since_version)
        for schema in onnx.defs.get_all_schemas_with_history()
        if schema.domain == "" and schema.since_version > HUB_OPSET
    }
    first = {
        (name, version) for name, version in known if not onnx.defs.has(name, version - 1)
    }  # new operators have nothing to be compared with
    assert set(NEWER) == known - first


def test_default_lists_of_function_operators_are_written_out() -> None:
    model = to_hub_opset(
        hub("(float[2,3,4,4] x) => (float y) { y = MeanVarianceNormalization(x) }", opset=13)
    )
    inferred = infer_shapes(model)
    check_model(inferred, stage="in a test")
    (output,) = inferred.graph.outputs
    assert output.shape is not None
    assert np.array_equal(output.shape.numpy(), [2, 3, 4, 4])
