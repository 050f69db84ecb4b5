"""Where the elements of a value are after nodes that only move them, found with numbered elements."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import attribute, constant, integers, producer, rank
from bridge.hub.recipe import Array
from bridge.passes.moves import permutation

_MOVES = frozenset(
    {"Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_ELEMENTWISE = ("Add", "And", "Cast", "Div", "Mul", "Neg", "Not", "Or", "Sub", "Where")
_REPEATS = frozenset({"Expand", "Tile"})
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def is_move(node: ir.Node) -> bool:
    """Whether a node places the elements of its first input elsewhere, or leaves some out."""
    return node.domain == "" and node.op_type in _MOVES and not metadata.stops_gradient(node)


def sizes_of(model: ir.Model) -> dict[str, int]:
    """A small size for each symbolic axis of the inputs: all different, and dividing no fixed axis.

    So a number of elements is a product of axes in one way only, and an order found with these sizes is that
    of all others.
    """
    fixed = {
        axis
        for values in ([*model.graph.inputs, *model.graph.initializers.values()], *_made(model))
        for value in values
        for axis in value.shape or ()
        if isinstance(axis, int) and axis > 1
    }
    primes = [prime for prime in _PRIMES if all(axis % prime for axis in fixed)] or list(_PRIMES[-4:])
    names: dict[str, int] = {}
    for value in model.graph.inputs:
        for axis in value.shape or ():
            if not isinstance(axis, int) and axis.value is not None and axis.value not in names:
                names[axis.value] = primes[len(names) % len(primes)]
    return names


def _made(model: ir.Model) -> Iterator[Sequence[ir.Value]]:
    return (node.outputs for node in model.graph)


class Elements:
    """Where the elements of values come from, step by step, with symbolic axes of given sizes."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._shapes: dict[ir.Value, tuple[int, ...] | None] = {}

    def shape(self, value: ir.Value) -> tuple[int, ...] | None:
        """The axes of a value, those that only follow from what is moved included."""
        if value not in self._shapes:
            found = _shape(value, self._sizes)
            if found is None or -1 in found:
                step = self.origin(value)
                found = self._computed(value, found) if step is None else step[1].shape
            self._shapes[value] = found
        return self._shapes[value]

    def _computed(self, value: ir.Value, known: tuple[int, ...] | None) -> tuple[int, ...] | None:
        """The axes of a product with a matrix, or of what is computed element by element from others."""
        node = producer(value, "Attention", "Gemm", "MatMul", *_ELEMENTWISE)
        if node is None or known is None:
            return None
        operands = [each for each in node.inputs if each is not None]
        if node.op_type == "Attention":
            q, v = self.shape(operands[0]), self.shape(operands[2])
            four = q is not None and v is not None and len(q) == len(v) == 4 and value is node.outputs[0]
            return (*q[:3], v[3]) if four and q is not None and v is not None else None
        if node.op_type in ("Gemm", "MatMul"):
            rows = self.shape(operands[0])
            plain = not attribute(node, "transA", 0) and rank(operands[1]) == 2 and known[-1] != -1
            return (*rows[:-1], known[-1]) if plain and rows is not None else None
        shapes = [self.shape(each) for each in operands]
        if any(each is None for each in shapes):
            return None
        try:
            return np.broadcast_shapes(*(each for each in shapes if each is not None))
        except ValueError:
            return None

    def numbers(self, value: ir.Value) -> Array | None:
        """The elements of a value, numbered."""
        shape = self.shape(value)
        return None if shape is None else np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape)

    def origin(self, value: ir.Value) -> tuple[ir.Value, Array] | None:
        """What a node moves or repeats to make a value, and for each element of that which one it is."""
        node = value.producer()
        source = None if node is None or not node.inputs else node.inputs[0]
        if node is None or source is None or node.domain != "" or metadata.stops_gradient(node):
            return None
        if node.op_type not in _MOVES | _REPEATS:
            return None
        ids = self.numbers(source)
        if ids is None:
            return None
        after = (
            self._repeated(node, ids) if node.op_type in _REPEATS else _moved(node, value, ids, self._sizes)
        )
        known = _shape(value, self._sizes)
        if after is None or (known is not None and not _agree(after.shape, known)):
            return None
        return source, after

    def _repeated(self, node: ir.Node, ids: Array) -> Array | None:
        given = integers(node.inputs[1])
        known = _shape(node.outputs[0], self._sizes)
        if node.op_type == "Tile":
            if given is None and known is not None and -1 not in known and len(known) == ids.ndim:
                given = tuple(after // before for after, before in zip(known, ids.shape, strict=True))
            return None if given is None or len(given) != ids.ndim else np.tile(ids, given)
        target = known if known is not None and -1 not in known else given
        if target is None or -1 in target:
            return None
        try:
            return np.broadcast_to(ids, np.broadcast_shapes(ids.shape, target))
        except ValueError:
            return None


def _agree(shape: Sequence[int], known: Sequence[int]) -> bool:
    return len(shape) == len(known) and all(b in (-1, a) for a, b in zip(shape, known, strict=True))


def follow(value: ir.Value, moves: Sequence[ir.Value], sizes: Mapping[str, int]) -> Array | None:
    """The numbers of a value's elements after the moves that make these values, one after the other.

    `sizes` are what symbolic axes are taken to be. None if a shape is not known well enough.
    """
    shape = _shape(value, sizes)
    if shape is None or -1 in shape:
        return None
    return moved(np.arange(int(np.prod(shape)), dtype=np.int64).reshape(shape), moves, sizes)


def moved(ids: Array, moves: Sequence[ir.Value], sizes: Mapping[str, int]) -> Array | None:
    """Numbered elements after the moves that make these values, one after the other."""
    for each in moves:
        node = each.producer()
        assert node is not None
        after = _moved(node, each, ids, sizes)
        if after is None:
            return None
        ids = after
    return ids


def _shape(value: ir.Value, sizes: Mapping[str, int]) -> tuple[int, ...] | None:
    """The axes of a value, -1 for one that is not known."""
    if value.shape is None:
        return None
    return tuple(axis if isinstance(axis, int) else sizes.get(axis.value or "", -1) for axis in value.shape)


def _moved(node: ir.Node, output: ir.Value, ids: Array, sizes: Mapping[str, int]) -> Array | None:
    match node.op_type:
        case "Identity":
            return ids
        case "Transpose":
            perm = permutation(node)
            return None if perm is None else ids.transpose(perm)
        case "Gather":
            indices = constant(node.inputs[1])
            axis = attribute(node, "axis", 0)
            if indices is None or not isinstance(axis, int):
                return None
            return np.take(ids, indices.astype(np.int64), axis=axis)
        case "Slice":
            return _sliced(node, ids)
        case "Split":
            return _split(node, output, ids)
        case _:
            shape = _shape(output, sizes)
            if shape is None or shape.count(-1) > 1:
                return None
            known = int(np.prod([size for size in shape if size != -1]))
            fits = known == ids.size if -1 not in shape else known > 0 and ids.size % known == 0
            return ids.reshape(shape) if fits else None


def _sliced(node: ir.Node, ids: Array) -> Array | None:
    bounds = [integers(value) for value in node.inputs[1:]]
    if any(each is None for each in bounds) or len(bounds) < 2:
        return None
    starts, ends = bounds[0] or (), bounds[1] or ()
    axes = bounds[2] if len(bounds) > 2 and bounds[2] is not None else tuple(range(len(starts)))
    steps = bounds[3] if len(bounds) > 3 and bounds[3] is not None else (1,) * len(starts)
    index = [slice(None)] * ids.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step != 1:
            return None
        index[axis] = slice(start, end)
    return ids[tuple(index)]


def _split(node: ir.Node, output: ir.Value, ids: Array) -> Array | None:
    axis = attribute(node, "axis", 0)
    if not isinstance(axis, int):
        return None
    lengths = [None if each.shape is None else each.shape[axis] for each in node.outputs]
    if not all(isinstance(each, int) for each in lengths):
        return None
    numbers = [int(each) for each in lengths if isinstance(each, int)]
    parts = np.split(ids, np.cumsum(numbers)[:-1], axis=axis)
    return parts[list(node.outputs).index(output)]
