"""Graphs newer than the hub's opset: labelled with the lowest opset that says the same of their nodes."""

from __future__ import annotations

from collections.abc import Callable

import onnx
import onnx_ir as ir

from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET, hub_ir_version

_FLOAT8 = frozenset({"tensor(float8e4m3fn)", "tensor(float8e4m3fnuz)", "tensor(float8e5m2)"}) | frozenset(
    {"tensor(float8e5m2fnuz)", "tensor(float8e8m0)"}
)


def take_lowest_opset(model: ir.Model) -> ir.Model:
    """Relabel a graph of an opset above 23 as the lowest one, from 23 up, that declares its nodes alike.

    Most new versions only widen the element types; a node whose attributes, inputs or types are new, or
    whose meaning changed, keeps the opset where it is. Types must be inferred. Graphs of opset 23 are
    left alone.
    """
    version = model.graph.opset_imports.get("", HUB_OPSET)
    if version > HUB_OPSET:
        nodes = [node for node in all_nodes(model) if node.domain == ""]
        model.graph.opset_imports[""] = next(
            lower
            for lower in range(HUB_OPSET, version + 1)
            if all(_means_the_same(node, version, lower) for node in nodes)
        )
    model.ir_version = hub_ir_version(model.graph.opset_imports)
    return model


def _means_the_same(node: ir.Node, version: int, lower: int) -> bool:
    if not onnx.defs.has(node.op_type, lower):
        return False
    ours, newer = onnx.defs.get_schema(node.op_type, lower), onnx.defs.get_schema(node.op_type, version)
    steps = _steps(node.op_type, ours.since_version, newer.since_version)
    return (
        all(_same_meaning(node, step) for step in steps)
        and _declares_inputs(node, ours)
        and _declares_attributes(node, ours, newer)
        if steps
        else True
    )


def keeps_meaning(node: ir.Node, version: int, newer: int) -> bool:
    """Whether a node of one opset, from 23 up, means the same in a newer one."""
    if not onnx.defs.has(node.op_type, newer):
        return False
    before, after = onnx.defs.get_schema(node.op_type, version), onnx.defs.get_schema(node.op_type, newer)
    steps = _steps(node.op_type, before.since_version, after.since_version)
    return all(_same_meaning(node, step) for step in steps) and (
        not steps or _declares_attributes(node, after, before)
    )


def _steps(op_type: str, above: int, upto: int) -> list[int]:
    """The versions of an operator after one and up to another."""
    found = []
    while upto > above:
        found.append(upto)
        upto = onnx.defs.get_schema(op_type, upto - 1).since_version
    return found


def _same_meaning(node: ir.Node, step: int) -> bool:
    rule = NEWER.get((node.op_type, step), _never)
    return rule(node)


def _declares_inputs(node: ir.Node, schema: onnx.defs.OpSchema) -> bool:
    if len(node.inputs) > schema.max_input or len(node.outputs) > schema.max_output:
        return False
    types = {each.type_param_str: frozenset(each.allowed_type_strs) for each in schema.type_constraints}
    for values, formals in ((node.inputs, schema.inputs), (node.outputs, schema.outputs)):
        for position, value in enumerate(values):
            formal = formals[min(position, len(formals) - 1)]
            allowed = types.get(formal.type_str, frozenset({formal.type_str}))
            if value is not None and type_text(value.type) not in allowed:
                return False
    return True


def _declares_attributes(node: ir.Node, ours: onnx.defs.OpSchema, newer: onnx.defs.OpSchema) -> bool:
    """Whether the attributes that are set are known, and the others have the same default."""
    if any(name not in ours.attributes for name in node.attributes):
        return False
    return all(
        name in node.attributes
        or (name in newer.attributes and newer.attributes[name].default_value == attribute.default_value)
        for name, attribute in ours.attributes.items()
    )


def type_text(kind: ir.TypeProtocol | None) -> str:
    """A type as the schemas write it, `seq(tensor(float))`; empty where it is unknown."""
    if isinstance(kind, ir.TensorType):
        return f"tensor({_element(kind.dtype)})"
    if isinstance(kind, ir.SparseTensorType):
        return f"sparse_tensor({_element(kind.dtype)})"
    if isinstance(kind, ir.SequenceType):
        return f"seq({type_text(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_text(kind.elem_type)})"
    return ""


def _element(dtype: ir.DataType) -> str:
    return str(onnx.TensorProto.DataType.Name(dtype.value)).lower()


def _always(node: ir.Node) -> bool:
    return True


def _never(node: ir.Node) -> bool:
    return False


def _without_float8(node: ir.Node) -> bool:
    """Infinities become other numbers of 8 bits since opset 24."""
    return not any(
        type_text(value.type) in _FLOAT8 for value in (*node.inputs, *node.outputs) if value is not None
    )


def _remainder_of_integers(node: ir.Node) -> bool:
    """Before opset 28 the sign of the divisor (fmod=0) is for integers only."""
    first = node.inputs[0]
    dtype = None if first is None else first.dtype
    return bool(node.attributes.get_int("fmod", 0)) or (dtype is not None and dtype.is_integer())


NEWER: dict[tuple[str, int], Callable[[ir.Node], bool]] = {
    ("Attention", 24): _never,
    ("Attention", 25): _never,
    ("BitShift", 28): _always,
    ("Cast", 24): _without_float8,
    ("Cast", 25): _always,
    ("Cast", 28): _without_float8,
    ("CastLike", 24): _without_float8,
    ("CastLike", 25): _always,
    ("Celu", 28): _always,
    ("Compress", 28): _always,
    ("Constant", 24): _always,
    ("Constant", 25): _always,
    ("ConstantOfShape", 24): _always,
    ("ConstantOfShape", 25): _always,
    ("DepthToSpace", 28): _always,
    ("DequantizeLinear", 24): _always,
    ("DequantizeLinear", 25): _always,
    ("DequantizeLinear", 28): _always,
    ("Einsum", 28): _always,
    ("Flatten", 24): _always,
    ("Flatten", 25): _always,
    ("Identity", 24): _always,
    ("Identity", 25): _always,
    ("If", 24): _always,
    ("If", 25): _always,
    ("Loop", 24): _always,
    ("Loop", 25): _always,
    ("Mod", 28): _remainder_of_integers,
    ("OneHot", 28): _always,
    ("Optional", 28): _always,
    ("OptionalGetElement", 28): _always,
    ("OptionalHasElement", 28): _always,
    ("Pad", 24): _always,
    ("Pad", 25): _always,
    ("QuantizeLinear", 24): _without_float8,
    ("QuantizeLinear", 25): _always,
    ("QuantizeLinear", 28): _always,
    ("Range", 27): _always,
    ("ReduceLogSum", 28): _always,
    ("ReduceLogSumExp", 28): _always,
    ("Reshape", 24): _always,
    ("Reshape", 25): _always,
    ("ReverseSequence", 28): _always,
    ("Scan", 24): _always,
    ("Scan", 25): _always,
    ("Shape", 24): _always,
    ("Shape", 25): _always,
    ("Size", 24): _always,
    ("Size", 25): _always,
    ("SpaceToDepth", 28): _always,
    ("SplitToSequence", 24): _always,
    ("Squeeze", 24): _always,
    ("Squeeze", 25): _always,
    ("TopK", 24): _always,
    ("Transpose", 24): _always,
    ("Transpose", 25): _always,
    ("Unique", 28): _always,
    ("Unsqueeze", 24): _always,
    ("Unsqueeze", 25): _always,
}
"""Each version of an operator above the hub's opset, and whether a node of it means the same in the one
before, as far as that one declares its types and attributes. A version that is not listed does not."""
