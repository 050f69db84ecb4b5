"""Choosing a storage at every site so that as little data as possible is moved between them.

A base value with its maker and readers is a net; a net costs its size for every storage in which it
is needed beyond the first. The native region grows from the layout-sensitive operators along the
heaviest nets first, as far as it costs nothing; everything else starts as the hub has it. Then each
site is revised until nothing improves.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import onnx_ir as ir

from bridge.passes.layout.graph import LayoutGraph, Site
from bridge.passes.layout.relations import Fixed, Joined, Label
from bridge.passes.layout.storage import (
    Dims,
    Storage,
    distinction,
    plain,
    seen_through,
    through,
    without_idle_fold,
)

_PER_MOVE = 256
"""The fixed cost of a transpose in elements: two small ones are worse than one a little larger."""

_PER_RESHAPE = 16
"""The cost of storages that differ only in where axes of size 1 stand."""

_DYNAMIC = 16
"""The size assumed for a dynamic axis other than the first."""

_SWEEPS = 16
"""How often all sites are revised at most; each revision lowers the total cost."""


@dataclass
class _End:
    """One place where a site touches a net: its position among the site's operands or results."""

    site: int
    position: int
    is_result: bool
    perm: tuple[int, ...] | None


@dataclass
class _Net:
    """A base value with everything that makes or reads it; `size` is what moving it once costs."""

    dims: Dims | None
    ends: list[_End] = field(default_factory=list)
    size: int = 0

    def storage(self, end: _End, label: Label) -> Storage:
        """The storage of the base value that a label asks for at an end."""
        own = (label.results if end.is_result else label.operands)[end.position]
        base = own if end.perm is None else through(own, end.perm)
        return base if self.dims is None else without_idle_fold(base, self.dims)

    def cost(self, storages: set[Storage]) -> int:
        """What it costs to have the value in all these storages; undoing a fold takes three steps."""
        if len(storages) < 2 or self.dims is None:
            return 0
        different = {distinction(storage, self.dims) for storage in storages}
        folded = any(fold is not None for _, fold in different)
        moved = len(different) - 1
        return moved * self.size * (3 if folded else 1) + (len(storages) - 1 - moved) * _PER_RESHAPE


def choose(graph: LayoutGraph) -> None:
    """Set the label of every site."""
    _Chooser(graph).run()


class _Chooser:
    def __init__(self, graph: LayoutGraph) -> None:
        self._sites = graph.sites
        self._ends: list[list[tuple[_Net, _End]]] = [[] for _ in graph.sites]
        self._native = [False] * len(graph.sites)
        nets: dict[ir.Value, _Net] = {}
        for index, site in enumerate(graph.sites):
            for value, position, is_result in _touched(site):
                base, perm = graph.view(value)
                if graph.is_constant(base):
                    continue
                if base not in nets:
                    dims = graph.dims(base)
                    nets[base] = _Net(dims, size=_size(dims))
                end = _End(index, position, is_result, perm)
                nets[base].ends.append(end)
                self._ends[index].append((nets[base], end))
        for index, site in enumerate(graph.sites):
            if site.captured:
                self._pin_captures(graph, index, site, nets)

    def _pin_captures(self, graph: LayoutGraph, index: int, site: Site, nets: dict[ir.Value, _Net]) -> None:
        """A subgraph reads what it captures as the hub says: count that as further operands of its node."""
        assert isinstance(site.relation, Fixed)
        label = site.relation.label
        for value in site.captured:
            base, perm = graph.view(value)
            if base not in nets:
                continue
            end = _End(index, len(label.operands), False, perm)
            label = label._replace(operands=(*label.operands, plain(len(graph.dims(value) or ()))))
            nets[base].ends.append(end)
            self._ends[index].append((nets[base], end))
        site.label = label

    def run(self) -> None:
        queue: list[tuple[bool, int, int]] = []
        for index, site in enumerate(self._sites):
            if isinstance(site.relation, Fixed):
                site.label = site.label or site.relation.label
                self._native[index] = site.relation.layout is not None
        for index, site in enumerate(self._sites):
            if site.label is not None:
                self._announce(index, queue)
        while queue:
            _, _, index = heapq.heappop(queue)
            if self._sites[index].label is None:
                self._settle(index)
                self._announce(index, queue)
        free = [index for index, site in enumerate(self._sites) if not isinstance(site.relation, Fixed)]
        for _ in range(_SWEEPS):
            changes = [self._settle(index) for index in free]
            if not any(changes):
                return

    def _announce(self, index: int, queue: list[tuple[bool, int, int]]) -> None:
        """Queue the unlabelled neighbours of a site: those of the native region first, then by size.

        A concatenation waits for the rest of its region, because its label joins those of its operands.
        """
        for net, _ in self._ends[index]:
            for end in net.ends:
                site = self._sites[end.site]
                if site.label is None:
                    size = 0 if isinstance(site.relation, Joined) else net.size
                    heapq.heappush(queue, (not self._native[index], -size, end.site))

    def _settle(self, index: int) -> bool:
        """Give a site the cheapest label for its labelled neighbours; answers whether that is a new one.

        A site without a label chooses between the native region's storages, which win a tie, and the
        hub's own; one that has a label leaves it only for a cheaper one.
        """
        site = self._sites[index]
        current = site.label
        hints: tuple[list[list[Storage]], list[list[Storage]]] = (
            [[] for _ in site.operands],
            [[] for _ in site.results],
        )
        surroundings: dict[int, _Surrounding] = {}
        for net, end in self._ends[index]:
            if id(net) not in surroundings:
                surroundings[id(net)] = self._surrounding(net, index)
            around = surroundings[id(net)]
            around.ends.append(end)
            offered = around.native if current is None else around.native | around.others
            ordered = sorted(
                offered,
                key=lambda each: (each not in around.native, not each.is_plain, each.order, each.fold or ()),
            )
            hints[end.is_result][end.position] = [
                each if end.perm is None else seen_through(each, end.perm) for each in ordered
            ]
        choices = list(site.relation.labels(*hints))
        if current is not None:
            choices.insert(0, current)
        rated = [
            (_rating(label, surroundings.values(), tie_break=current is None), label) for label in choices
        ]
        _, best = min(rated, key=lambda each: each[0])
        site.label = best
        self._native[index] = any(
            around.native & {around.net.storage(end, best) for end in around.ends}
            for around in surroundings.values()
        )
        return best != current

    def _surrounding(self, net: _Net, index: int) -> _Surrounding:
        """The storages in which a site's labelled neighbours have a base value."""
        result = _Surrounding(net, set(), set(), [])
        for end in net.ends:
            label = self._sites[end.site].label
            if end.site != index and label is not None:
                storages = result.native if self._native[end.site] else result.others
                storages.add(net.storage(end, label))
        return result


class _Surrounding(NamedTuple):
    """What a site sees of a net: the storages used by the native region and by others, and its own ends."""

    net: _Net
    native: set[Storage]
    others: set[Storage]
    ends: list[_End]


def _rating(label: Label, surroundings: Iterable[_Surrounding], *, tie_break: bool) -> tuple[int, int, int]:
    """The cost of a label, then how little it agrees with the native region, then how much it moves."""
    cost = agreement = 0
    for net, native, others, ends in surroundings:
        own = {net.storage(end, label) for end in ends}
        cost += net.cost(native | others | own)
        agreement += len(own & native)
    if not tie_break:
        return cost, 0, 0
    return cost, -agreement, sum(not each.is_plain for each in (*label.operands, *label.results))


def _touched(site: Site) -> Iterator[tuple[ir.Value, int, bool]]:
    for position, value in enumerate(site.operands):
        yield value, position, False
    for position, value in enumerate(site.results):
        yield value, position, True


def _size(dims: Dims | None) -> int:
    if dims is None:
        return 0
    sizes = [dim if isinstance(dim, int) else _DYNAMIC if axis else 1 for axis, dim in enumerate(dims)]
    return _PER_MOVE + math.prod(sizes)
