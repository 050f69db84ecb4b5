"""Which cases a measurement does not count, computed from the cases themselves."""

from __future__ import annotations

from functools import cache

import onnx
from onnx import shape_inference

from scripts.onnx_suite.cases import SuiteCase

VALUES_DECIDE = "values decide the shape of an output"
AXIS_DECIDES = "values decide along which axis"


def not_deterministic_tensors(case: SuiteCase) -> str:
    """Why a case has no numbers to compare twice; empty if it has."""
    if case.is_random:
        return "random"
    return "" if case.kind in ("tensors", "training") else case.kind


def not_static(case: SuiteCase) -> str:
    """Why a case is not deterministic, on tensors, with output shapes that its input shapes decide."""
    excluded = not_deterministic_tensors(case)
    if excluded:
        return excluded
    if not shapes_decide(case.model):
        return VALUES_DECIDE
    return AXIS_DECIDES if values_decide_axis(case.model) else ""


def not_single_static(case: SuiteCase) -> str:
    """Why a case is not static (see `not_static`) with a single node."""
    return not_static(case) or ("" if case.is_single_node else "several nodes")


def shapes_decide(model: onnx.ModelProto) -> bool:
    """Whether ONNX's own shape inference gets the outputs' shapes from those of the inputs.

    What the model says of its outputs' shapes is not looked at. An operator for which ONNX has no
    inference counts as one whose shapes decide.
    """
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    for output in bare.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    if not all(map(_can_infer, {(node.op_type, node.domain) for node in bare.graph.node})):
        return True
    inferred = shape_inference.infer_shapes(bare, data_prop=True)
    return all(
        output.type.tensor_type.HasField("shape")
        and all(size.HasField("dim_value") for size in output.type.tensor_type.shape.dim)
        for output in inferred.graph.output
    )


def values_decide_axis(model: onnx.ModelProto) -> bool:
    """Whether an operator takes the axis that it works along from an input of the model."""
    fed = {each.name for each in model.graph.input}
    for node in model.graph.node:
        try:
            schema = onnx.defs.get_schema(node.op_type, node.domain)
        except onnx.defs.SchemaError:
            continue
        formal = [each.name for each in schema.inputs]
        if any(name == "axis" and given in fed for name, given in zip(formal, node.input, strict=False)):
            return True
    return False


@cache
def _can_infer(operator: tuple[str, str]) -> bool:
    name, domain = operator
    try:
        schema = onnx.defs.get_schema(name, domain)
    except onnx.defs.SchemaError:
        return True
    has_function: bool = schema.has_function  # type: ignore[attr-defined]  # its stubs lack it
    return has_function or schema.has_type_and_shape_inference_function
