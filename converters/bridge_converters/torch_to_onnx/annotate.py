"""From the exporter's graph to a hub graph: names, weights, scopes and locations."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from onnx_ir.passes.common import RemoveUnusedNodesPass
from torch import fx

from bridge.hub import metadata
from bridge.hub.graph import all_nodes
from bridge.hub.metadata import WeightInfo
from bridge_converters.torch_to_onnx.attention_dropout import ratio_of
from bridge_converters.torch_to_onnx.names import unique
from bridge_converters.torch_to_onnx.program import detached_marker
from bridge_converters.torch_to_onnx.scopes import scope_of_node
from bridge_converters.torch_to_onnx.user_code import location_of_node

_NAME_SCOPES = "pkg.torch.onnx.name_scopes"
_FX_NODE = "pkg.torch.onnx.fx_node"
_SYMBOL = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True)
class Interface:
    """What the user sees of a program: input and output names, and names of sizes by torch's symbol."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: Mapping[str, str | int]


def annotate(
    model: ir.Model,
    nodes: Iterable[fx.Node],
    *,
    interface: Interface,
    weights: Mapping[str, WeightInfo],
    module_types: Mapping[str, str],
) -> None:
    """Turn the exporter's model into a hub model, in place.

    `nodes` are those of the decomposed program that was translated, subgraphs included; `weights` the
    records of its tensors by path.
    """
    _record_origins(model, nodes, module_types)
    _drop_unused_masks(model)
    RemoveUnusedNodesPass()(model)
    _separate_outputs(model.graph)
    _name_weights(model.graph, weights)
    _name_interface(model.graph, interface)
    _make_names_unique(model.graph)
    _name_axes(model, interface.axes)
    _drop_exporter_metadata(model)


def _record_origins(model: ir.Model, nodes: Iterable[fx.Node], module_types: Mapping[str, str]) -> None:
    by_text: dict[tuple[str, str | None], fx.Node] = {}
    by_name: dict[str, fx.Node] = {}
    for node in nodes:
        by_text.setdefault((node.name, node.format_node()), node)
        by_name.setdefault(node.name, node)
    for onnx_node in all_nodes(model):
        props = onnx_node.metadata_props
        if _NAME_SCOPES not in props:
            continue
        name = ast.literal_eval(props[_NAME_SCOPES])[-1]
        source = by_text.get((name, props.get(_FX_NODE))) or by_name.get(name)
        if source is None:
            continue
        metadata.set_scope(onnx_node, scope_of_node(source, module_types))
        metadata.set_location(onnx_node, location_of_node(source))
        if onnx_node.op_type == "Attention" and ratio_of(source):
            metadata.set_attention_dropout(onnx_node, ratio_of(source))
        if onnx_node.op_type == "Gather" and source.target is torch.ops.aten.embedding.default:
            metadata.set_held_row(onnx_node, _padding_row(source))
        if onnx_node.op_type == "Identity" and source.target is detached_marker():
            metadata.set_stops_gradient(onnx_node, True)
        for output in onnx_node.outputs:
            if output.name in by_name and isinstance(by_name[output.name].meta.get("val"), torch.Tensor):
                metadata.set_source_value(output, output.name)
    for value in model.graph.inputs:
        metadata.set_source_value(value, value.name)


def _padding_row(embedding: fx.Node) -> int | None:
    """`padding_idx`, whose row takes no gradient; -1 stands for none."""
    row = embedding.args[2] if len(embedding.args) > 2 else embedding.kwargs.get("padding_idx", -1)
    return row if isinstance(row, int) and row >= 0 else None


def _drop_unused_masks(model: ir.Model) -> None:
    """Leave Dropout with the one output that is used; the mask is an output only in training."""
    for node in all_nodes(model):
        if node.op_type == "Dropout" and len(node.outputs) > 1 and not node.outputs[1].uses():
            node.resize_outputs(1)


def _separate_outputs(graph: ir.Graph) -> None:
    """Give every output a value of its own: one that is an input, a weight or another output is copied."""
    seen: set[int] = set()
    for position, value in enumerate(graph.outputs):
        if value.producer() is None or id(value) in seen:
            copy = ir.node("Identity", [value])
            metadata.set_scope(copy, ())
            (output,) = copy.outputs
            output.name = unique(f"{value.name}_output", _value_names(graph))
            output.type, output.shape = value.type, value.shape
            graph.append(copy)
            graph.outputs[position] = output
        seen.add(id(graph.outputs[position]))


def _name_weights(graph: ir.Graph, weights: Mapping[str, WeightInfo]) -> None:
    for name, value in list(graph.initializers.items()):
        record = weights.get(name)
        if record is None:
            continue
        metadata.set_weight_info(value, record)
        if record.path == name:
            continue
        twin = graph.initializers.get(record.path)
        if twin is not None:
            value.replace_all_uses_with(twin)
            del graph.initializers[name]
        else:
            _rename(graph, value, record.path)
    order = {path: number for number, path in enumerate(weights)}

    def position(value: ir.Value) -> int:
        info = metadata.weight_info(value)
        return len(order) if info is None else order[info.path]

    ordered = sorted(graph.initializers.values(), key=position)
    graph.initializers.clear()
    for value in ordered:
        graph.initializers.add(value)


def _name_interface(graph: ir.Graph, interface: Interface) -> None:
    for values, names in ((graph.inputs, interface.inputs), (graph.outputs, interface.outputs)):
        for value, name in zip(values, names, strict=True):
            _rename(graph, value, name)


def _rename(graph: ir.Graph, value: ir.Value, name: str) -> None:
    """Give a value a name; any other value of that name makes way."""
    if value.name == name:
        return
    values = _values(graph)
    for other in values:
        if other.name == name:
            _set_name(graph, other, unique(f"{name}_value", (each.name or "" for each in values)))
    _set_name(graph, value, name)


def _make_names_unique(graph: ir.Graph) -> None:
    """Resolve clashes of a parameter's path with a node's output or an input: inputs and outputs come first.

    A weight that makes way keeps its path in its record.
    """
    names = set(_value_names(graph))
    owners: dict[str, ir.Value] = {}
    for value in [*graph.inputs, *graph.outputs, *_values(graph)]:
        name = value.name or ""
        if owners.setdefault(name, value) is not value:
            new = unique(f"{name}_value", names)
            names.add(new)
            _set_name(graph, value, new)


def _set_name(graph: ir.Graph, value: ir.Value, name: str) -> None:
    if value.is_initializer():
        assert value.name is not None
        del graph.initializers[value.name]
        value.name = name
        graph.initializers.add(value)
    else:
        value.name = name


def _values(graph: ir.Graph) -> list[ir.Value]:
    found = [*graph.inputs, *graph.initializers.values()]
    for node in ir.traversal.RecursiveGraphIterator(graph):
        found.extend(node.outputs)
    return found


def _value_names(graph: ir.Graph) -> list[str]:
    return [value.name or "" for value in _values(graph)]


def _name_axes(model: ir.Model, axes: Mapping[str, str | int]) -> None:
    for value in _values(model.graph):
        if value.shape is not None:
            value.shape = ir.Shape([_axis(size, axes) for size in value.shape])


def _axis(size: int | ir.SymbolicDim, axes: Mapping[str, str | int]) -> int | str | None:
    """A size with torch's symbols replaced, alone or in an expression such as `2*s40 + 1`."""
    if isinstance(size, int) or size.value is None:
        return size if isinstance(size, int) else None
    text = _SYMBOL.sub(lambda match: str(axes.get(match[0], match[0])), size.value)
    return int(text) if text.isdigit() else text


def _drop_exporter_metadata(model: ir.Model) -> None:
    """Remove what the exporter noted: it holds absolute paths, and bridge's own records replace it."""
    holders: list[ir.Model | ir.Graph | ir.Node | ir.Value] = [model, model.graph, *_values(model.graph)]
    holders.extend(all_nodes(model))
    for holder in holders:
        for key in [key for key in holder.metadata_props if not key.startswith("bridge.")]:
            del holder.metadata_props[key]
