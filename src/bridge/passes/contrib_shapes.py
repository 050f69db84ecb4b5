"""Types and shapes of what onnxruntime's own operators compute, asked of onnxruntime."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    NotImplemented,
    RuntimeException,
)

from bridge.hub.graph import all_nodes, light_proto
from bridge.hub.schemas import CONTRIB, schema

_REFUSALS = (Fail, InvalidArgument, InvalidGraph, NotImplemented, RuntimeException)


def infer_contrib_shapes(model: ir.Model) -> None:
    """Set the types and shapes of the results of com.microsoft operators, which ONNX does not know.

    onnxruntime infers them while it loads the graph. Where it cannot load it, the element types follow
    from the operators' schemas, as far as the types of the inputs are known, and the shapes stay unknown.
    """
    nodes = [node for node in all_nodes(model) if node.domain == CONTRIB]
    if not nodes:
        return
    found = _asked_of_runtime(model, nodes)
    for node in nodes:
        for position, output in enumerate(node.outputs):
            if output.name in found:
                output.type, output.shape = found[output.name]
            elif output.type is None and output.name:
                output.type = _type_by_schema(node, position)


def _asked_of_runtime(
    model: ir.Model, nodes: list[ir.Node]
) -> dict[str, tuple[ir.TensorType, ir.Shape | None]]:
    proto = light_proto(model)
    given = {each.name for each in proto.graph.output}
    names = [
        output.name
        for node in nodes
        if node.graph is model.graph
        for output in node.outputs
        if output.name and output.name not in given
    ]
    for name in names:
        proto.graph.output.add().name = name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except _REFUSALS:
        return {}
    own = {
        axis.value
        for value in model.graph.inputs
        for axis in value.shape or ()
        if isinstance(axis, ir.SymbolicDim)
    }
    return {each.name: (_tensor_type(each.type), _shape(each.shape, own)) for each in session.get_outputs()}


def _tensor_type(text: str) -> ir.TensorType:
    name = text.removeprefix("tensor(").removesuffix(")").upper()
    return ir.TensorType(ir.DataType(onnx.TensorProto.DataType.Value(name)))


def _shape(axes: list[int | str | None], own: set[str | None]) -> ir.Shape:
    return ir.Shape([axis if isinstance(axis, int) or axis in own else None for axis in axes])


def _type_by_schema(node: ir.Node, position: int) -> ir.TensorType | None:
    """The type that an output shares with an input, or the only one that it can have."""
    found = schema(node.op_type, node.domain, 1)
    formals = [] if found is None else found.outputs
    if position >= len(formals):
        return None
    letter = formals[position].typeStr
    for formal, value in zip(found.inputs, node.inputs, strict=False):
        if formal.typeStr == letter and value is not None and isinstance(value.type, ir.TensorType):
            return value.type
    allowed = [each.allowed_type_strs for each in found.type_constraints if each.type_param_str == letter]
    only = allowed[0] if allowed else [letter]
    return _tensor_type(only[0]) if len(only) == 1 else None
