"""The first wrong gradient, counted from the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bridge.verification.localise.alike import Index, align, relative_error
from bridge.verification.localise.pairing import Pairing, Status
from bridge.verification.localise.trace import INPUT, Trace, Value

_DETACHING = frozenset({"detach", "stopgradient"})


@dataclass(frozen=True)
class GradientDivergence:
    """The last value whose gradient is wrong, the source's counterpart, the distance, and what reads it.

    `reader` is the node whose backward computation is wrong, where one node alone reads the value in a way
    that its own gradient does not explain; positions are in the traces.
    """

    target: int
    source: int
    error: float
    reader: int | None


def first_wrong_gradient(
    source: Trace,
    target: Trace,
    pairings: Sequence[Pairing],
    permutations: Mapping[str, Sequence[int]],
    index: Index,
    tolerance: float,
) -> GradientDivergence | None:
    """The equal value nearest to the outputs whose gradient is not; None where all gradients are equal.

    A gradient that one side lacks counts as zeros. A value that is a copy of what it was made from has
    a part of that one's gradient, and is not looked at. Equal values at several places of the source have
    gradients of their own; any of them will do. `index` holds the values of the source.
    """
    for position in reversed(range(len(target.values))):
        pairing = pairings[position]
        if pairing.status is not Status.EQUAL or pairing.partner is None:
            continue
        if any(set(pairing.equals) & set(pairings[read].equals) for read in target.reads[position]):
            continue
        order = permutations.get(target.values[position].name)
        error = _error(source.values[pairing.partner], target.values[position], order, tolerance)
        if (
            error is None
            or error <= tolerance
            or _equal_elsewhere(source, target.values[position], index, tolerance)
        ):
            continue
        readers = [each for each in target.read_by[position] if each > position]
        suspects = [each for each in readers if not _gets_gradient(target.values[each])] or readers
        reader = _detached(target, [position, *suspects]) or next(iter(suspects), None)
        return GradientDivergence(position, pairing.partner, error, reader)
    return None


def _detached(target: Trace, positions: Sequence[int]) -> int | None:
    """The nearest operation before the positions that lets no gradient pass, on a way without gradients.

    What only reads such an operation's result has no gradient either, so that the first wrong one may be
    several operations later.
    """
    waiting, seen = list(positions), set(positions)
    while waiting:
        position = waiting.pop(0)
        operator = target.values[position].operator.lower().replace("_", "")
        if not _DETACHING.isdisjoint(operator.split(".")):
            return position
        for read in target.reads[position]:
            if read not in seen and not _gets_gradient(target.values[read]):
                seen.add(read)
                waiting.append(read)
    return None


def _equal_elsewhere(source: Trace, value: Value, index: Index, tolerance: float) -> bool:
    return any(
        (error := _error(source.values[other], value, None, tolerance)) is not None and error <= tolerance
        for other, _ in index.find_all(value.array, tolerance)
    )


def _gets_gradient(value: Value) -> bool:
    return value.gradient is not None and bool(np.any(value.gradient))


def _error(ours: Value, theirs: Value, order: Sequence[int] | None, tolerance: float) -> float | None:
    """The distance of two values' gradients; None where neither can have one."""
    if ours.array.dtype.kind != "f" or (ours.gradient is None and theirs.gradient is None):
        return None
    if any(each.gradient is None and each.operator == INPUT for each in (ours, theirs)):
        return None
    expected = np.zeros(ours.array.shape) if ours.gradient is None else ours.gradient
    found = np.zeros(theirs.array.shape) if theirs.gradient is None else theirs.gradient
    if order is not None and sorted(order) == list(range(expected.ndim)):
        expected = expected.transpose(tuple(order))
    error = relative_error(expected, found)
    if error > tolerance:
        alignment = align(expected, found, tolerance)
        return error if alignment is None else alignment.error
    return error
