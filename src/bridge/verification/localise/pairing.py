"""Which value of the source each value of the target should equal, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np

from bridge.verification.localise.alike import Index, align, relative_error
from bridge.verification.localise.trace import Trace

Array = np.ndarray[Any, np.dtype[Any]]


class Status(Enum):
    """How a value of the target compares: `UNKNOWN` where nothing in the source is its counterpart."""

    EQUAL = "equal"
    DIFFERENT = "different"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Pairing:
    """For one value of the target: its counterpart's position in the source, and their distance.

    `plain` is False for an equal value whose elements are in an order that layouts do not explain.
    `equals` are all values of the source that it is equal to.
    """

    status: Status
    partner: int | None = None
    error: float | None = None
    plain: bool = True
    equals: tuple[int, ...] = ()


def pair_by_anchor(
    source: Trace,
    target: Trace,
    permutations: Mapping[str, Sequence[int]],
    index: Index,
    tolerance: float,
) -> list[Pairing]:
    """Pair by the names that a conversion recorded, and where there are none by value.

    `permutations` are by the target's names: axis i of the target's value is axis `permutation[i]` of the
    source's. `index` holds the values of the source.
    """
    positions = {value.name: position for position, value in enumerate(source.values)}
    result = []
    for value in target.values:
        partner = None if value.source is None else positions.get(value.source)
        if partner is None:
            # bridge itself stores some values in another order of elements; that order is right.
            result.append(replace(_by_value(source, value.array, index, tolerance), plain=True))
            continue
        array = source.values[partner].array
        moved = _moved(array, permutations.get(value.name))
        if moved.shape == value.array.shape:
            error = relative_error(moved, value.array)
        else:
            found = align(array, value.array, tolerance)
            error = relative_error(array, value.array) if found is None else found.error
        status = Status.EQUAL if error <= tolerance else Status.DIFFERENT
        result.append(Pairing(status, partner, error, equals=(partner,) if status is Status.EQUAL else ()))
    return result


def _moved(array: Array, permutation: Sequence[int] | None) -> Array:
    if permutation is None or sorted(permutation) != list(range(array.ndim)):
        return array
    return array.transpose(tuple(permutation))


def pair_by_value(source: Trace, target: Trace, index: Index, tolerance: float) -> list[Pairing]:
    """Pair the values that are equal up to the order of their axes; the others have no counterpart.

    `index` holds the values of the source.
    """
    return [_by_value(source, value.array, index, tolerance) for value in target.values]


def _by_value(source: Trace, array: Array, index: Index, tolerance: float) -> Pairing:
    found = list(index.find_all(array, tolerance))
    if not found:
        return Pairing(Status.UNKNOWN)
    partner, alignment = min(
        found,
        key=lambda each: (not each[1].plain, source.values[each[0]].array.shape != array.shape, each[0]),
    )
    equals = tuple(position for position, _ in found)
    return Pairing(Status.EQUAL, partner, alignment.error, alignment.plain, equals)
