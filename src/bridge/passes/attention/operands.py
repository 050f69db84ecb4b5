"""The way of queries, keys and values into attention, and of its result out of it, without detours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, attribute, only_use, producer, rank, static_shape, take_over
from bridge.hub.recipe import Array
from bridge.passes.element_moves import Elements, is_move, sizes_of
from bridge.passes.unused import drop_unused

_BATCH, _HEADS, _LENGTH, _SIZE = range(4)
_IN = {True: (0, 2, 1, 3), False: (1, 2, 0, 3)}
"""(batch, length, heads, size), or (length, batch, heads, size), as attention takes it."""

_OUT = {True: (0, 2, 1, 3), False: (2, 0, 1, 3)}


def straighten_attention(model: ir.Model) -> ir.Model:
    """Projections, the moves of their heads, and the result of attention in the usual form.

    Each operand becomes its projection of (batch, length, features), or (length, batch, features), split
    where several are packed, reshaped to heads, and transposed; the result is transposed, reshaped and
    projected. Rewritten is what numbered elements prove to be the same, and only where the graph gets
    smaller. Needs inferred shapes.
    """
    nodes = [node for node in model.graph if node.op_type == "Attention" and node.domain == ""]
    nodes = [node for node in nodes if all(rank(value) == 4 for value in node.inputs[:3])]
    if not nodes:
        return model
    elements = Elements(sizes_of(model))
    for node in nodes:
        _straighten_inputs(node, elements)
        _straighten_output(node, elements)
    return drop_unused(model)


@dataclass(frozen=True)
class _Product:
    """`data @ matrix + bias` for each row of data."""

    node: ir.Node
    last: ir.Node
    data: ir.Value
    matrix: ir.Value
    transposed: bool
    bias: ir.Value | None

    @property
    def nodes(self) -> tuple[ir.Node, ...]:
        return (self.node,) if self.node is self.last else (self.node, self.last)


@dataclass(frozen=True)
class _Operand:
    """Channels of `source` as (batch, heads, length, size), projected where there is a product."""

    index: int
    source: ir.Value
    batch_first: bool
    product: _Product | None
    start: int
    width: int
    heads: int
    size: int
    nodes: tuple[ir.Node, ...]
    """What is between the source and attention, from the last to the first."""


def _straighten_inputs(node: ir.Node, elements: Elements) -> None:
    operands = [each for index in range(3) if (each := _operand(node, index, elements)) is not None]
    while operands:
        chains = {each for operand in operands for each in operand.nodes}
        dead = _unread_without(node, {each.index for each in operands}, chains | _sizes_for(chains))
        kept = [each for each in operands if each.product is None or each.product.last in dead]
        if len(kept) == len(operands):
            break
        operands = kept
    else:
        return
    blocks = _blocks(operands)
    if blocks is None:
        return
    moves = [each for each in dead & chains if each.op_type not in ("MatMul", "Gemm", "Add")]
    splits = sum(len(each) > 1 for each in blocks.values())
    distinct = {(each.source, each.product, each.start) for each in operands}
    if len(moves) > splits + 2 * len(distinct):
        _Writer(node).inputs(operands, blocks)
        _drop(dead)


def _operand(node: ir.Node, index: int, elements: Elements) -> _Operand | None:
    """The farthest value of three axes, behind a product where there is one, that an operand is made of."""
    value = node.inputs[index]
    found: _Operand | None = None
    nodes: list[ir.Node] = []
    ids = None if value is None else elements.numbers(value)
    while value is not None and ids is not None:
        rows = _rows_and_channels(value, ids, elements)
        if rows is not None:
            places, start, width = rows
            heads, size = ids.shape[_HEADS], ids.shape[_SIZE]
            product = _product(value)
            if product is not None:
                source = _source(product.data, places, elements)
                if source is not None:
                    origin, batch_first, between = source
                    chain = (*nodes, *reversed(product.nodes), *between)
                    return _Operand(index, origin, batch_first, product, start, width, heads, size, chain)
            order = _order(places, value, elements)
            if order is not None:
                found = _Operand(index, value, order, None, start, width, heads, size, tuple(nodes))
        step = elements.origin(value)
        maker = value.producer()
        if step is None or maker is None or not is_move(maker):
            return found
        nodes.append(maker)
        value, ids = step[0], step[1].reshape(-1)[ids]
    return found


def _rows_and_channels(value: ir.Value, ids: Array, elements: Elements) -> tuple[Array, int, int] | None:
    """The rows (batch, length) of a value that make an operand, its first channel, and all channels."""
    shape = elements.shape(value)
    width = None if value.shape is None or len(value.shape) < 2 else value.shape[-1]
    if shape is None or not isinstance(width, int) or width == 0:
        return None
    rows, channels = ids // width, ids % width
    places, start = rows[:, 0, :, 0], int(channels[0, 0, 0, 0])
    heads, size = ids.shape[_HEADS], ids.shape[_SIZE]
    order = start + np.arange(heads * size).reshape(heads, 1, size)
    if np.any(channels != order) or np.any(rows != places[:, None, :, None]):
        return None
    return (places, start, width) if places.size * width == int(np.prod(shape)) else None


def _order(places: Array, value: ir.Value, elements: Elements) -> bool | None:
    """Whether rows at these places (batch, length) are those of (batch, length, …), or (length, batch, …)."""
    batch, length = places.shape
    shape = elements.shape(value)
    if shape is None or len(shape) != 3:
        return None
    rows = np.arange(batch * length)
    if shape[:2] == (batch, length) and np.array_equal(places, rows.reshape(batch, length)):
        return True
    time_first = shape[:2] == (length, batch) and np.array_equal(places, rows.reshape(length, batch).T)
    return False if time_first else None


def _source(
    data: ir.Value, places: Array, elements: Elements
) -> tuple[ir.Value, bool, tuple[ir.Node, ...]] | None:
    """The farthest value of three axes that has the rows of data whole, and what is between."""
    features = None if data.shape is None else data.shape[-1]
    ids = elements.numbers(data)
    if not isinstance(features, int) or ids is None or ids.size != places.size * features:
        return None
    ids = ids.reshape(-1, features)[places]
    found: tuple[ir.Value, bool, tuple[ir.Node, ...]] | None = None
    nodes: list[ir.Node] = []
    value = data
    while True:
        if rank(value) == 3 and value.shape is not None and value.shape[-1] == features:
            rows = ids[..., 0] // features
            whole = np.array_equal(ids, rows[..., None] * features + np.arange(features))
            order = _order(rows, value, elements) if whole else None
            if order is not None:
                found = value, order, tuple(nodes)
        step, maker = elements.origin(value), value.producer()
        if step is None or maker is None or not is_move(maker):
            return found
        nodes.append(maker)
        value, ids = step[0], step[1].reshape(-1)[ids]


def _product(value: ir.Value) -> _Product | None:
    """A value as rows times a matrix, plus a vector or nothing."""
    node = producer(value, "MatMul", "Gemm", "Add")
    if node is None:
        return None
    if node.op_type == "Gemm":
        plain = attribute(node, "alpha", 1.0) == 1.0 and not attribute(node, "transA", 0)
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if not plain or (bias is not None and (attribute(node, "beta", 1.0) != 1.0 or rank(bias) != 1)):
            return None
        first, matrix = node.inputs[:2]
        transposed = bool(attribute(node, "transB", 0))
        return (
            None if first is None or matrix is None else _Product(node, node, first, matrix, transposed, bias)
        )
    if node.op_type == "MatMul":
        return _matmul(node, node, None)
    for each, other in (node.inputs, tuple(reversed(node.inputs))):
        inner = producer(each, "MatMul")
        if inner is not None and rank(other) == 1 and only_use(inner.outputs[0]) is node:
            return _matmul(inner, node, other)
    return None


def _matmul(node: ir.Node, last: ir.Node, bias: ir.Value | None) -> _Product | None:
    data, matrix = node.inputs
    if data is None or matrix is None or rank(matrix) != 2 or (rank(data) or 0) < 2:
        return None
    return _Product(node, last, data, matrix, False, bias)


def _sizes_for(nodes: Iterable[ir.Node]) -> set[ir.Node]:
    """What computes the sizes that nodes move elements to."""
    found: set[ir.Node] = set()
    ahead = [value for node in nodes for value in node.inputs[1:]]
    while ahead:
        value = ahead.pop()
        node = None if value is None else value.producer()
        if value is None or node is None or node in found or value.dtype != ir.DataType.INT64:
            continue
        if value.shape is not None and len(value.shape) < 2:
            found.add(node)
            ahead.extend(node.inputs)
    return found


def _unread_without(node: ir.Node, indices: set[int], chains: Iterable[ir.Node]) -> set[ir.Node]:
    """Those of the nodes that nothing needs once a node does not read these of its inputs."""
    dead: set[ir.Node] = set()
    while True:
        more = {
            each
            for each in chains
            if each not in dead
            and not any(output.is_graph_output() for output in each.outputs)
            and all(
                use.node in dead or (use.node is node and use.idx in indices)
                for output in each.outputs
                for use in output.uses()
            )
        }
        if not more:
            return dead
        dead |= more


def _drop(nodes: Iterable[ir.Node]) -> None:
    """Remove nodes that nothing reads but each other."""
    left = set(nodes)
    while left:
        unread = {node for node in left if not any(output.uses() for output in node.outputs)}
        if not unread:
            return
        for node in unread:
            assert node.graph is not None
            node.graph.remove(node, safe=True)
        left -= unread


_Key = tuple[ir.Value, _Product | None]


def _blocks(operands: Iterable[_Operand]) -> dict[_Key, list[tuple[int, int]]] | None:
    """The blocks of channels (first, number) that operands take of what they share; None if some are left."""
    blocks: dict[_Key, set[tuple[int, int]]] = {}
    widths: dict[_Key, int] = {}
    for each in operands:
        key = (each.source, each.product)
        blocks.setdefault(key, set()).add((each.start, each.heads * each.size))
        widths[key] = each.width
    for key, taken in blocks.items():
        end = 0
        for start, count in sorted(taken):
            if start != end:
                return None
            end += count
        if end != widths[key]:
            return None
    return {key: sorted(taken) for key, taken in blocks.items()}


class _Writer:
    """Puts new nodes beside an Attention."""

    def __init__(self, node: ir.Node) -> None:
        assert isinstance(node.graph, ir.Graph)
        self._node, self._graph = node, node.graph

    def inputs(self, operands: Sequence[_Operand], blocks: dict[_Key, list[tuple[int, int]]]) -> None:
        parts: dict[tuple[_Key, int], ir.Value] = {}
        split: dict[tuple[_Key, int], ir.Value] = {}
        for each in operands:
            key = (each.source, each.product)
            if (key, each.start) not in parts:
                for (start, _), value in zip(blocks[key], self._split(each, blocks[key]), strict=True):
                    parts[key, start] = value
            if (key, each.start) not in split:
                split[key, each.start] = self._heads(each, parts[key, each.start])
            old = self._node.inputs[each.index]
            new = split[key, each.start]
            if old is not None and metadata.source_value(old) is not None:
                metadata.set_source_value(new, metadata.source_value(old))
                metadata.set_source_permutation(new, metadata.source_permutation(old))
            self._node.replace_input_with(each.index, new)

    def _split(self, operand: _Operand, blocks: Sequence[tuple[int, int]]) -> Sequence[ir.Value]:
        value = operand.source
        if operand.product is not None:
            value = project(self._graph, operand.product, value, before=operand.product.node)
        if len(blocks) == 1:
            return (value,)
        lengths = self._constant([count for _, count in blocks])
        outputs = self._add("Split", [value, lengths], {"axis": -1}, outputs=len(blocks))
        for output, (_, count) in zip(outputs, blocks, strict=True):
            _describe(output, value, [*_axes(value)[:-1], count])
        return outputs

    def _heads(self, operand: _Operand, value: ir.Value) -> ir.Value:
        shape = self._constant([0, 0, operand.heads, operand.size])
        (four,) = self._add("Reshape", [value, shape], {})
        axes = [*_axes(value)[:-1], operand.heads, operand.size]
        _describe(four, value, axes)
        perm = _IN[operand.batch_first]
        (made,) = self._add("Transpose", [four], {"perm": perm})
        _describe(made, value, [axes[axis] for axis in perm])
        return made

    def _constant(self, numbers: Sequence[int]) -> ir.Value:
        return add_constant(self._graph, np.asarray(numbers, np.int64), "heads")

    def _add(
        self, op_type: str, inputs: Sequence[ir.Value], attributes: dict[str, object], outputs: int = 1
    ) -> Sequence[ir.Value]:
        made = ir.node(op_type, inputs, attributes, num_outputs=outputs)  # type: ignore[arg-type]
        metadata.set_scope(made, metadata.scope_of(self._node))
        metadata.set_location(made, metadata.location_of(self._node))
        self._graph.insert_before(self._node, made)
        return made.outputs


def _axes(value: ir.Value) -> list[int | ir.SymbolicDim]:
    assert value.shape is not None
    return list(value.shape)


def _describe(value: ir.Value, like: ir.Value, axes: Sequence[int | ir.SymbolicDim]) -> None:
    value.type, value.shape = like.type, ir.Shape(axes)


def project(graph: ir.Graph, product: _Product, source: ir.Value, *, before: ir.Node) -> ir.Value:
    """The product of the rows of another value, at the place and in the module of the old one."""
    matrix = product.matrix
    nodes: list[ir.Node] = []
    if product.transposed:
        nodes.append(ir.node("Transpose", [matrix], {"perm": (1, 0)}))
        shape = static_shape(matrix)
        nodes[0].outputs[0].type = matrix.type
        nodes[0].outputs[0].shape = None if shape is None else ir.Shape(shape[::-1])
        matrix = nodes[0].outputs[0]
    nodes.append(ir.node("MatMul", [source, matrix]))
    if product.bias is not None:
        nodes.append(ir.node("Add", [nodes[-1].outputs[0], product.bias]))
    width = None if product.last.outputs[0].shape is None else product.last.outputs[0].shape[-1]
    assert width is not None
    for node in nodes:
        old = product.last if node is nodes[-1] else product.node
        metadata.set_scope(node, metadata.scope_of(old))
        metadata.set_location(node, metadata.location_of(old))
        graph.insert_before(before, node)
        if node.op_type != "Transpose":
            _describe(node.outputs[0], source, [*_axes(source)[:-1], width])
    return nodes[-1].outputs[0]


def _straighten_output(node: ir.Node, elements: Elements) -> None:
    """Transpose, reshape and project the result, where it takes more than that to do so."""
    result = node.outputs[0]
    shape = elements.shape(result)
    if shape is None or len(shape) != 4 or not isinstance(_axes(result)[_HEADS], int):
        return
    if not isinstance(_axes(result)[_SIZE], int):
        return
    width = shape[_HEADS] * shape[_SIZE]
    wanted = np.arange(int(np.prod(shape))).reshape(shape).transpose(0, 2, 1, 3).reshape(-1, width)
    ids = elements.numbers(result)
    value = result
    taken: list[ir.Node] = []
    found: tuple[ir.Value, bool, _Product | None, int] | None = None
    while ids is not None:
        places = _places_of_rows(ids, wanted, width)
        if places is not None:
            places = places.reshape(shape[_BATCH], shape[_LENGTH])
            order = _order(places, value, elements)
            if order is not None:
                found = value, order, None, len(taken)
            product = _read_by_product(value)
            if product is not None:
                end = _end_of_product(product, places, elements)
                if end is not None:
                    value, order, moves = end
                    found = value, order, product, len(taken) + moves
                break
        step = _next(value)
        if step is None:
            break
        move = elements.origin(step.outputs[0])
        ids = None if move is None else ids.reshape(-1)[move[1]]
        taken.append(step)
        value = step.outputs[0]
    if found is not None and found[-1] > 2:
        _write_output(node, *found[:-1])


def _next(value: ir.Value) -> ir.Node | None:
    """The node that moves a value, if nothing else reads it."""
    use = only_use(value)
    moves = use is not None and is_move(use) and use.inputs[0] is value and len(use.outputs) == 1
    return use if moves else None


def _places_of_rows(ids: Array, wanted: Array, width: int) -> Array | None:
    """At which row of a value (…, width) each wanted row is."""
    if ids.ndim < 2 or ids.shape[-1] != width or ids.size != wanted.size:
        return None
    rows = ids.reshape(-1, width)
    places = np.empty(len(wanted), np.int64)
    order = np.argsort(wanted[:, 0])
    found = np.searchsorted(wanted[order, 0], rows[:, 0])
    if np.any(found >= len(order)) or np.any(wanted[order[found]] != rows):
        return None
    places[order[found]] = np.arange(len(rows))
    return places


def _read_by_product(value: ir.Value) -> _Product | None:
    use = only_use(value)
    if use is None or use.op_type not in ("MatMul", "Gemm") or use.domain != "":
        return None
    after = only_use(use.outputs[0]) if use.op_type == "MatMul" else None
    for last in (after, use):
        product = None if last is None else _product(last.outputs[0])
        if product is not None and product.node is use and product.data is value:
            return product
    return None


def _end_of_product(
    product: _Product, places: Array, elements: Elements
) -> tuple[ir.Value, bool, int] | None:
    """The farthest value of three axes with the rows of a product whole, and the number of moves to it."""
    value = product.last.outputs[0]
    width = None if value.shape is None else value.shape[-1]
    ids = elements.numbers(value)
    if not isinstance(width, int) or ids is None or ids.size != places.size * width:
        return None
    wanted = ids.reshape(-1, width)[places.reshape(-1)]
    found: tuple[ir.Value, bool, int] | None = None
    count = 0
    while ids is not None:
        at = _places_of_rows(ids, wanted, width)
        order = None if at is None else _order(at.reshape(places.shape), value, elements)
        if order is not None:
            found = value, order, count
        step = _next(value)
        if step is None:
            break
        move = elements.origin(step.outputs[0])
        ids = None if move is None else ids.reshape(-1)[move[1]]
        value, count = step.outputs[0], count + 1
    return found


def _write_output(node: ir.Node, result: ir.Value, batch_first: bool, product: _Product | None) -> None:
    assert isinstance(node.graph, ir.Graph)
    attended = node.outputs[0]
    axes = _axes(attended)
    perm = _OUT[batch_first]
    turned = ir.node("Transpose", [attended], {"perm": perm})
    _describe(turned.outputs[0], attended, [axes[axis] for axis in perm])
    width = [axes[axis] for axis in (_HEADS, _SIZE)]
    heads, size = (axis for axis in width if isinstance(axis, int))
    target = add_constant(node.graph, np.asarray([0, 0, heads * size], np.int64), "joined")
    joined = ir.node("Reshape", [turned.outputs[0], target])
    _describe(joined.outputs[0], attended, [*(axes[axis] for axis in perm[:2]), heads * size])
    place = result.producer() if product is None else product.node
    assert place is not None
    for each in (turned, joined):
        metadata.set_scope(each, metadata.scope_of(node))
        metadata.set_location(each, metadata.location_of(node))
        node.graph.insert_before(place, each)
    made = joined.outputs[0]
    if product is not None:
        made = project(node.graph, product, made, before=place)
    take_over(result, made)
