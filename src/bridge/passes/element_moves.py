"""Where the elements of a value are after nodes that only move them, found with numbered elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, integers
from bridge.hub.recipe import Array
from bridge.passes.moves import permutation

_MOVES = frozenset(
    {"Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
_PRIMES = (2, 3, 5, 7, 11, 13)


def is_move(node: ir.Node) -> bool:
    """Whether a node places the elements of its first input elsewhere, or leaves some out."""
    return node.domain == "" and node.op_type in _MOVES


def sizes_of(model: ir.Model) -> dict[str, int]:
    """A small size for each symbolic axis of the inputs, all different."""
    names: dict[str, int] = {}
    for value in model.graph.inputs:
        for axis in value.shape or ():
            if not isinstance(axis, int) and axis.value is not None and axis.value not in names:
                names[axis.value] = _PRIMES[len(names) % len(_PRIMES)]
    return names


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
