"""Choosing a storage at every site so that as little data as possible is moved between them.

A base value with its maker and readers is a net; a net costs its size for every storage in which it
is needed beyond the first. Labels grow from the fixed sites (graph boundary, layout-sensitive and
unknown operators) along the heaviest nets first, then each site is revised until nothing improves.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.passes.layout.graph import LayoutGraph, Site
from bridge.passes.layout.relations import Fixed, Label
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


@dataclass
class _End:
    """One place where a site touches a net: its position among the site's operands or results."""

    site: int
    position: int
    is_result: bool
    perm: tuple[int, ...] | None


@dataclass
class _Net:
    dims: Dims | None
    ends: list[_End] = field(default_factory=list)
    size: int = 0

    def storage(self, end: _End, label: Label) -> Storage:
        """The storage of the base value that a label asks for at an end."""
        own = (label.results if end.is_result else label.operands)[end.position]
        base = own if end.perm is None else through(own, end.perm)
        return base if self.dims is None else without_idle_fold(base, self.dims)

    def cost(self, storages: set[Storage]) -> int:
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
        self._nets: list[_Net] = []
        self._ends: list[list[tuple[_Net, _End]]] = [[] for _ in graph.sites]
        self._sensitive = [False] * len(graph.sites)
        nets: dict[ir.Value, _Net] = {}
        for index, site in enumerate(graph.sites):
            for value, position, is_result in _touched(site):
                base, perm = graph.view(value)
                if graph.is_constant(base):
                    continue
                if base not in nets:
                    dims = graph.dims(base)
                    nets[base] = _Net(dims, size=_size(dims))
                    self._nets.append(nets[base])
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
        queue: list[tuple[int, int, int]] = []
        for index, site in enumerate(self._sites):
            if isinstance(site.relation, Fixed):
                site.label = site.label or site.relation.label
                self._sensitive[index] = site.relation.layout is not None
        for index, site in enumerate(self._sites):
            if site.label is not None:
                self._announce(index, queue)
        while queue:
            _, _, index = heapq.heappop(queue)
            if self._sites[index].label is None:
                self._sites[index].label = self._best(index)
                self._announce(index, queue)
        free = [index for index, site in enumerate(self._sites) if not isinstance(site.relation, Fixed)]
        for _ in range(_SWEEPS):
            changed = False
            for index in free:
                label = self._best(index)
                changed |= label != self._sites[index].label
                self._sites[index].label = label
            if not changed:
                return

    def _announce(self, index: int, queue: list[tuple[int, int, int]]) -> None:
        """Queue the unlabelled neighbours of a site; sensitive origins go first among equal sizes."""
        for net, _ in self._ends[index]:
            for end in net.ends:
                if self._sites[end.site].label is None:
                    heapq.heappush(queue, (-net.size, not self._sensitive[index], end.site))

    def _best(self, index: int) -> Label:
        """The cheapest label given the labelled neighbours; what the native region uses wins a tie."""
        site = self._sites[index]
        hints: tuple[list[list[Storage]], list[list[Storage]]] = (
            [[] for _ in site.operands],
            [[] for _ in site.results],
        )
        needed: dict[int, tuple[_Net, set[Storage], list[_End]]] = {}
        native: dict[int, set[Storage]] = {}
        for net, end in self._ends[index]:
            if id(net) not in needed:
                others = [each for each in net.ends if each.site != index]
                storages, hosts = set(), set()
                for other in others:
                    label = self._sites[other.site].label
                    if label is not None:
                        storage = net.storage(other, label)
                        storages.add(storage)
                        if self._sensitive[other.site]:
                            hosts.add(storage)
                needed[id(net)] = (net, storages, [])
                native[id(net)] = hosts
            _, storages, ends = needed[id(net)]
            ends.append(end)
            hosts = native[id(net)]
            ordered = sorted(
                storages, key=lambda each: (each not in hosts, not each.is_plain, each.order, each.fold or ())
            )
            hints[end.is_result][end.position] = [
                each if end.perm is None else seen_through(each, end.perm) for each in ordered
            ]
        best: Label | None = None
        best_cost: tuple[float, ...] = ()
        for label in site.relation.labels(*hints):
            cost = 0
            agreement = 0
            for key, (net, storages, ends) in needed.items():
                own = {net.storage(end, label) for end in ends}
                cost += net.cost(storages | own)
                agreement += len(own & native[key])
            moved = sum(not each.is_plain for each in (*label.operands, *label.results))
            if best is None or (cost, -agreement, moved) < best_cost:
                best, best_cost = label, (cost, -agreement, moved)
        assert best is not None
        if not isinstance(site.relation, Fixed):
            self._sensitive[index] = best_cost[1] < 0
        return best


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
