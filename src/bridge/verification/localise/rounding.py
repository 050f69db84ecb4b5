"""The first value that the target rounds more than the source does, where both compute the same function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bridge.verification.localise.alike import relative_error
from bridge.verification.localise.divergence import Divergence, first_divergence
from bridge.verification.localise.pairing import Pairing, Status
from bridge.verification.localise.trace import Trace

Array = np.ndarray[Any, np.dtype[Any]]

_FACTORS = (16.0, 4.0)
"""By how many times the source's own error a value must be off; the lower one where none is by the higher."""


@dataclass(frozen=True)
class Rounding:
    """Where the target rounds too much.

    `pairings` tell of each value of the target whether its error is what the source's error explains;
    `target` has the values in its own precision, as float64. `source_error` is the source's at that place.
    """

    divergence: Divergence
    pairings: tuple[Pairing, ...]
    target: Trace
    error: float
    source_error: float


def first_rounding(
    source: Trace,
    own_source: Trace,
    target: Trace,
    own_target: Trace,
    pairings: Sequence[Pairing],
    outputs: Sequence[tuple[int | None, int | None]],
    least: float,
) -> Rounding | None:
    """Compare the values of both in their own precisions with those in float64.

    `source` and `target` are the traces in float64, whose values `pairings` hold to be the same. `outputs`
    are the positions of the outputs in both. An error up to `least` is no fault. None where no error is one.
    """
    recorded = any(value.source is not None for value in target.values)
    # A conversion's value without a record belongs to the next one that has one.
    paired = [
        Pairing(Status.UNKNOWN) if recorded and value.source is None else pairing
        for value, pairing in zip(target.values, pairings, strict=True)
    ]
    allowed = own_errors(source, own_source)
    values = _matched(target, own_target)
    errors = _errors(target, values)
    for factor in _FACTORS:
        judged = [
            _judged(pairing, error, allowed, factor, least)
            for pairing, error in zip(paired, errors, strict=True)
        ]
        if not any(each.status is Status.DIFFERENT for each in judged):
            continue
        divergence = first_divergence(source, target, judged, outputs, suspect_unknown=False)
        if divergence is None or judged[divergence.target].status is not Status.DIFFERENT:
            continue
        shown = [
            value if own is None else replace(value, array=own)
            for value, own in zip(target.values, values, strict=True)
        ]
        error = errors[divergence.target]
        assert error is not None
        return Rounding(
            divergence,
            tuple(judged),
            Trace(tuple(shown), target.feeds),
            error,
            _largest(paired[divergence.target], allowed),
        )
    return None


def own_errors(exact: Trace, own: Trace) -> list[float | None]:
    """How far each value of a trace in float64 is from itself in the model's own precision, relatively.

    None where the two traces do not both have it, or where it is not floating.
    """
    return _errors(exact, _matched(exact, own))


def _judged(
    pairing: Pairing, error: float | None, allowed: Sequence[float | None], factor: float, least: float
) -> Pairing:
    if pairing.status is not Status.EQUAL or error is None:
        return Pairing(Status.UNKNOWN)
    if error > max(factor * _largest(pairing, allowed), least):
        return Pairing(Status.DIFFERENT, pairing.partner, error)
    return pairing


def _largest(pairing: Pairing, errors: Sequence[float | None]) -> float:
    """The largest error of the equal values: a copy of a value may be rounded where the value is not."""
    return max((errors[each] or 0.0 for each in pairing.equals), default=0.0)


def _matched(exact: Trace, own: Trace) -> list[Array | None]:
    """The values in the model's own precision, as float64, in the order of the trace in float64."""
    by_name = {(name, number): array for name, number, array in _numbered(own)}
    found: list[Array | None] = []
    for name, number, array in _numbered(exact):
        value = by_name.get((name, number))
        if value is None or array.dtype.kind != "f" or value.shape != array.shape:
            found.append(None)
        else:
            found.append(value.astype(np.float64))
    return found


def _numbered(trace: Trace) -> list[tuple[str, int, Array]]:
    seen: Counter[str] = Counter()
    result = []
    for value in trace.values:
        result.append((value.name, seen[value.name], value.array))
        seen[value.name] += 1
    return result


def _errors(exact: Trace, own: Sequence[Array | None]) -> list[float | None]:
    return [
        None if array is None else relative_error(value.array, array)
        for value, array in zip(exact.values, own, strict=True)
    ]
