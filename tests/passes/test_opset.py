"""Models of other opsets, with their metadata."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser
from pass_graphs import assert_equivalent, floats, hub, ints, operators

from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.passes.constants import lift_constants
from bridge.passes.inline import inline_functions
from bridge.passes.opset import to_hub_opset

OLD = (
    "(float[N,1,4] x) => (float[N,4] y) { a = Squeeze <axes=[1]> (x) d = Dropout <ratio=0.25> (a)"
    " p = Pad <pads=[0,1,0,1], value=2.0> (d) c = Clip <min=-1.0, max=1.0> (p)"
    " b = MatMul(c, w) y = Softmax(b) }"
)


@pytest.mark.parametrize("opset", [9, 10])
def test_old_opset_keeps_names_metadata_and_weights(opset: int) -> None:
    model = hub(OLD, trained={"w": floats(6, 4)}, opset=opset)
    weight = model.graph.initializers["w"].const_value
    converted = to_hub_opset(model.clone(deep_copy=True))
    check_model(converted, stage="in a test")
    assert converted.graph.opset_imports[""] == 23
    assert_equivalent(model, converted)
    assert converted.graph.initializers["w"].const_value is weight
    assert metadata.weight_info(converted.graph.initializers["w"]) is not None
    assert metadata.source_info(converted) == metadata.source_info(model)
    by_output = {node.outputs[0].name: node for node in converted.graph}
    for node in model.graph:
        twin = by_output[node.outputs[0].name]
        assert (twin.name or None) == (node.name or None)
        assert metadata.scope_of(twin) == metadata.scope_of(node)
        assert metadata.source_value(twin.outputs[0]) == metadata.source_value(node.outputs[0])
    dropout = by_output["d"]
    assert dropout.inputs[1] is not None
    assert all(metadata.scope_of(node) is not None for node in converted.graph)


def test_softmax_of_old_opsets_flattens() -> None:
    model = hub("(float[2,3,4] x) => (float[2,3,4] y) { y = Softmax <axis=1> (x) }", opset=9)
    assert_equivalent(model, to_hub_opset(model.clone(deep_copy=True)))


@pytest.mark.parametrize("opset", [18, 20, 22, 23])
def test_recent_opsets(opset: int) -> None:
    model = hub(
        "(float[N,4,5,5] x) => (float y) { a = GlobalAveragePool(x) y = ReduceMean <keepdims=0> (a, axes) }",
        constants={"axes": ints(2, 3)},
        opset=opset,
    )
    converted = to_hub_opset(model.clone(deep_copy=True))
    assert converted.graph.opset_imports[""] == 23
    assert operators(converted) == operators(model)
    assert_equivalent(model, converted)


def test_group_normalisation_before_21_scales_per_group() -> None:
    text = "(float[{}] x) => (float[{}] y) {{ y = GroupNormalization <num_groups=2> (x, s, b) }}"
    tensors = {"s": floats(2), "b": floats(2, seed=1)}
    model = hub(text.format("N,4,3,3", "N,4,3,3"), constants=tensors, opset=18)
    converted = to_hub_opset(model.clone(deep_copy=True))
    assert operators(converted)[-1] == "GroupNormalization"
    assert len(operators(converted)) > 1
    check_model(converted, stage="in a test")


def test_group_normalisation_of_21_is_left_alone() -> None:
    model = hub(
        "(float[N,4,3,3] x) => (float[N,4,3,3] y) { y = GroupNormalization <num_groups=2> (x, s, b) }",
        constants={"s": floats(4), "b": floats(4, seed=1)},
        opset=21,
    )
    assert operators(to_hub_opset(model)) == ["GroupNormalization"]


def test_functions_are_inlined_with_the_calls_record() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23, "local" : 1]>
    agraph (float[N] x) => (float[N] y) { a = local.Twice(x) y = local.Twice(a) }
    <domain: "local", opset_import: ["" : 23]> Twice (u) => (v) { w = Add(u, u) v = Neg(w) }"""
    model = ir.from_proto(parser.parse_model(text))
    for number, node in enumerate(model.graph):
        metadata.set_scope(node, [metadata.ScopeEntry(f"call{number}", "Twice")])
        metadata.set_source_value(node.outputs[0], f"value{number}")
    before = model.clone(deep_copy=True)
    inlined = inline_functions(model)
    assert operators(inlined) == ["Add", "Neg", "Add", "Neg"]
    assert not inlined.functions
    scopes = [metadata.scope_path(metadata.scope_of(node) or ()) for node in inlined.graph]
    assert scopes == ["call0", "call0", "call1", "call1"]
    assert [metadata.source_value(node.outputs[0]) for node in inlined.graph][1::2] == ["value0", "value1"]
    assert_equivalent(before, inlined)


@pytest.mark.parametrize(
    ("constant", "expected"),
    [
        ("value_float=2.5", np.float32(2.5)),
        ("value_floats=[1.0, 2.0]", np.asarray([1, 2], np.float32)),
        ("value_int=7", np.int64(7)),
        ("value_ints=[1, 2]", np.asarray([1, 2], np.int64)),
        ("value = int32[2] {3, 4}", np.asarray([3, 4], np.int32)),
    ],
)
def test_constants_are_lifted_with_their_types(constant: str, expected: object) -> None:
    model = hub(
        f"(float[N] x) => (float y) {{ k = Constant <{constant}> () c = Cast <to=1> (k) y = Add(x, c) }}"
    )
    lifted = lift_constants(model)
    assert operators(lifted) == ["Cast", "Add"]
    tensor = lifted.graph.initializers["k"].const_value
    assert tensor is not None
    array = tensor.numpy()
    assert array.dtype == np.asarray(expected).dtype
    np.testing.assert_array_equal(array, expected)  # type: ignore[arg-type]


def test_weights_listed_as_inputs_are_no_inputs() -> None:
    model = hub(
        "(float[N,2] x, float[2,3] w) => (float[N,3] y) { y = MatMul(x, w) }", constants={"w": floats(2, 3)}
    )
    info = metadata.source_info(model)
    metadata.set_source_info(model, metadata.SourceInfo("onnx", "onnx", inputs=("x",), outputs=info.outputs))
    lifted = lift_constants(model)
    assert [value.name for value in lifted.graph.inputs] == ["x"]
    assert "w" in lifted.graph.initializers
