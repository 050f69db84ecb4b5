"""check_model accepts valid graphs and names the fault of invalid ones."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx import parser

from bridge.errors import BridgeError, UnsupportedOps
from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.hub.metadata import ScopeEntry


def graph(text: str) -> ir.Model:
    header = '<ir_version: 10, opset_import: ["" : 23, "foo" : 1]>\n'
    return ir.from_proto(parser.parse_model(header + "agraph " + text))


def test_valid_graph_passes_and_is_unchanged() -> None:
    model = graph("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    check_model(model, stage="after reading")
    assert not model.graph[0].name
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_weights_are_checked_by_shape_without_their_bytes() -> None:
    def never() -> ir.Tensor:
        raise AssertionError("the weight was read")

    model = graph("(float[N,3] x) => (float[N,3] y) { y = Identity(x) }")
    (node,) = model.graph
    weight = ir.Value(
        name="w",
        const_value=ir.LazyTensor(never, dtype=ir.DataType.FLOAT, shape=ir.Shape([3, 2000])),
    )
    model.graph.register_initializer(weight)
    product = ir.node("MatMul", [node.inputs[0], weight])
    product.outputs[0].name = "p"
    product.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    product.outputs[0].shape = ir.Shape(["N", 2000])
    model.graph.append(product)
    model.graph.outputs[0] = product.outputs[0]
    check_model(model, stage="after reading")
    assert model.graph.initializers["w"] is weight
    assert weight.const_value is not None
    assert weight.shape is None


def test_standard_operator_that_does_not_exist() -> None:
    model = graph("(float[N,3] x) => (float[N,3] y) { y = Erfc(x) }")
    metadata.set_scope(model.graph[0], [ScopeEntry("act", "Erfc")])
    with pytest.raises(UnsupportedOps, match=r"Erfc x1 in act: ONNX opset 23 has no such operator") as caught:
        check_model(model, stage="after reading")
    assert [op.op_type for op in caught.value.ops] == ["Erfc"]


def test_every_foreign_operator_is_listed_at_once() -> None:
    model = graph("(float[N] x) => (float[N] y) { a = foo.Bar(x) b = foo.Bar(a) y = foo.Baz(b) }")
    with pytest.raises(UnsupportedOps) as caught:
        check_model(model, stage="after reading")
    assert [(op.domain, op.op_type, op.count) for op in caught.value.ops] == [
        ("foo", "Bar", 2),
        ("foo", "Baz", 1),
    ]
    assert caught.value.hint is not None
    assert "--custom-objects" in caught.value.hint


def test_foreign_operator_inside_a_body_is_found() -> None:
    model = graph(
        "(bool c, float[N] x) => (float[N] y) {"
        " y = If(c) <then_branch = t () => (float[N] z) { z = foo.Bar(x) },"
        " else_branch = e () => (float[N] z) { z = Neg(x) }> }"
    )
    with pytest.raises(UnsupportedOps, match="foo::Bar"):
        check_model(model, stage="after reading")


def test_function_of_the_model_is_no_foreign_operator() -> None:
    text = '<ir_version: 10, opset_import: ["" : 23, "foo" : 1]>'
    text += "agraph (float[N] x) => (float[N] y) { y = foo.Twice(x) }"
    text += '<domain: "foo", opset_import: ["" : 23]> Twice (a) => (b) { b = Add(a, a) }'
    check_model(ir.from_proto(parser.parse_model(text)), stage="after reading")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        (
            "(float[N,3] x) => (float[N,3] y) { y = Relu(z) }",
            "Relu node 'y'",
            "nothing computes the value 'z'",
        ),
        ("(float[N,3] x) => (float[N,3] y) { y = Reshape(x, x) }", "Reshape node 'y'", "1D tensor"),
        ("(float[N,3] x) => (float[N,3] y) { y = Concat(x, x) }", "Concat node 'y'", "'axis' is missing"),
        (
            "(float[N,3] x) => (float[N,4] y) { h = Neg(x) y = Relu(h) }",
            "Relu node 'y'",
            "differ in dimension 1",
        ),
        (
            "(float[N,3,3,3] x, double[3,3,1,1] w) => (float[N,3,3,3] y) { y = Conv(x, w) }",
            "Conv node 'y'",
            "inconsistent type",
        ),
    ],
)
def test_fault_names_the_node(text: str, where: str, message: str) -> None:
    with pytest.raises(BridgeError, match=message) as caught:
        check_model(graph(text), stage="after reading")
    assert caught.value.where == where
    assert "after reading" in caught.value.message
    assert "bridge_node_" not in str(caught.value)


def test_type_without_a_kernel_is_not_a_fault() -> None:
    text = "(double[N,3,3,3] x, double[3,3,1,1] w) => (double[N,3,3,3] y) { y = Conv(x, w) }"
    check_model(graph(text), stage="after reading")


def test_small_external_data_is_read_large_is_not() -> None:
    model = graph("(float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    small = ir.tensor(np.zeros(3, np.float32), name="s")
    model.graph.register_initializer(ir.Value(name="s", const_value=small))
    model.graph.register_initializer(
        ir.Value(
            name="big",
            const_value=ir.ExternalTensor(
                "missing.bin", 0, 4000, ir.DataType.FLOAT, shape=ir.Shape([1000]), name="big"
            ),
        )
    )
    check_model(model, stage="after reading")
