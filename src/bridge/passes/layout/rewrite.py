"""Rewriting a graph in the chosen storages: moves appear only where a value is needed in a second one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.hub import metadata
from bridge.hub.metadata import Layout
from bridge.hub.recipe import Array
from bridge.passes.layout.constants import Moves, merged, move_value, operand_moves, shape_after
from bridge.passes.layout.graph import LayoutGraph, Site, subgraphs
from bridge.passes.layout.names import ValueNames
from bridge.passes.layout.storage import (
    Dims,
    Move,
    Storage,
    distinction,
    moves,
    plain,
    stored_dims,
    through,
    without_idle_fold,
)


def rewrite(graph: LayoutGraph, *, layout: Layout, names: ValueNames) -> None:
    """Rewrite a graph whose sites are labelled; new values get names that the model does not use."""
    _Rewriter(graph, layout, names).run()


class _Rewriter:
    """Walks the sites in order; implements `relations.Rewriter` for the node at hand."""

    def __init__(self, graph: LayoutGraph, layout: Layout, names: ValueNames) -> None:
        self._facts = graph
        self._graph = graph.graph
        self._layout = layout
        self._names = names
        self._output_names = [value.name or "" for value in self._graph.outputs]
        self._stored: dict[ir.Value, list[tuple[Storage, ir.Value]]] = {}
        self._view_nodes = [node for node in self._graph if graph.view(node.outputs[0]).perm is not None]
        self._restored: dict[ir.Value, ir.Value] = {}
        self._constant_uses: dict[ir.Value, dict[tuple[ir.Node, int], Moves]] = {}
        self._unused: dict[ir.Value, None] = {}
        self._hub_inputs: tuple[ir.Value | None, ...] = ()
        self._substitutes: dict[ir.Value, ir.Value] = {}

    def run(self) -> None:
        for site in self._facts.sites:
            if site.node is not None:
                self._rewrite_node(site, site.node)
            if site.output_index is None:
                self._store_results(site)
        for site in self._facts.sites:
            if site.output_index is not None:
                self._bind_output(site, site.output_index)
        self._remove_views()
        self._move_constants()
        self._remove_unused()

    def _rewrite_node(self, site: Site, node: ir.Node) -> None:
        assert site.label is not None
        self._hub_inputs = tuple(node.inputs)
        for index, storage in zip(site.relation.operands, site.label.operands, strict=False):
            value = node.inputs[index]
            assert value is not None
            node.replace_input_with(index, self._request(value, storage, node))
        for index, value in enumerate(self._hub_inputs):
            if value is not None and self._is_view_of_constant(value):
                base, perm = self._facts.view(value)
                assert perm is not None
                node.replace_input_with(index, base)
                self._add_constant_use(node, index, (Move("transpose", perm),))
        for value in site.captured:
            if not self._facts.is_constant(value):
                stored = self._request(value, plain(len(self._facts.dims(value) or ())), node)
                _replace_in_subgraphs(node, value, stored)
        site.relation.rewrite(node, site.label, self)

    def _is_view_of_constant(self, value: ir.Value) -> bool:
        base, perm = self._facts.view(value)
        return perm is not None and self._facts.is_constant(base)

    def _store_results(self, site: Site) -> None:
        """Record in which storage a site makes its results."""
        assert site.label is not None
        for value, storage in zip(site.results, site.label.results, strict=True):
            self._stored[value] = [(storage, self._substitutes.get(value, value))]
            if storage.is_plain:
                continue
            dims = self._facts.dims(value)
            assert dims is not None
            self._describe(value, dims, storage)
            if without_idle_fold(storage, dims).fold is not None:
                self._names.rename(value, self._names.derived(value.name, self._suffix(storage)))
                # Its elements are in an order that no permutation of axes tells.
                metadata.set_source_value(value, None)

    def _describe(self, value: ir.Value, dims: Dims, storage: Storage) -> None:
        """Set the shape of a value that is kept in a storage, and the record of its permutation."""
        value.shape = ir.Shape(
            None if isinstance(dim, str) and dim.startswith("?") else dim
            for dim in stored_dims(dims, storage)
        )
        metadata.set_permutation(value, None if Storage(storage.order).is_plain else storage.order)

    def _request(self, value: ir.Value, storage: Storage, before: ir.Node | None) -> ir.Value:
        """A computed value in a storage, moved there ahead of a node (or at the end) if need be."""
        base, perm = self._facts.view(value)
        if self._facts.is_constant(base):
            return value
        available = self._stored[base]
        dims = self._facts.dims(base)
        if dims is None:
            return available[0][1]
        target = without_idle_fold(storage if perm is None else through(storage, perm), dims)
        for have, stored in available:
            if without_idle_fold(have, dims) == target or moves(dims, have, target) == ():
                return stored
        wanted = distinction(target, dims)
        have, source = next(
            (pair for pair in available if distinction(pair[0], dims) == wanted), available[0]
        )
        steps = moves(dims, have, target)
        if steps is None:
            raise BridgeError(
                f"{base.name!r} cannot be brought into another layout: it has several dynamic axes",
                hint="give the model's input shapes with --input",
                where=None if before is None else before.name,
            )
        restores = perm is not None and storage.is_plain and value not in self._restored
        if restores:
            name = value.name or self._names.derived(base.name, "transposed")
        else:
            name = self._names.derived(base.name, self._suffix(target))
        result = self._emit_moves(source, steps, name, before, twin=value if restores else None)
        self._describe(result, dims, target)
        if restores:
            metadata.set_permutation(result, None)
            self._restored[value] = result
        available.append((target, result))
        return result

    def _emit_moves(
        self,
        source: ir.Value,
        steps: Moves,
        name: str,
        before: ir.Node | None,
        *,
        twin: ir.Value | None = None,
    ) -> ir.Value:
        """Add nodes that move a value; the last one's result is `name`, and takes over a view's metadata."""
        for position, step in enumerate(steps):
            last = position == len(steps) - 1
            own = name if last else self._names.derived(name, "parts")
            inputs = [source]
            attributes: list[ir.Attr] = []
            if step.op == "transpose":
                op_type, attributes = "Transpose", [ir.AttrInt64s("perm", step.argument)]
            elif step.op == "reshape":
                op_type = "Reshape"
                shape = np.asarray(step.argument, dtype=np.int64)
                inputs.append(self._new_constant(shape, self._names.derived(own, "shape")))
            else:
                op_type, attributes = "Gather", [ir.AttrInt64("axis", step.argument[0])]
                order = np.asarray(step.argument[1:], dtype=np.int64)
                inputs.append(self._new_constant(order, self._names.derived(own, "order")))
            result = ir.Value(name=own, type=source.type)
            node = ir.Node("", op_type, inputs, attributes, outputs=[result], name=own)
            if source.is_graph_input():
                metadata.set_scope(node, ())
            if last and twin is not None:
                view_node = twin.producer()
                assert view_node is not None
                node.name = view_node.name
                node.metadata_props.update(view_node.metadata_props)
                result.metadata_props.update(twin.metadata_props)
            if before is None:
                self._graph.append(node)
            else:
                self._graph.insert_before(before, node)
            source = result
        return source

    def _suffix(self, storage: Storage) -> str:
        """How a copy in a storage is called: by the layout if it is the target's, else just as transposed."""
        rank = len(storage.order)
        to_last, to_first = (0, *range(2, rank), 1), (0, rank - 1, *range(1, rank - 1))
        is_native = storage.order == (to_last if self._layout == "channels_last" else to_first)
        return self._layout if is_native or storage.fold is not None else "transposed"

    def _bind_output(self, site: Site, index: int) -> None:
        """Make a value in the label's storage the graph output, under the output's own name."""
        assert site.label is not None
        output = self._graph.outputs[index]
        (storage,) = site.label.operands
        result = self._request(output, storage, None)
        name = self._output_names[index]
        if result.name == name and result is output:
            return
        if result.name != name:
            if output.name == name and self._facts.view(output).perm is None:
                kept = self._stored[output][0][0]
                self._names.rename(output, self._names.derived(name, self._suffix(kept)))
            elif output in self._restored:
                self._names.rename(self._restored[output], self._names.derived(name, "transposed"))
            if result.producer() is None or result.is_graph_output():
                copy = ir.Value(name=name, type=result.type, shape=result.shape)
                self._graph.append(ir.Node("", "Identity", [result], outputs=[copy], name=name))
                result = copy
            else:
                self._names.rename(result, name)
        metadata.set_permutation(result, None if storage.is_plain else storage.order)
        self._graph.outputs[index] = result

    def _remove_views(self) -> None:
        """Remove the transposes that nothing reads any more: their readers were given stored values."""
        for node in reversed(self._view_nodes):
            if not node.outputs[0].uses() and not node.outputs[0].is_graph_output():
                self._graph.remove(node, safe=True)

    def constant(self, value: ir.Value) -> Array | None:
        return self._facts.constant(value)

    def _new_constant(self, array: Array, name: str) -> ir.Value:
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(ir.DataType.from_numpy(array.dtype))
        )
        value.const_value = ir.Tensor(array, name=name)
        self._graph.register_initializer(value)
        return value

    def set_constant(self, node: ir.Node, index: int, array: Array, role: str) -> None:
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        replaced = node.inputs[index]
        if replaced is not None and self._is_private_parameter(replaced):
            replaced.const_value = ir.Tensor(array, name=replaced.name)
            replaced.shape, replaced.dtype = ir.Shape(array.shape), ir.DataType.from_numpy(array.dtype)
            return
        if replaced is not None:
            self._unused[replaced] = None
        name = self._names.derived(node.outputs[0].name, role)
        node.replace_input_with(index, self._new_constant(array, name))

    def _is_private_parameter(self, value: ir.Value) -> bool:
        """Whether a constant may be overwritten: it is not trained and has one user."""
        one_user = value.is_initializer() and self._facts.use_count(value) == 1
        return one_user and metadata.recipe_record(value) is None

    def set_reshape(self, node: ir.Node, shape: Array) -> None:
        node.op_type = "Reshape"
        node.attributes.pop("axis", None)
        node.attributes.pop("allowzero", None)
        self.set_constant(node, 1, shape, "shape")

    def lift(self, node: ir.Node, index: int, storage: Storage) -> None:
        hub, current = self._hub_inputs[index], node.inputs[index]
        assert hub is not None
        assert current is not None
        own = self._facts.dims(hub)
        assert own is not None
        missing = len(storage.order) - len(own)
        dims = (1,) * missing + own
        steps = moves(dims, plain(len(dims)), storage)
        assert steps is not None
        if any(step.op == "transpose" or 0 in step.argument for step in steps):
            name = self._names.derived(hub.name, "broadcast")
            axes = self._new_constant(np.arange(missing, dtype=np.int64), self._names.derived(name, "axes"))
            lifted = ir.Value(name=name, type=current.type)
            self._describe(lifted, dims, plain(len(dims)))
            unsqueeze = ir.Node("", "Unsqueeze", [current, axes], outputs=[lifted], name=name)
            self._graph.insert_before(node, unsqueeze)
            current = lifted
        moved = self._emit_moves(current, steps, self._names.derived(hub.name, self._suffix(storage)), node)
        if moved is not current:
            self._describe(moved, dims, storage)
        node.replace_input_with(index, moved)

    def gather_result(self, node: ir.Node, order: Array) -> None:
        raw = node.outputs[0]
        name = raw.name
        assert name is not None
        self._names.rename(raw, self._names.derived(name, "stored"))
        raw.shape = None
        indices = self._new_constant(order, self._names.derived(name, "order"))
        ordered = ir.Value(name=name, shape=ir.Shape(order.shape), type=raw.type)
        ordered.metadata_props.update(raw.metadata_props)
        self._graph.insert_after(node, ir.Node("", "Gather", [raw, indices], outputs=[ordered], name=name))
        self._substitutes[raw] = ordered

    def use_constant(self, node: ir.Node, index: int, storage: Storage, *, keep_rank: bool = False) -> None:
        value = node.inputs[index]
        assert value is not None
        tensor = ir.convenience.get_const_tensor(value)
        assert tensor is not None
        so_far = self._constant_uses.get(value, {}).get((node, index), ())
        shape = shape_after(tuple(tensor.shape.numpy()), so_far)
        self._add_constant_use(node, index, operand_moves(shape, storage, keep_rank=keep_rank))

    def _add_constant_use(self, node: ir.Node, index: int, steps: Moves) -> None:
        value = node.inputs[index]
        assert value is not None
        uses = self._constant_uses.setdefault(value, {})
        uses[node, index] = merged((*uses.get((node, index), ()), *steps))

    def _move_constants(self) -> None:
        """Move each constant once for each order in which it is used; a trained one is never copied."""
        for value, uses in self._constant_uses.items():
            orders: dict[Moves, list[tuple[ir.Node, int]]] = {}
            for use, steps in uses.items():
                orders.setdefault(steps, []).append(use)
            elsewhere = value.is_graph_output() or any(
                (each.node, each.idx) not in uses for each in value.uses()
            )
            in_place = value.is_initializer() and len(orders) == 1 and not elsewhere
            tensor = ir.convenience.get_const_tensor(value)
            assert tensor is not None
            for steps, users in orders.items():
                if not steps:
                    continue
                if in_place:
                    move_value(value, tensor, steps)
                    continue
                moved = self._moved_copy(value, tensor, steps, users)
                for node, index in users:
                    node.replace_input_with(index, moved)
            self._unused[value] = None

    def _moved_copy(
        self,
        value: ir.Value,
        tensor: ir.TensorProtocol,
        steps: Moves,
        users: Sequence[tuple[ir.Node, int]],
    ) -> ir.Value:
        name = self._names.derived(value.name, self._layout)
        if metadata.recipe_record(value) is not None:
            moved = self._emit_moves(value, steps, name, users[0][0])
            moved.shape = ir.Shape(shape_after(tuple(tensor.shape.numpy()), steps))
            return moved
        copy = ir.Value(name=name, type=ir.TensorType(tensor.dtype))
        move_value(copy, tensor, steps)
        self._graph.register_initializer(copy)
        return copy

    def _remove_unused(self) -> None:
        """Drop the constants that lost their last user here; they may belong to an enclosing graph."""
        for value in self._unused:
            graph, producer = value.graph, value.producer()
            if graph is None or value.uses() or value.is_graph_output():
                continue
            if producer is not None:
                graph.remove(producer, safe=True)
            elif value.name and value.is_initializer() and metadata.recipe_record(value) is None:
                del graph.initializers[value.name]


def _replace_in_subgraphs(node: ir.Node, value: ir.Value, stored: ir.Value) -> None:
    """Let a node's subgraphs read one outer value in place of another."""
    if value is stored:
        return
    for graph in subgraphs(node):
        for inner in graph.all_nodes():
            for index, read in enumerate(inner.inputs):
                if read is value:
                    inner.replace_input_with(index, stored)
        for nested in _with_nested(graph):
            for index, output in enumerate(nested.outputs):
                if output is value:
                    nested.outputs[index] = stored


def _with_nested(graph: ir.Graph) -> Iterable[ir.Graph]:
    yield graph
    yield from graph.subgraphs()
