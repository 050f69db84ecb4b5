"""Results of onnxruntime's own operators have types and shapes."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx import parser

from bridge.hub.check import check_model
from bridge.passes.shapes import infer_shapes


def contrib(text: str) -> ir.Model:
    return ir.from_proto(
        parser.parse_model(f'<ir_version: 10, opset_import: ["" : 23, "com.microsoft" : 1]>\ng {text}')
    )


def described(value: ir.Value) -> str:
    return f"{value.dtype}{value.shape}"


def test_shapes_go_through_operators_of_both_kinds() -> None:
    model = contrib(
        "(float[N,4,8] x) => (float[N,A,B] y) { h = Relu(x) a = com.microsoft.FusedMatMul <transB=1> (h, h)"
        " b = com.microsoft.Gelu (a) y = Transpose <perm=[0,2,1]> (b) }"
    )
    check_model(infer_shapes(model), stage="in a test")
    assert [described(node.outputs[0]) for node in model.graph] == [
        "FLOAT[N,4,8]",
        "FLOAT[N,4,4]",
        "FLOAT[N,4,4]",
        "FLOAT[N,4,4]",
    ]


def test_types_follow_from_the_schema_where_the_runtime_has_no_kernel() -> None:
    model = contrib("(bfloat16[N,4] x) => (bfloat16[N,A] y) { h = com.microsoft.QuickGelu (x) y = Neg (h) }")
    check_model(infer_shapes(model), stage="in a test")
    assert model.graph[0].outputs[0].dtype == ir.DataType.BFLOAT16


def test_types_inside_bodies() -> None:
    model = contrib(
        "(bool c, float[N] x) => (float[N] y) {"
        " y = If(c) <then_branch = t () => (float[N] z) { g = com.microsoft.Gelu (x) z = Neg (g) },"
        " else_branch = e () => (float[N] z) { z = Neg(x) }> }"
    )
    check_model(infer_shapes(model), stage="in a test")
    (branch, _) = (model.graph[0].attributes[name].as_graph() for name in ("then_branch", "else_branch"))
    assert branch[0].outputs[0].dtype == ir.DataType.FLOAT


@pytest.mark.parametrize("operator", ["Gelu", "QuickGelu"])
def test_symbols_are_those_of_the_inputs(operator: str) -> None:
    model = contrib(f"(float[batch,4] x) => (float[K,M] y) {{ y = com.microsoft.{operator} (x) }}")
    infer_shapes(model)
    assert described(model.graph.outputs[0]) == "FLOAT[batch,4]"
