"""The graph as this pass sees it: transposes are views, and every other node reads and makes base values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import onnx_ir as ir

from bridge.hub.metadata import Layout
from bridge.hub.recipe import Array
from bridge.passes.layout.operators import relation_of, strict
from bridge.passes.layout.relations import Fixed, Label, Passing, Relation
from bridge.passes.layout.storage import Dim, Dims, plain

IoLayout = Literal["source", "native"]


class View(NamedTuple):
    """A value as `transpose(base, perm)`; `perm` is None where the value is the base itself."""

    base: ir.Value
    perm: tuple[int, ...] | None


@dataclass
class Site:
    """A place where storages are chosen: a node, a graph input or a graph output.

    `operands` are the values it reads, `results` those it makes, in the order of its labels.
    """

    relation: Relation
    operands: tuple[ir.Value, ...]
    results: tuple[ir.Value, ...]
    node: ir.Node | None = None
    captured: tuple[ir.Value, ...] = ()
    output_index: int | None = None
    label: Label | None = None


@dataclass
class LayoutGraph:
    """A graph with its views, constants and sites; `sites` follow the order of nodes, outputs come last."""

    graph: ir.Graph
    sites: list[Site] = field(default_factory=list)
    _views: dict[ir.Value, View] = field(default_factory=dict)
    _dims: dict[ir.Value, Dims | None] = field(default_factory=dict)
    _constants: dict[ir.Value, ir.TensorProtocol | None] = field(default_factory=dict)
    _captures: dict[ir.Value, int] = field(default_factory=dict)

    @property
    def has_sensitive_nodes(self) -> bool:
        """Whether any node must compute in the native layout."""
        return any(isinstance(site.relation, Fixed) and site.relation.layout for site in self.sites)

    def dims(self, value: ir.Value) -> Dims | None:
        """The hub's dimensions; None if the rank is unknown. They stay known while the graph is rewritten."""
        if value not in self._dims:
            self._dims[value] = self._read_dims(value)
        return self._dims[value]

    def _read_dims(self, value: ir.Value) -> Dims | None:
        tensor = self._tensor(value)
        shape = tensor.shape if tensor is not None else value.shape
        if shape is None:
            return None
        unnamed = f"?{len(self._dims)}"
        return tuple(_dim(dim, f"{unnamed}.{axis}") for axis, dim in enumerate(shape))

    def constant(self, value: ir.Value) -> Array | None:
        """The values of an initializer or Constant, or of a view of one; None for anything computed."""
        base, perm = self.view(value)
        tensor = self._tensor(base)
        if tensor is None:
            return None
        return tensor.numpy() if perm is None else tensor.numpy().transpose(perm)

    def is_constant(self, value: ir.Value) -> bool:
        """Whether a value is an initializer, a Constant or a view of one."""
        return self._tensor(self.view(value).base) is not None

    def _tensor(self, value: ir.Value) -> ir.TensorProtocol | None:
        if value not in self._constants:
            self._constants[value] = (
                None if value.is_graph_input() else ir.convenience.get_const_tensor(value)
            )
        return self._constants[value]

    def use_count(self, value: ir.Value) -> int:
        """How many node inputs, graph outputs and subgraphs use a value."""
        return len(value.uses()) + int(value.is_graph_output())

    def view(self, value: ir.Value) -> View:
        """A value as a transposed base value."""
        return self._views.get(value) or View(value, None)

    def add_view(self, node: ir.Node) -> bool:
        """Register a Transpose as a view; False if its permutation is unknown."""
        source = node.inputs[0]
        if source is None:
            return False
        dims = self.dims(source)
        attribute = node.attributes.get("perm")
        if dims is None:
            return False
        perm = tuple(attribute.as_ints()) if attribute is not None else tuple(range(len(dims)))[::-1]
        base, inner = self.view(source)
        composed = perm if inner is None else tuple(inner[axis] for axis in perm)
        self._dims[node.outputs[0]] = tuple(dims[axis] for axis in perm)
        self._views[node.outputs[0]] = View(base, composed)
        return True


def _dim(dim: int | ir.SymbolicDimProtocol, unnamed: str) -> Dim:
    if isinstance(dim, int):
        return dim
    return dim.value if dim.value is not None else unnamed


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs among a node's attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def captured_values(node: ir.Node) -> Iterator[ir.Value]:
    """The values of the enclosing graph that a node's subgraphs read, each once."""
    found: dict[ir.Value, None] = {}
    for graph in subgraphs(node):
        for nested in (graph, *graph.subgraphs()):
            values = [value for inner in nested for value in inner.inputs]
            for value in [*values, *nested.outputs]:
                if value is not None and value.graph is node.graph:
                    found[value] = None
    return iter(found)


def outer_values(graph: ir.Graph) -> Iterator[ir.Value]:
    """The values of enclosing graphs that a subgraph's own nodes and outputs read, each once."""
    read = [value for node in graph for value in node.inputs]
    found = dict.fromkeys(value for value in [*read, *graph.outputs] if value is not None)
    return (value for value in found if value.graph is not None and value.graph is not graph)


def build(
    graph: ir.Graph,
    *,
    layout: Layout,
    sensitive: Callable[[ir.Node], bool] | None,
    io_layout: IoLayout,
) -> LayoutGraph:
    """Find the views, relations and sites of a graph in topological order.

    What a subgraph reads from enclosing graphs is as the hub says.
    """
    result = LayoutGraph(graph)

    def rank(value: ir.Value) -> int:
        return len(result.dims(value) or ())

    def boundary(value: ir.Value, *, reads: bool) -> Relation:
        index = (0,) if reads else ()
        storages = (plain(rank(value)),)
        if io_layout == "native" and result.dims(value) is not None:
            return Passing(index, rank(value))
        return Fixed(index, Label(storages if reads else (), () if reads else storages))

    for graph_input in graph.inputs:
        result.sites.append(Site(boundary(graph_input, reads=False), (), (graph_input,)))
    for outer in outer_values(graph):
        if not result.is_constant(outer):
            result.sites.append(Site(Fixed((), Label((), (plain(rank(outer)),))), (), (outer,)))
    for node in graph:
        if node.op_type == "Transpose" and node.domain == "" and result.add_view(node):
            continue
        captured = tuple(captured_values(node))
        relation = (
            relation_of(node, result, layout=layout, sensitive=sensitive)
            if not captured
            else strict(node, result)
        )
        operands = tuple(value for index in relation.operands if (value := node.inputs[index]) is not None)
        result.sites.append(Site(relation, operands, tuple(node.outputs), node, captured))
        for output in node.outputs:
            result.dims(output)
    for index, value in enumerate(graph.outputs):
        if not result.is_constant(value):
            site = Site(boundary(value, reads=True), (value,), (), output_index=index)
            result.sites.append(site)
    return result
