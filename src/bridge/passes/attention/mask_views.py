"""Masks without the repetition that broadcasting does anyhow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, producer, scalar
from bridge.hub.recipe import Array
from bridge.passes.element_moves import Elements, sizes_of
from bridge.passes.unused import drop_unused

_ELEMENTWISE = frozenset({"Add", "And", "Cast", "Mul", "Neg", "Not", "Or", "Sub", "Where"})
_DEPTH = 12
_MASK = 3


def simplify_masks(model: ir.Model) -> ir.Model:
    """Let `Attention` read masks that broadcast in the place of masks that are repeated.

    What is repeated over heads or queries, joined with the batch or put into another order by moves that
    numbered elements undo is read where it comes from, also through what is computed element by element.
    Zeros and minus infinities are read as truth values, which says the same.
    Runtimes need not take masks of one query, which the standard allows; the targets' lowerings do. Needs
    inferred shapes.
    """
    nodes = [node for node in model.graph if node.op_type == "Attention" and node.domain == ""]
    nodes = [node for node in nodes if len(node.inputs) > _MASK and node.inputs[_MASK] is not None]
    if not nodes:
        return model
    masks = _MaskViews(model.graph, Elements(sizes_of(model)))
    for node in nodes:
        masks.simplify(node, _MASK)
        masks.show(node, _MASK)
    return drop_unused(model)


class _MaskViews:
    """Writes masks of Attention as values that broadcast to them.

    An index array has for each element of a mask the number of the element of a value that it is.
    """

    def __init__(self, graph: ir.Graph, elements: Elements) -> None:
        self._graph = graph
        self._elements = elements
        self._made: dict[tuple[ir.Value, tuple[int, ...], bytes], ir.Value | None] = {}

    def simplify(self, node: ir.Node, index: int) -> None:
        """Let a node read a simpler mask in the place of one of its inputs, if there is one.

        All axes of the mask but the last may become 1, and leading ones may go.
        """
        mask = node.inputs[index]
        ids = None if mask is None else self._elements.numbers(mask)
        if mask is None or mask.shape is None or ids is None or ids.ndim < 2:
            return
        found = self._view(mask, ids, node, _DEPTH)
        if found is None or found is mask:
            return
        last = self._elements.shape(found)
        if last is not None and len(last) > 1 and last[-1] == ids.shape[-1]:
            node.replace_input_with(index, found)

    def show(self, node: ir.Node, index: int) -> None:
        """Let a node read what is visible in the place of zeros and minus infinities that are added."""
        mask = node.inputs[index]
        if mask is None or mask.dtype == ir.DataType.BOOL:
            return
        seen = self._seen(mask, node, None)
        shape, own = self._elements.shape(mask), None if seen is None else self._elements.shape(seen)
        if seen is not None and shape is not None and own == shape:
            node.replace_input_with(index, seen)

    def _seen(self, mask: ir.Value, node: ir.Node, also: ir.Value | None) -> ir.Value | None:
        """What a mask lets be seen, and `also` that; None if it adds other numbers than these two."""
        maker = producer(mask, "Where", "Add")
        if maker is None:
            return None
        if maker.op_type == "Add":
            for part in maker.inputs:
                also = None if part is None else self._seen(part, node, also)
                if also is None:
                    return None
            return also
        condition, first, second = maker.inputs
        if condition is None:
            return None
        numbers = scalar(first), scalar(second)
        if numbers == (0.0, -np.inf):
            return self._and(condition, also, node)
        if numbers[0] != -np.inf or second is None:
            return None
        shown = self._and(self._not(condition, node), also, node)
        return shown if numbers[1] == 0.0 else self._seen(second, node, shown)

    def _not(self, condition: ir.Value, node: ir.Node) -> ir.Value:
        inner = producer(condition, "Not")
        if inner is not None and inner.inputs[0] is not None:
            return inner.inputs[0]
        assert condition.shape is not None
        return self._add(node, "Not", [condition], {}, list(condition.shape))

    def _and(self, condition: ir.Value, also: ir.Value | None, node: ir.Node) -> ir.Value:
        if also is None:
            return condition
        return self._add(node, "And", [also, condition], {}, _joint([also, condition]))

    def _view(self, value: ir.Value, ids: Array, reader: ir.Node, depth: int) -> ir.Value | None:
        """A value that broadcasts to the elements `ids` of a value; the value itself if that is simplest."""
        whole = np.array_equal(ids.reshape(-1), np.arange(ids.size)) and ids.shape == self._elements.shape(
            value
        )
        root, inner = value, ids
        while (step := self._elements.origin(root)) is not None:
            root, inner = step[0], step[1].reshape(-1)[inner]
        parts = self._parts(root, inner, depth)
        if parts is not None:
            return value if root is value and whole else parts
        if root is value and whole:
            return value
        return self._broadcast(root, inner, reader)

    def _parts(self, root: ir.Value, ids: Array, depth: int) -> ir.Value | None:
        """What is computed element by element, computed on simpler operands; None if none is simpler."""
        node = root.producer()
        if node is None or node.domain != "" or node.op_type not in _ELEMENTWISE or depth == 0:
            return None
        shape = self._elements.shape(root)
        key = (root, ids.shape, ids.tobytes())
        if shape is None:
            return None
        if key not in self._made:
            self._made[key] = self._computed(node, shape, ids, depth)
        return self._made[key]

    def _computed(self, node: ir.Node, shape: Sequence[int], ids: Array, depth: int) -> ir.Value | None:
        operands: list[ir.Value] = []
        for operand in node.inputs:
            numbers = None if operand is None else self._elements.numbers(operand)
            if operand is None or numbers is None or numbers.ndim > len(shape):
                return None
            spread = np.broadcast_to(numbers, shape).reshape(-1)[ids]
            view = self._view(operand, spread, node, depth - 1)
            if view is None:
                return None
            operands.append(view)
        if all(new is old for new, old in zip(operands, node.inputs, strict=True)):
            return None
        return self._again(node, operands)

    def _again(self, node: ir.Node, operands: Sequence[ir.Value]) -> ir.Value:
        made = ir.node(node.op_type, operands, {name: each.value for name, each in node.attributes.items()})
        metadata.set_scope(made, metadata.scope_of(node))
        metadata.set_location(made, metadata.location_of(node))
        self._graph.insert_before(node, made)
        output = made.outputs[0]
        output.type, output.shape = node.outputs[0].type, ir.Shape(_joint(operands))
        return output

    def _broadcast(self, root: ir.Value, ids: Array, reader: ir.Node) -> ir.Value | None:
        """A value with axes of 1 put in, and its axes in another order, so that it broadcasts to `ids`."""
        shape = self._elements.shape(root)
        if shape is None or root.shape is None:
            return None
        numbers = self._elements.numbers(root)
        if numbers is not None and _broadcasts(numbers, ids):
            return root
        places = np.unravel_index(ids, shape) if shape else ()
        own: dict[int, int] = {}
        for axis, (size, place) in enumerate(zip(shape, places, strict=True)):
            if size == 1:
                continue
            at = _axis_of(place, size)
            if at is None or at in own:
                return None
            own[at] = axis
        order = [own[at] for at in sorted(own)]
        if order != sorted(order):
            perm = [axis for axis in range(len(shape)) if axis not in order] + order
            turned = [root.shape[axis] for axis in perm]
            root = self._add(reader, "Transpose", [root], {"perm": perm}, turned)
            return self._broadcast(root, np.broadcast_to(_numbers(shape, perm, places), ids.shape), reader)
        targets = sorted(own)
        ones = [axis for axis in range(len(shape)) if axis not in order]
        if ones:
            if not order or root.shape is None:
                return None
            axes = [root.shape[axis] for axis in order]
            root = self._add(reader, "Squeeze", [root, self._constant(ones)], {}, axes)
        places_of_axes = range(targets[0], ids.ndim) if targets else ()
        new = [at - targets[0] for at in places_of_axes if at not in own]
        if not new:
            return root
        assert root.shape is not None
        sizes = iter(root.shape)
        axes = [next(sizes) if at in targets else 1 for at in places_of_axes]
        return self._add(reader, "Unsqueeze", [root, self._constant(new)], {}, axes)

    def _constant(self, numbers: Sequence[int]) -> ir.Value:
        return add_constant(self._graph, np.asarray(numbers, np.int64), "axes")

    def _add(
        self,
        reader: ir.Node,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: dict[str, object],
        axes: Sequence[int | ir.SymbolicDim],
    ) -> ir.Value:
        made = ir.node(op_type, inputs, attributes)  # type: ignore[arg-type]
        metadata.set_scope(made, metadata.scope_of(reader))
        metadata.set_location(made, metadata.location_of(reader))
        self._graph.insert_before(reader, made)
        made.outputs[0].type = inputs[0].type
        made.outputs[0].shape = ir.Shape(axes)
        return made.outputs[0]


def _joint(operands: Sequence[ir.Value]) -> list[int | ir.SymbolicDim]:
    """The axes of what is computed element by element from operands that broadcast."""
    axes: list[int | ir.SymbolicDim] = []
    for operand in operands:
        assert operand.shape is not None
        own = list(operand.shape)
        count = max(len(own), len(axes))
        axes, own = [*[1] * (count - len(axes)), *axes], [*[1] * (count - len(own)), *own]
        axes = [b if a == 1 else a for a, b in zip(axes, own, strict=True)]
    return axes


def _broadcasts(numbers: Array, ids: Array) -> bool:
    """Whether numbered elements are these once they are repeated as broadcasting does."""
    try:
        return np.array_equal(np.broadcast_to(numbers, ids.shape), ids)
    except ValueError:
        return False


def _numbers(shape: Sequence[int], perm: Sequence[int], places: Sequence[Array]) -> Array:
    """The numbers of elements at these places of a tensor once its axes are in another order."""
    return np.ravel_multi_index([places[axis] for axis in perm], [shape[axis] for axis in perm])


def _axis_of(place: Array, size: int) -> int | None:
    """The axis along which a place counts from 0 on, if it depends on no other."""
    for axis in range(place.ndim):
        if place.shape[axis] == size:
            counting = np.arange(size).reshape([-1 if each == axis else 1 for each in range(place.ndim)])
            if np.array_equal(place, np.broadcast_to(counting, place.shape)):
                return axis
    return None
