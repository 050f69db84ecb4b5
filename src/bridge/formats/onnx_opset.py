"""Bringing an ONNX file of any opset to the hub's."""

from __future__ import annotations

import onnx
import onnx.version_converter
import onnx_ir as ir
from onnxscript import version_converter

from bridge.errors import InputError, UnsupportedOp, UnsupportedOps
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET

_IR_CONVERTER_FROM = 18
"""From this opset on onnxscript's converter takes a model; ONNX's own brings older ones up to it."""

_SMALL = 1024
"""Initializers of at most so many bytes keep their values, which a version's adapter may have to read."""


def to_hub_opset(model: ir.Model, *, where: str) -> ir.Model:
    """The model at the hub's opset, its functions inlined. `where` names the file in errors.

    A newer model is taken only as far as every operator in it is declared as in the hub's opset.
    Raises UnsupportedOps for those that are not, InputError where an older model cannot be brought up.
    """
    version = model.graph.opset_imports.pop("ai.onnx", None) or model.graph.opset_imports.get("")
    if version is None:
        raise InputError(
            "the file does not say which opset it is written in",
            hint="set opset_import in the program that made it",
            where=where,
        )
    model.graph.opset_imports[""] = version
    if version > HUB_OPSET:
        _check_declared_alike(model, version)
        model.graph.opset_imports[""] = HUB_OPSET
        return model
    if version < _IR_CONVERTER_FROM:
        model = _convert_old(model, where)
    if model.graph.opset_imports[""] < HUB_OPSET:
        try:
            version_converter.convert_version(model, HUB_OPSET, fallback=False)
        except (RuntimeError, ValueError) as error:
            raise _refused(version, where, str(error)) from error
    if model.graph.opset_imports[""] != HUB_OPSET:
        raise _refused(version, where, "the converter left it unchanged")
    return model


def _refused(version: int, where: str, reason: str) -> InputError:
    first = reason.strip().splitlines()[0] if reason.strip() else "no reason given"
    return InputError(
        f"the model is of opset {version} and cannot be brought to opset {HUB_OPSET}: {first}",
        hint=f"export it again with opset {_IR_CONVERTER_FROM} or later",
        where=where,
    )


def _convert_old(model: ir.Model, where: str) -> ir.Model:
    """Up to the first opset of the second converter. Large weights stay out of the C++ code.

    They take part as inputs of the graph and become initializers again afterwards.
    """
    version = model.graph.opset_imports[""]
    inputs = {value.name for value in model.graph.inputs}
    tensors: dict[str | None, ir.TensorProtocol] = {}
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        tensors[name] = tensor
        value.type = value.type or ir.TensorType(tensor.dtype)
        value.shape = value.shape if value.shape is not None else ir.Shape(tensor.shape.numpy())
        if tensor.nbytes > _SMALL:
            value.const_value = None
            del model.graph.initializers[name]
        elif isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.tensor(tensor.numpy(), name=name)
        if not value.is_graph_input():
            model.graph.inputs.append(value)
    try:
        proto = onnx.version_converter.convert_version(ir.to_proto(model), _IR_CONVERTER_FROM)
    except (RuntimeError, onnx.version_converter.ConvertError) as error:
        raise _refused(version, where, str(error)) from error
    converted = ir.from_proto(proto)
    for value in list(converted.graph.inputs):
        if value.name in tensors:
            value.const_value = tensors[value.name]
            converted.graph.register_initializer(value)
            if value.name not in inputs:
                converted.graph.inputs.remove(value)
    return converted


def _check_declared_alike(model: ir.Model, version: int) -> None:
    """Whether what a newer model uses is what the hub's opset declares, more element types aside."""
    changed: dict[str, tuple[str, int]] = {}
    for node in all_nodes(model):
        if node.domain == "" and (reason := _difference(node, version)) is not None:
            changed[node.op_type] = (reason, changed.get(node.op_type, ("", 0))[1] + 1)
    if changed:
        raise UnsupportedOps(
            [UnsupportedOp(name, "", reason, count) for name, (reason, count) in changed.items()],
            target=f"opset {HUB_OPSET}",
            hint=f"export the model again with opset {HUB_OPSET} or earlier",
        )


def _difference(node: ir.Node, version: int) -> str | None:
    if not onnx.defs.has(node.op_type, version):
        return f"ONNX opset {version} has no such operator"
    if not onnx.defs.has(node.op_type, HUB_OPSET):
        return f"it is new since opset {HUB_OPSET}"
    newer = onnx.defs.get_schema(node.op_type, version)
    ours = onnx.defs.get_schema(node.op_type, HUB_OPSET)
    if newer.since_version == ours.since_version:
        return None
    if len(node.inputs) > ours.max_input or len(node.outputs) > ours.max_output:
        return f"it uses inputs or outputs that are new since opset {HUB_OPSET}"
    for name in set(node.attributes) | set(ours.attributes):
        if name in node.attributes and name not in ours.attributes:
            return f"its attribute {name} is new since opset {HUB_OPSET}"
        if name not in node.attributes and (
            name not in newer.attributes
            or newer.attributes[name].default_value != ours.attributes[name].default_value
        ):
            return f"its attribute {name} has changed since opset {HUB_OPSET}"
    return None
