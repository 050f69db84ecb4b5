"""Which value of the source each value of the target should equal, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    source: Trace, target: Trace, permutations: Mapping[str, Sequence[int]], tolerance: float
) -> list[Pairing]:
    """Pair by the names that a conversion recorded.

    `permutations` are by the target's names: axis i of the target's value is axis `permutation[i]` of the
    source's.
    """
    positions = {value.name: position for position, value in enumerate(source.values)}
    result = []
    for value in target.values:
        partner = None if value.source is None else positions.get(value.source)
        if partner is None:
            result.append(Pairing(Status.UNKNOWN))
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
    result = []
    for value in target.values:
        found = list(index.find_all(value.array, tolerance))
        if not found:
            result.append(Pairing(Status.UNKNOWN))
            continue
        shape = value.array.shape
        partner, alignment = min(
            found, key=lambda each: (not each[1].plain, source.values[each[0]].array.shape != shape, each[0])
        )
        equals = tuple(position for position, _ in found)
        result.append(Pairing(Status.EQUAL, partner, alignment.error, alignment.plain, equals))
    return result
