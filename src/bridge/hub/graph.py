"""Small helpers on onnx-ir graphs that passes, checks and writers share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import onnx
import onnx_ir as ir

from bridge.hub import metadata, recipe
from bridge.hub.recipe import Array

_LIGHT = 1024
"""Initializers above this many bytes are left out of a light proto."""


def light_proto(model: ir.Model) -> onnx.ModelProto:
    """The model as a protobuf in which large initializers are plain inputs.

    What ONNX's own C++ tools need to know about weights is their type and shape; without the bytes
    they work on models over 2 GB and copy nothing. Small initializers keep their values (targets of
    Reshape and the like). External data is not read unless it is small. bridge's own metadata stays out.
    The node at position i of `all_nodes` is named `node_name(i)`, so that a complaint of such a tool can
    be traced.
    """
    light = onnx.ModelProto(ir_version=model.ir_version)
    for domain, version in model.opset_imports.items():
        light.opset_import.add(domain=domain, version=version)
    for function in model.functions.values():
        ir.serde.serialize_function_into(light.functions.add(), function)
    _write_graph(light.graph, model.graph, itertools.count())
    return light


def _write_graph(proto: onnx.GraphProto, graph: ir.Graph, numbers: Iterator[int]) -> None:
    """Write a graph and the bodies in it; `numbers` are the positions of its nodes."""
    proto.name = graph.name or "graph"
    inputs = set(graph.inputs)
    outputs = set(graph.outputs)
    for value in graph.inputs:
        _write_value(proto.input.add(), value)
    for value in graph.initializers.values():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes <= _LIGHT:
            ir.serde.serialize_tensor_into(
                proto.initializer.add(),
                ir.tensor(tensor.numpy()) if isinstance(tensor, ir.ExternalTensor) else tensor,
            )
            proto.initializer[-1].name = str(value.name)
        elif value not in inputs:
            described = proto.input.add(name=str(value.name))
            ir.serde.serialize_type_into(described.type, value.type or ir.TensorType(tensor.dtype))
            ir.serde.serialize_shape_into(described.type, ir.Shape(tensor.shape.numpy()))
    for node in graph:
        written = proto.node.add(name=node_name(next(numbers)), op_type=node.op_type, domain=node.domain)
        written.overload = node.overload
        written.input.extend("" if value is None else str(value.name) for value in node.inputs)
        written.output.extend(value.name or "" for value in node.outputs)
        while written.output and not written.output[-1]:
            written.output.pop()
        for attribute_ in node.attributes.values():
            if attribute_.type == ir.AttributeType.GRAPH:
                body = written.attribute.add(name=attribute_.name, type=onnx.AttributeProto.GRAPH)
                _write_graph(body.g, attribute_.as_graph(), numbers)
            else:
                ir.serde.serialize_attribute_into(written.attribute.add(), attribute_)
        for value in node.outputs:
            if value not in outputs and value.name and value.type is not None:
                _write_value(proto.value_info.add(), value)
    for value in graph.outputs:
        _write_value(proto.output.add(), value)


def _write_value(proto: onnx.ValueInfoProto, value: ir.Value) -> None:
    proto.name = str(value.name)
    if value.type is not None:
        ir.serde.serialize_type_into(proto.type, value.type)
        if value.shape is not None:
            ir.serde.serialize_shape_into(proto.type, value.shape)


def node_name(position: int) -> str:
    """The name of a node in a light proto."""
    return f"bridge_node_{position}_"


def all_nodes(model: ir.Model) -> Iterator[ir.Node]:
    """Every node of the model in graph order, the bodies of If, Loop and Scan included."""
    return _nodes_of(model.graph)


def _nodes_of(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        yield node
        if len(node.attributes):
            for body in bodies(node):
                yield from _nodes_of(body)


def describe_node(node: ir.Node) -> str:
    """How an error message names a node: operator, name, and the module it came from where known."""
    operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    name = node.name or (node.outputs[0].name if node.outputs else None) or "?"
    scope = metadata.scope_of(node)
    place = f" in {metadata.scope_path(scope)}" if scope else ""
    return f"{operator} node {name!r}{place}"


def is_trained(value: ir.Value | None) -> bool:
    """Whether a value is an initializer that comes from the source's trained tensors."""
    return (
        value is not None
        and value.const_value is not None
        and (metadata.recipe_record(value) is not None or metadata.weight_info(value) is not None)
    )


def is_computed(value: ir.Value) -> bool:
    """Whether a trained tensor is not just moved from the source's tensors but computed from them."""
    record = metadata.recipe_record(value)
    return record is not None and not recipe.only_moves(recipe.from_json(record))


def constant(value: ir.Value | None) -> Array | None:
    """The values of a plain constant; None for anything computed, trained, absent or overridable."""
    if value is None or value.const_value is None or value.is_graph_input() or is_trained(value):
        return None
    return value.const_value.numpy()


def scalar(value: ir.Value | None) -> float | None:
    """The number in a plain constant of one element (of any rank); None for everything else."""
    array = constant(value)
    if array is None or array.size != 1 or array.dtype.kind in "USO":
        return None
    return float(array.reshape(-1)[0])


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """The elements of a plain constant of integers (a scalar gives one); None for everything else."""
    array = constant(value)
    if array is None or array.dtype.kind not in "iu":
        return None
    return tuple(int(each) for each in array.reshape(-1))


def attribute(node: ir.Node, name: str, default: object = None) -> object:
    """An attribute's value (lists as tuples) or the default."""
    found = node.attributes.get(name)
    if found is None:
        return default
    value = found.value
    return tuple(value) if isinstance(value, list | tuple) else value


def producer(value: ir.Value | None, *op_types: str) -> ir.Node | None:
    """The node of the standard domain that computes a value, if its operator is one of `op_types`.

    An Identity that stops gradients is none of them: what it returns is not its input where that is
    differentiated.
    """
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or node.op_type not in op_types:
        return None
    return None if node.op_type == "Identity" and metadata.stops_gradient(node) else node


def only_use(value: ir.Value) -> ir.Node | None:
    """The single node that reads a value once, if there is no other reader and it is no graph output."""
    uses = value.uses()
    if len(uses) != 1 or value.is_graph_output():
        return None
    return next(iter(uses)).node


def rank(value: ir.Value | None) -> int | None:
    return None if value is None or value.shape is None else len(value.shape)


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """The shape if every axis is a known number."""
    if value is None or value.shape is None:
        return None
    axes = tuple(axis for axis in value.shape if isinstance(axis, int))
    return axes if len(axes) == len(value.shape) else None


def common_scope(nodes: Iterable[ir.Node]) -> metadata.Scope | None:
    """The deepest module that contains all the nodes; None if the scope of none is known."""
    scopes = [scope for scope in map(metadata.scope_of, nodes) if scope is not None]
    if not scopes:
        return None
    shared: list[metadata.ScopeEntry] = []
    for entries in zip(*scopes, strict=False):
        if any(entry != entries[0] for entry in entries[1:]):
            break
        shared.append(entries[0])
    return tuple(shared)


def add_constant(graph: ir.Graph, array: Array, hint: str) -> ir.Value:
    """A new initializer with a plain constant; its name is made unique and given its final form by naming."""
    name = free_name(graph, hint)
    tensor = ir.tensor(array, name=name)
    value = ir.Value(
        name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old`, the graph's outputs included, read `new`.

    Where `old` is an output of the graph, `new` takes its name and its record, since the outputs' names
    are what users see.
    """
    if old.is_graph_output():
        name = old.name
        old.name = None
        new.name = name
    if metadata.source_value(old) is not None and (
        metadata.source_value(new) is None or new.is_graph_output() or old.is_graph_output()
    ):
        metadata.set_source_value(new, metadata.source_value(old))
        metadata.set_source_permutation(new, metadata.source_permutation(old))
    old.replace_all_uses_with(new, replace_graph_outputs=True)


def fuse(
    nodes: Sequence[ir.Node],
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, object] | None = None,
    *,
    domain: str = "",
) -> ir.Node:
    """Replace a group of nodes by one node that computes the same last value.

    `nodes` are in order, the last one's single output is what the new node yields: it keeps its
    name, type, shape and record. The new node takes the group's common scope and the last node's
    source location. Nodes of the group that others still read stay.
    """
    last = nodes[-1]
    graph = last.graph
    assert isinstance(graph, ir.Graph)
    node = ir.node(op_type, inputs, dict(attributes or {}), domain=domain)  # type: ignore[arg-type]
    metadata.set_scope(node, common_scope(nodes))
    metadata.set_location(node, metadata.location_of(last))
    node.name = last.name
    take_over(last.outputs[0], node.outputs[0])
    graph.insert_before(last, node)
    remove_unread(nodes)
    return node


def take_over(old: ir.Value, new: ir.Value) -> None:
    """Put a new value in the place of an old one that is going away: name, type, shape, record, readers."""
    name = old.name
    new.type, new.shape = old.type, old.shape
    new.metadata_props.update(old.metadata_props)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    old.name = None
    new.name = name


def remove_unread(nodes: Sequence[ir.Node]) -> None:
    """Remove those of the nodes whose outputs nobody reads, from the last to the first."""
    for node in reversed(nodes):
        if node.graph is not None and not any(
            output.uses() or output.is_graph_output() for output in node.outputs
        ):
            node.graph.remove(node, safe=True)


def bodies(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs inside a node: the branches of an If, the body of a Loop or Scan."""
    for each in node.attributes.values():
        if each.type == ir.AttributeType.GRAPH:
            yield each.as_graph()
        elif each.type == ir.AttributeType.GRAPHS:
            yield from each.as_graphs()


def free_name(graph: ir.Graph, base: str) -> str:
    """A name that no initializer of the graph has; naming gives initializers their final names."""
    name, number = base, 1
    while name in graph.initializers:
        number += 1
        name = f"{base}_{number}"
    return name


def replace_by_initializer(value: ir.Value, initializer: ir.Value) -> None:
    """Let the readers of a computed value read an initializer; a graph output reads it through Identity."""
    if not value.is_graph_output():
        value.replace_all_uses_with(initializer)
        return
    node = value.producer()
    assert node is not None
    assert isinstance(node.graph, ir.Graph)
    identity = ir.node("Identity", [initializer])
    identity.metadata_props.update(node.metadata_props)
    node.graph.insert_after(node, identity)
    take_over(value, identity.outputs[0])
