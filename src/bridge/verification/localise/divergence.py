"""The first wrong node, by walking from a wrong output back to the last equal values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bridge.verification.localise.pairing import Pairing, Status
from bridge.verification.localise.trace import Trace


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
) -> Divergence | None:
    """Find the first wrong node.

    `wrong` are the positions of each wrong output in the source and in the target, None where it is no
    value of the trace. A value that is not equal is no fault where equal values follow on every way to
    the wrong outputs: it belongs to an operation that the models spell differently.

    None where every value is equal.
    """
    ends = [end for _, end in wrong if end is not None] or _ends(target)
    region = _unequal_behind(
        target, ends, {i for i, each in enumerate(pairings) if each.status is Status.EQUAL}
    )
    if not region:
        return None
    source_region = _source_region(source, pairings, [end for end, _ in wrong if end is not None])
    first = _first(target, pairings, region)
    reordered = _reordered(target, pairings, first)
    if reordered is not None:
        return _divergence(source, target, pairings, reordered, {reordered, *region}, source_region, True)
    return _divergence(source, target, pairings, first, region, source_region, False)


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
    equal = {each.partner for each in pairings if each.partner is not None and each.status is Status.EQUAL}
    return _unequal_behind(source, ends or _ends(source), equal)


def _first(target: Trace, pairings: Sequence[Pairing], region: set[int]) -> int:
    """The wrong value that no other wrong value of the region leads to.

    There may be several, since models spell operations differently. One that leads to an equal value as
    well is right, and a mask that is made from the inputs is nearer to them than what it is applied to.
    """
    different = {position for position in region if pairings[position].status is Status.DIFFERENT}
    flowing = {position for position in region if target.depends_on_inputs[position]}
    eligible = different or flowing or region
    behind = _leads_from(target, eligible, region)
    heads = sorted(position for position in eligible if position not in behind)
    heads = [each for each in heads if not _leads_to_equal(target, pairings, each)] or heads
    if different:
        return heads[0]
    depths = _depths(target)
    return max(heads, key=lambda each: (depths[each], -each))


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


def _reordered(target: Trace, pairings: Sequence[Pairing], first: int) -> int | None:
    """The earliest of the values before the first wrong one whose elements are in an unexplained order."""
    found = None
    waiting = list(target.reads[first])
    while waiting:
        position = waiting.pop()
        pairing = pairings[position]
        if pairing.status is Status.EQUAL and not pairing.plain:
            found = position if found is None else min(found, position)
            waiting.extend(target.reads[position])
    return found


def _divergence(
    source: Trace,
    target: Trace,
    pairings: Sequence[Pairing],
    first: int,
    region: set[int],
    source_region: set[int],
    scrambled: bool,
) -> Divergence:
    block = _block(target, region, first)
    partner = pairings[first].partner
    counterpart = partner
    if partner is None and source_region:
        flowing = [position for position in source_region if source.depends_on_inputs[position]]
        counterpart = min(flowing or source_region)
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
    scope = trace.values[first].scope
    behind = {first}
    for position in sorted(region, reverse=True):
        if position < first and any(reader in behind for reader in trace.read_by[position]):
            behind.add(position)
    same = {each for each in region if scope and trace.values[each].scope == scope and each >= first}
    return tuple(sorted(behind | same))
