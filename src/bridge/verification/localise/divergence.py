"""The first wrong node, by walking from a wrong output back to the last equal values."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.verification.localise.alike import relative_error
from bridge.verification.localise.pairing import Pairing, Status
from bridge.verification.localise.trace import Trace

Array = np.ndarray[Any, np.dtype[Any]]

_SAME = 1e-6
"""How far apart the sorted elements of two arrays with the same elements may be."""


@dataclass(frozen=True)
class Divergence:
    """Positions in the traces: of the first wrong value, of the nodes since the last equal values, of those.

    `source` is the counterpart of the first wrong value, or the first node of the source that has no equal
    value in the target where no counterpart is known. `scrambled` says that the wrong value holds the right
    elements in another order.
    """

    target: int
    source: int | None
    target_block: tuple[int, ...]
    source_block: tuple[int, ...]
    last_equal: tuple[tuple[int, int], ...]
    scrambled: bool = False


def first_divergence(
    source: Trace,
    target: Trace,
    pairings: Sequence[Pairing],
    wrong: Sequence[tuple[int | None, int | None]],
    *,
    suspect_unknown: bool = True,
) -> Divergence | None:
    """Find the first wrong node.

    `wrong` are the positions of each wrong output in the source and in the target, None where it is no
    value of the trace. A value that is not equal is no fault where equal values follow on every way to
    the wrong outputs: it belongs to an operation that the models spell differently. Where the target gives
    a value as its output after which the source goes on, that value is the wrong one. `suspect_unknown`: a
    value without a counterpart that leads to a different one may be the wrong one.

    None where every value is equal.
    """
    ends = [end for _, end in wrong if end is not None] or _ends(target)
    region = _unequal_behind(
        target, ends, {i for i, each in enumerate(pairings) if each.status is Status.EQUAL}
    )
    source_region = _source_region(source, pairings, [end for end, _ in wrong if end is not None])
    if not region:
        given = next((end for origin, end in wrong if origin in source_region and end is not None), None)
        if given is None:
            return None
        unmet = _unmet(source, source_region, pairings[given].equals)
        return _divergence(source, target, pairings, given, unmet, region, source_region, False)
    first = _first(target, pairings, region, suspect_unknown=suspect_unknown)
    counterpart = pairings[first].partner
    if counterpart is None:
        fed = {origin for each in _flowing(target, target.reads[first]) for origin in pairings[each].equals}
        counterpart = _unmet(source, source_region, fed)
    scrambled = False
    if counterpart is not None and pairings[first].status is Status.UNKNOWN:
        reordered = _reordered(source, target, pairings, first, {*source.reads[counterpart], *source_region})
        instead = _stands_in(source, target, pairings, first, _block(source, source_region, counterpart))
        stopped = _stopped(source, target, pairings, first, counterpart)
        if reordered is not None:
            first, counterpart = reordered
            scrambled = True
        elif instead is not None:
            first = instead
        elif stopped is not None:
            first = stopped
    return _divergence(source, target, pairings, first, counterpart, region, source_region, scrambled)


def _ends(trace: Trace) -> list[int]:
    """The values that nothing reads; without knowledge of what reads what, the last one."""
    if not trace.has_edges():
        return [len(trace.values) - 1] if trace.values else []
    return [position for position, readers in enumerate(trace.read_by) if not readers]


def _unequal_behind(trace: Trace, ends: Iterable[int], equal: set[int]) -> set[int]:
    """The values that lead to the ends without an equal value between."""
    if not trace.has_edges():
        return set(range(len(trace.values))) - equal
    found: set[int] = set()
    waiting = [end for end in ends if end not in equal]
    while waiting:
        position = waiting.pop()
        if position not in found:
            found.add(position)
            waiting.extend(each for each in trace.reads[position] if each not in equal)
    return found


def _source_region(source: Trace, pairings: Sequence[Pairing], ends: Sequence[int]) -> set[int]:
    equal = {position for each in pairings for position in each.equals}
    return _unequal_behind(source, ends or _ends(source), equal)


def _unmet(source: Trace, region: set[int], fed: Collection[int]) -> int | None:
    """The first value of the source that nothing in the target equals, if possible made of one of `fed`."""
    if not region:
        return None
    flowing = {position for position in region if source.depends_on_inputs[position]}
    heads = _heads(source, flowing or region, region)
    return _deepest(source, [each for each in heads if not set(source.reads[each]).isdisjoint(fed)] or heads)


def _first(target: Trace, pairings: Sequence[Pairing], region: set[int], *, suspect_unknown: bool) -> int:
    """The wrong value that no other wrong value of the region leads to.

    There may be several, since models spell operations differently. One that leads to an equal value as
    well is right, and a mask that is made from the inputs is nearer to them than what it is applied to.
    """
    different = {position for position in region if pairings[position].status is Status.DIFFERENT}
    flowing = {position for position in region if target.depends_on_inputs[position]}
    if different and suspect_unknown and target.has_edges():
        different |= _computed_for(target, different, flowing)
    eligible = different or flowing or region
    heads = _heads(target, eligible, region)
    heads = [each for each in heads if not _leads_to_equal(target, pairings, each)] or heads
    return heads[0] if different else _deepest(target, heads)


_MOVES = re.compile(
    "cast|concat|expand|flatten|gather|identity|pad|reshape|slice|split|squeeze|tile|transpose"
)


def _computed_for(trace: Trace, wrong: set[int], region: set[int]) -> set[int]:
    """The values of the region without a counterpart that lead to wrong ones, unless they only move."""
    found: set[int] = set()
    waiting = list(wrong)
    while waiting:
        for each in trace.reads[waiting.pop()]:
            if each in region and each not in found and each not in wrong:
                found.add(each)
                waiting.append(each)
    return {each for each in found if not _MOVES.search(trace.values[each].operator.lower())}


def _heads(trace: Trace, eligible: set[int], region: set[int]) -> list[int]:
    behind = _leads_from(trace, eligible, region)
    return sorted(position for position in eligible if position not in behind)


def _deepest(trace: Trace, positions: Sequence[int]) -> int:
    """The value that is farthest from the inputs, the first of several."""
    depths = _depths(trace)
    return max(positions, key=lambda each: (depths[each], -each))


def _leads_from(trace: Trace, starts: set[int], region: set[int]) -> set[int]:
    """The values of the region that others of it, the starts, lead to."""
    found: set[int] = set()
    waiting = [reader for start in starts for reader in trace.read_by[start] if reader in region]
    while waiting:
        position = waiting.pop()
        if position not in found:
            found.add(position)
            waiting.extend(reader for reader in trace.read_by[position] if reader in region)
    return found


def _leads_to_equal(trace: Trace, pairings: Sequence[Pairing], start: int) -> bool:
    seen = {start}
    waiting = [start]
    while waiting:
        for reader in trace.read_by[waiting.pop()]:
            if pairings[reader].status is Status.EQUAL:
                return True
            if reader not in seen:
                seen.add(reader)
                waiting.append(reader)
    return False


def _depths(trace: Trace) -> list[int]:
    """How many operations the longest way from an input to each value has."""
    depths: list[int] = []
    for reads in trace.reads:
        depths.append(1 + max((depths[each] for each in reads), default=0))
    return depths


def _reordered(
    source: Trace, target: Trace, pairings: Sequence[Pairing], first: int, expected: set[int]
) -> tuple[int, int] | None:
    """A value that the wrong one was made from, with the elements of an expected one in another order; both.

    Two models may well order elements differently, but where all else is equal and the next value is not,
    the order is what differs. `expected` are positions in the source.
    """
    for position in target.reads[first]:
        pairing = pairings[position]
        if pairing.status is not Status.EQUAL or not target.depends_on_inputs[position]:
            continue
        array = target.values[position].array
        for each in sorted(expected):
            if _is_reordered(array, source.values[each].array):
                return position, each
        if not pairing.plain and pairing.partner is not None:
            return position, pairing.partner
    return None


def _is_reordered(array: Array, expected: Array) -> bool:
    """Whether two arrays have one shape and the same elements, but not in the same places."""
    if array.shape != expected.shape or relative_error(expected, array) <= _SAME:
        return False
    return relative_error(np.sort(expected, axis=None), np.sort(array, axis=None)) <= _SAME


def _stands_in(
    source: Trace, target: Trace, pairings: Sequence[Pairing], first: int, expected: Sequence[int]
) -> int | None:
    """The value that the target reads where the source reads an expected one; it equals another one.

    Two poolings of which one should count its padding are equal if both do: what reads them is the first
    value without an equal one. `expected` are positions in the source, of one operation.
    """
    module = source.values[expected[0]].module
    given = {each for position in expected for each in _flowing(source, source.reads[position])}
    given = {each for each in given if not module or source.values[each].module != module}
    read = _flowing(target, target.reads[first])
    if any(given & set(pairings[each].equals) for each in read):
        return None
    for result in expected:
        for reader in set(source.read_by[result]).difference(expected):
            wanted = _flowing(source, source.reads[reader])
            if len(wanted) == len(read) > 1 and all(
                origin == result or origin in pairings[each].equals
                for origin, each in zip(wanted, read, strict=True)
            ):
                return read[wanted.index(result)]
    return None


def _flowing(trace: Trace, positions: Sequence[int]) -> list[int]:
    return [position for position in positions if trace.depends_on_inputs[position]]


def _stopped(
    source: Trace, target: Trace, pairings: Sequence[Pairing], first: int, counterpart: int
) -> int | None:
    """The value after which the target leaves a module that the source goes on in."""
    module = source.values[counterpart].module
    for position in target.reads[first]:
        origins = pairings[position].equals
        if target.values[position].module == target.values[first].module or not module:
            continue
        # Later values that equal it are copies, which the source's next module may make first of all.
        fed = not set(origins).isdisjoint(source.reads[counterpart])
        if fed and _is_within(source.values[min(origins)].module, module):
            return position
    return None


def _is_within(inner: str, outer: str) -> bool:
    """Whether a module is another one or a part of it; everything is a part of the one call around all."""
    return inner == outer or ("/" in outer and inner.startswith(f"{outer}/"))


def _divergence(
    source: Trace,
    target: Trace,
    pairings: Sequence[Pairing],
    first: int,
    counterpart: int | None,
    region: set[int],
    source_region: set[int],
    scrambled: bool,
) -> Divergence:
    block = _block(target, region | {first}, first)
    source_block = () if counterpart is None else _block(source, source_region | {counterpart}, counterpart)
    fed = {each for position in block for each in target.reads[position]} - set(block)
    last_equal = []
    for position in sorted(fed):
        origin = pairings[position].partner
        if pairings[position].status is Status.EQUAL and origin is not None:
            last_equal.append((origin, position))
    return Divergence(first, counterpart, block, source_block, tuple(last_equal), scrambled)


def _block(trace: Trace, region: set[int], first: int) -> tuple[int, ...]:
    """The wrong node and the nodes of the region in the same module, or that it is made from."""
    module = trace.values[first].module
    behind = {first}
    for position in sorted(region, reverse=True):
        if position < first and any(reader in behind for reader in trace.read_by[position]):
            behind.add(position)
    same = {each for each in region if module and trace.values[each].module == module and each >= first}
    return tuple(sorted(behind | same))
