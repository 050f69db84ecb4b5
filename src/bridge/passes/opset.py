"""Bring a model to the hub's opset."""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir
from onnxscript import version_converter

from bridge.errors import BridgeError, InputError
from bridge.hub import metadata
from bridge.hub.graph import all_nodes, describe_node, light_proto, node_name, static_shape
from bridge.hub.opset import HUB_OPSET, hub_ir_version

_SCRIPT_FROM = 18
"""onnxscript's converter covers opsets from here up; older models go through ONNX's own first."""


def to_hub_opset(model: ir.Model) -> ir.Model:
    """The same model in opset 23 or, if it is of a newer one, in its own; with all metadata.

    Raises InputError where ONNX has no rule that carries a node over: a body of one version is never
    run on a node of another.
    """
    version = model.graph.opset_imports.get("", HUB_OPSET)
    if version < _SCRIPT_FROM:
        _refuse_batched_scan(model, version)
        model = _convert_with_onnx(model, version)
    if model.graph.opset_imports.get("", HUB_OPSET) < HUB_OPSET:
        _convert_with_onnxscript(model)
    model.graph.opset_imports[""] = max(version, HUB_OPSET)
    model.ir_version = hub_ir_version(model.graph.opset_imports)
    for node in all_nodes(model):
        node.version = None
        _write_defaults(node, model.graph.opset_imports[""])
    return model


def _write_defaults(node: ir.Node, version: int) -> None:
    """Say the default axes where ONNX defines the operator by a function: its inference misses them there."""
    if node.domain == "" and node.op_type == "MeanVarianceNormalization" and "axes" not in node.attributes:
        default = onnx.defs.get_schema(node.op_type, version).attributes["axes"].default_value
        node.attributes["axes"] = ir.serde.deserialize_attribute(default)


def _convert_with_onnxscript(model: ir.Model) -> None:
    """Opsets 18 to 22, in place. The converter only logs some failures, so they are asserted."""
    groups = [node for node in all_nodes(model) if node.op_type == "GroupNormalization" and not node.domain]
    logger = logging.getLogger("onnxscript.version_converter")
    before, logger.disabled = logger.disabled, True
    try:
        version_converter.convert_version(model, target_version=HUB_OPSET)
    finally:
        logger.disabled = before
    if model.graph.opset_imports[""] != HUB_OPSET:
        raise BridgeError(f"the model could not be converted to opset {HUB_OPSET}")
    for node in groups or ():
        if node.graph is not None:
            _require_per_channel_scale(node)


def _require_per_channel_scale(node: ir.Node) -> None:
    """Before opset 21 the scale of GroupNormalization was per group; an unconverted node would be wrong."""
    data, scale = static_shape(node.inputs[1]), node.inputs[0].shape if node.inputs[0] else None
    if data is None or scale is None or data[0] != scale[1]:
        raise InputError(
            "a GroupNormalization before opset 21 has scales per group and an unknown number of channels",
            where=describe_node(node),
            hint="export the model with opset 21 or newer, or with a static number of channels",
        )


def _refuse_batched_scan(model: ir.Model, version: int) -> None:
    """Scan had a batch axis in opset 8; ONNX's converter takes it for the later operator without."""
    scan = next((node for node in all_nodes(model) if node.op_type == "Scan" and node.domain == ""), None)
    if version < 9 and scan is not None:
        raise InputError(
            "Scan of opset 8 cannot be converted",
            where=describe_node(scan),
            hint="export the model again with opset 9 or newer",
        )


def _convert_with_onnx(model: ir.Model, version: int) -> ir.Model:
    """Through the C++ converter, which drops metadata: nodes and values are matched by name to restore it."""
    originals = list(all_nodes(model))
    proto = light_proto(model)
    try:
        converted = ir.from_proto(onnx.version_converter.convert_version(proto, _SCRIPT_FROM))
    except (RuntimeError, onnx.version_converter.ConvertError, ValueError) as error:
        raise InputError(
            f"ONNX opset {version} cannot be converted to {HUB_OPSET}: {_first_line(error)}",
            hint=f"export the model again with an opset from {_SCRIPT_FROM} to {HUB_OPSET}",
        ) from error
    if converted.graph.opset_imports.get("") != _SCRIPT_FROM:
        raise InputError(f"the model is in ONNX opset {version} and cannot be converted to {HUB_OPSET}")
    _restore_values(model, converted)
    _restore_nodes(originals, converted)
    converted.metadata_props.update(model.metadata_props)
    converted.producer_name, converted.producer_version = model.producer_name, model.producer_version
    return converted


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _restore_values(model: ir.Model, converted: ir.Model) -> None:
    """Give inputs, weights and values their records back, and the weights their data."""
    graph = converted.graph
    user_inputs = {value.name for value in model.graph.inputs}
    by_name = {str(value.name): value for value in graph.inputs}
    for name, original in model.graph.initializers.items():
        value = graph.initializers.get(name) or by_name.get(name)
        if value is None:
            continue
        value.const_value = original.const_value
        if name not in graph.initializers:
            graph.register_initializer(value)
    kept = [value for value in graph.inputs if value.name in user_inputs]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    records: dict[str, ir.Value] = {str(value.name): value for value in model.graph.inputs}
    records.update(model.graph.initializers.items())
    for node in all_nodes(model):
        records.update((str(value.name), value) for value in node.outputs)
    for value in [*graph.inputs, *graph.initializers.values(), *_outputs(converted)]:
        original_value = records.get(str(value.name))
        if original_value is not None:
            value.type, value.shape = original_value.type, original_value.shape
            value.metadata_props.update(original_value.metadata_props)


def _outputs(model: ir.Model) -> list[ir.Value]:
    return [value for node in all_nodes(model) for value in node.outputs]


def _restore_nodes(originals: list[ir.Node], converted: ir.Model) -> None:
    """Nodes keep their records; nodes that an adapter put before a node take that node's module and line."""
    positions = {node_name(position): original for position, original in enumerate(originals)}
    waiting: list[ir.Node] = []
    for node in all_nodes(converted):
        original = positions.get(node.name or "")
        if original is None:
            waiting.append(node)
            continue
        node.name = original.name
        node.metadata_props.update(original.metadata_props)
        for helper in waiting:
            metadata.set_scope(helper, metadata.scope_of(original))
            metadata.set_location(helper, metadata.location_of(original))
        waiting.clear()
