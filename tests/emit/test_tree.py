"""Regions: whatever the scopes of a graph say, the result is convex, ordered and complete."""

import onnx_ir as ir
from hypothesis import given
from hypothesis import strategies as st

from bridge.emit import tree
from bridge.hub import metadata
from bridge.hub.metadata import Scope, ScopeEntry


def entry(name: str, type_: str = "Block", call: int = 0) -> ScopeEntry:
    return ScopeEntry(name, type_, call)


@st.composite
def graphs(draw: st.DrawFn) -> list[ir.Node]:
    """Random directed acyclic graphs whose nodes carry random, contradictory scopes."""
    names = st.sampled_from(["a", "b", "c"])
    entries = st.builds(entry, names, st.sampled_from(["Block", "ModuleList"]), st.integers(0, 1))
    values = [ir.Value(name="x")]
    nodes = []
    for _ in range(draw(st.integers(1, 14))):
        inputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        node = ir.node("Sum", inputs)
        scope = draw(st.none() | st.lists(entries, max_size=3))
        metadata.set_scope(node, scope)
        nodes.append(node)
        values.append(node.outputs[0])
    return nodes


def check_order(region: tree.Region, seen: set[ir.Value]) -> None:
    """Every region can run from the values made before it, all of them, without interruption."""
    for item in region.items:
        members = set(item.nodes()) if isinstance(item, tree.Region) else {item}
        for node in members:
            for value in tree.read_values(node):
                producer = value.producer()
                assert producer is None or value in seen or producer in members
        if isinstance(item, tree.Region):
            check_order(item, set(seen))
        for node in members:
            seen.update(node.outputs)


@given(graphs())
def test_regions_are_convex_and_complete(nodes: list[ir.Node]) -> None:
    scopes = tree.complete_scopes(nodes)
    root = tree.arrange(nodes, scopes, root_type="Net", dissolved=())
    arranged = list(root.nodes())
    assert len(arranged) == len(nodes)
    assert set(arranged) == set(nodes)
    check_order(root, set())


@given(graphs())
def test_a_region_stands_at_a_path_its_nodes_have(nodes: list[ir.Node]) -> None:
    scopes = tree.complete_scopes(nodes)

    def check(region: tree.Region) -> None:
        for node in region.nodes():
            assert tuple(each.name for each in scopes[node])[: len(region.path)] == region.path
        for item in region.items:
            if isinstance(item, tree.Region):
                assert item.path[: len(region.path)] == region.path
                assert len(item.path) > len(region.path)
                check(item)

    check(tree.arrange(nodes, scopes, root_type="Net", dissolved=()))


def chain(*scopes: Scope | None) -> list[ir.Node]:
    value = ir.Value(name="x")
    nodes = []
    for scope in scopes:
        node = ir.node("Neg", [value])
        metadata.set_scope(node, scope)
        value = node.outputs[0]
        nodes.append(node)
    return nodes


def test_a_scope_that_is_interrupted_is_dissolved() -> None:
    inside, outside = (entry("a"),), (entry("b"),)
    nodes = chain(inside, outside, inside)
    root = tree.arrange(nodes, tree.complete_scopes(nodes), root_type="Net", dissolved=())
    assert root.items == nodes


def test_two_calls_of_a_module_are_two_regions_at_one_path() -> None:
    nodes = chain((entry("a", call=0),), (entry("a", call=0),), (entry("a", call=1),), (entry("a", call=1),))
    root = tree.arrange(nodes, tree.complete_scopes(nodes), root_type="Net", dissolved=())
    assert [item.path for item in root.items if isinstance(item, tree.Region)] == [("a",), ("a",)]


def test_a_node_without_scope_joins_its_consumers() -> None:
    x = ir.Value(name="x")
    shape = ir.node("Shape", [x])
    users = [ir.node("Reshape", [x, shape.outputs[0]]) for _ in range(2)]
    metadata.set_scope(users[0], (entry("a"), entry("b")))
    metadata.set_scope(users[1], (entry("a"), entry("c")))
    scopes = tree.complete_scopes([shape, *users])
    assert scopes[shape] == (entry("a"),)


def test_containers_do_not_become_regions() -> None:
    nodes = chain((entry("layers", "ModuleList"), entry("0")), (entry("layers", "ModuleList"), entry("1")))
    root = tree.arrange(nodes, tree.complete_scopes(nodes), root_type="Net", dissolved=())
    assert [item.path for item in root.items if isinstance(item, tree.Region)] == [
        ("layers", "0"),
        ("layers", "1"),
    ]
