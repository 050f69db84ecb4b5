"""The module tree of the emitted source: which class every node, layer and tensor belongs to.

Scopes of real models are dirty. A node without one takes the common scope of its consumers; a scope
that was called twice is one module called twice; a scope whose nodes do not form a convex region of
the graph is dissolved into its parent, while its tensors keep their paths.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.metadata import Scope, ScopeEntry

CONTAINERS = frozenset({"ModuleList", "ModuleDict"})
"""Types that hold modules and are never called themselves."""

Step = tuple[ScopeEntry, ...]
"""One level of the emitted tree: usually one entry of the scope, several where levels were dissolved."""


@dataclass(eq=False)
class Region:
    """One call of one module: the nodes and inner calls that its forward method consists of, in order."""

    path: tuple[str, ...]
    type: str
    call: tuple[int, ...]
    items: list[ir.Node | Region] = field(default_factory=list)

    def nodes(self) -> Iterable[ir.Node]:
        """All nodes of the region and of the regions in it, in order."""
        for item in self.items:
            if isinstance(item, Region):
                yield from item.nodes()
            else:
                yield item


def complete_scopes(nodes: Sequence[ir.Node]) -> dict[ir.Node, Scope]:
    """The scope of every node; a node without one takes the common scope of its consumers.

    `nodes` are in topological order. A node that nothing with a scope consumes belongs to the root.
    """
    scopes: dict[ir.Node, Scope] = {}
    for node in reversed(nodes):
        scope = metadata.scope_of(node)
        if scope is None:
            consumers = [
                scopes[user] for output in node.outputs for user, _ in output.uses() if user in scopes
            ]
            escapes = any(output.is_graph_output() for output in node.outputs)
            scope = () if escapes or not consumers else common_prefix(consumers)
        scopes[node] = scope
    return scopes


def common_prefix(scopes: Sequence[Scope]) -> Scope:
    """The longest scope that all of them start with."""
    first, *rest = scopes
    length = 0
    while length < len(first) and all(len(each) > length and each[length] == first[length] for each in rest):
        length += 1
    return first[:length]


def arrange(
    nodes: Sequence[ir.Node], scopes: Mapping[ir.Node, Scope], *, root_type: str, dissolved: Iterable[Scope]
) -> Region:
    """Arrange nodes into nested regions, each convex and in topological order.

    `dissolved` are scopes that must not become regions of their own (a module that is a single native
    layer, a trivial one). Scopes that are not convex are dissolved as well.
    """
    order = {node: index for index, node in enumerate(nodes)}
    unwanted = set(dissolved)
    steps: dict[ir.Node, tuple[Step, ...]] = {}
    for node in nodes:
        scope = scopes[node]
        levels: list[Step] = []
        pending: Step = ()
        for depth, entry in enumerate(scope):
            pending = (*pending, entry)
            if entry.type not in CONTAINERS and scope[: depth + 1] not in unwanted:
                levels.append(pending)
                pending = ()
        steps[node] = tuple(levels)
    return _region(list(nodes), steps, order, path=(), type_=root_type, call=(), depth=0)


def _region(
    nodes: list[ir.Node],
    steps: dict[ir.Node, tuple[Step, ...]],
    order: Mapping[ir.Node, int],
    *,
    path: tuple[str, ...],
    type_: str,
    call: tuple[int, ...],
    depth: int,
) -> Region:
    while True:
        groups: dict[Step, list[ir.Node]] = {}
        for node in nodes:
            if len(steps[node]) > depth:
                groups.setdefault(steps[node][depth], []).append(node)
        member: dict[ir.Node, Step | ir.Node] = {
            node: steps[node][depth] if len(steps[node]) > depth else node for node in nodes
        }
        ordered, cyclic = _schedule(nodes, member, order)
        if not cyclic:
            break
        for step in cyclic:
            for node in groups[step]:
                levels = steps[node]
                merged = ((*step, *levels[depth + 1]),) if len(levels) > depth + 1 else ()
                steps[node] = (*levels[:depth], *merged, *levels[depth + 2 :])
    region = Region(path, type_, call)
    for item in ordered:
        if isinstance(item, ir.Node):
            region.items.append(item)
            continue
        region.items.append(
            _region(
                groups[item],
                steps,
                order,
                path=(*path, *(entry.name for entry in item)),
                type_=item[-1].type,
                call=(*call, *(entry.call for entry in item)),
                depth=depth + 1,
            )
        )
    return region


def _schedule(
    nodes: Sequence[ir.Node], member: Mapping[ir.Node, Step | ir.Node], order: Mapping[ir.Node, int]
) -> tuple[list[Step | ir.Node], list[Step]]:
    """A stable topological order of the groups, or the groups that stand in the way of one."""
    first: dict[Step | ir.Node, int] = {}
    for node in nodes:
        first.setdefault(member[node], order[node])
    successors: dict[Step | ir.Node, set[Step | ir.Node]] = {each: set() for each in first}
    waiting: dict[Step | ir.Node, int] = dict.fromkeys(first, 0)
    for node in nodes:
        for producer in _producers(node):
            before, after = member.get(producer), member[node]
            if before is None or before == after or after in successors[before]:
                continue
            successors[before].add(after)
            waiting[after] += 1
    ready = [(first[each], number, each) for number, each in enumerate(first) if waiting[each] == 0]
    heapq.heapify(ready)
    numbers = {each: number for number, each in enumerate(first)}
    result: list[Step | ir.Node] = []
    while ready:
        _, _, item = heapq.heappop(ready)
        result.append(item)
        for successor in successors[item]:
            waiting[successor] -= 1
            if waiting[successor] == 0:
                heapq.heappush(ready, (first[successor], numbers[successor], successor))
    if len(result) == len(first):
        return result, []
    stuck = [each for each in first if waiting[each] > 0 and not isinstance(each, ir.Node)]
    return [], [each for each in stuck if _in_cycle(each, successors)]


def _in_cycle(start: Step | ir.Node, successors: Mapping[Step | ir.Node, set[Step | ir.Node]]) -> bool:
    seen: set[Step | ir.Node] = set()
    stack = list(successors[start])
    while stack:
        item = stack.pop()
        if item == start:
            return True
        if item not in seen:
            seen.add(item)
            stack.extend(successors[item])
    return False


def _producers(node: ir.Node) -> Iterable[ir.Node]:
    for value in read_values(node):
        producer = value.producer()
        if producer is not None:
            yield producer


def read_values(node: ir.Node) -> list[ir.Value]:
    """The values a node reads: its inputs, and what its subgraphs capture, without repetition."""
    values: dict[ir.Value, None] = {}
    for value in node.inputs:
        if value is not None:
            values[value] = None
    for subgraph in subgraphs(node):
        inner = {*subgraph.inputs, *subgraph.initializers.values()}
        inner.update(output for each in subgraph for output in each.outputs)
        captured = [value for each in subgraph for value in read_values(each)]
        values.update(dict.fromkeys(value for value in (*captured, *subgraph.outputs) if value not in inner))
    return list(values)


def subgraphs(node: ir.Node) -> Iterable[ir.Graph]:
    """The graphs that a control-flow node holds as attributes."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def with_inner(nodes: Iterable[ir.Node]) -> Iterable[ir.Node]:
    """Each node, followed by those of its subgraphs, whatever their depth."""
    for node in nodes:
        yield node
        for subgraph in subgraphs(node):
            yield from with_inner(subgraph)


def home_nodes(nodes: Iterable[ir.Node]) -> dict[ir.Node, ir.Node]:
    """For every node, those inside subgraphs included, the node of the main graph that holds it."""
    homes: dict[ir.Node, ir.Node] = {}
    for node in nodes:
        homes.update(dict.fromkeys(with_inner([node]), node))
    return homes
