"""Unused parts, the order of nodes and their names."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, floats, hub, ints, operators

from bridge.hub import metadata
from bridge.hub.check import check_model
from bridge.hub.metadata import ScopeEntry
from bridge.passes.naming import name_values
from bridge.passes.order import order_nodes
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes
from bridge.passes.sums import write_sums_as_additions
from bridge.passes.unused import drop_unused


def test_unused_nodes_go_and_unused_weights_are_listed() -> None:
    model = hub(
        "(float[N,2] x) => (float[N,2] y) { a = MatMul(x, w) b = Neg(a) y = Mul(x, v) }",
        trained={"w": floats(2, 2), "v": floats(2), "u": floats(3)},
        constants={"c": ints(1)},
    )
    dropped = drop_unused(attach_recipes(model))
    assert operators(dropped) == ["Mul"]
    assert list(dropped.graph.initializers) == ["v"]
    assert set(metadata.source_info(dropped).unused_weights) == {"u", "w"}
    assert sorted(metadata.source_tensors(dropped)) == ["u", "v", "w"]


def test_node_with_a_body_takes_what_it_read_along() -> None:
    model = hub(
        "(bool c, float[2] x) => (float[2] y) { a = Neg(x) b = If(c) <then_branch = t () => (float[2] p)"
        " { p = Abs(a) }, else_branch = e () => (float[2] q) { q = Mul(a, w) }> y = Exp(x) }",
        trained={"w": floats(2)},
    )
    dropped = drop_unused(attach_recipes(model))
    assert operators(dropped) == ["Exp"]
    assert metadata.source_info(dropped).unused_weights == ("w",)


def test_value_that_only_a_body_reads_stays() -> None:
    model = hub(
        "(bool c, float[2] x) => (float[2] y) { a = Neg(x) y = If(c) <then_branch = t () => (float[2] p)"
        " { u = Exp(a) p = Abs(a) }, else_branch = e () => (float[2] q) { q = Mul(a, w) }> }",
        trained={"w": floats(2)},
    )
    dropped = drop_unused(attach_recipes(model.clone(deep_copy=True)))
    assert operators(dropped) == ["Neg", "If"]
    assert "w" in dropped.graph.initializers
    assert_equivalent(model, dropped)


def test_optional_outputs_nobody_reads_go_variadic_ones_stay() -> None:
    model = hub(
        "(float[N,4,6,6] x) => (float y, float z) { y, i = MaxPool <kernel_shape=[2,2]> (x)"
        " z, r = Split <axis=1, num_outputs=2> (x) }"
    )
    dropped = apply(model)
    assert [len(node.outputs) for node in dropped.graph] == [1, 2]
    assert_equivalent(model, dropped)


def scoped(names: list[str]) -> list[ScopeEntry]:
    return [ScopeEntry(name, name.capitalize()) for name in names]


def test_names_come_from_modules_and_operators() -> None:
    model = hub(
        "(float[N,2,5,5] x) => (float y, float z) { n17 = Conv(x, k) n18 = Relu(n17) n19 = Add(n18, five)"
        " y = Relu(n19) n21, n22 = TopK(y, one) z = Neg(n21) }",
        trained={"k": floats(2, 2, 1, 1)},
        constants={"five": floats(2, 1, 1), "one": ints(1)},
    )
    for node, path in zip(model.graph, ["a.conv", "a", "a", "b", "", ""], strict=True):
        metadata.set_scope(node, scoped(path.split(".") if path else []))
    metadata.set_weight_info(
        model.graph.initializers["k"], metadata.WeightInfo("a/conv/kernel", "parameter", True)
    )
    model.graph.sort()
    named = name_values(infer_shapes(attach_recipes(model)))
    assert [[output.name for output in node.outputs] for node in named.graph] == [
        ["a.conv"],
        ["a.relu"],
        ["a.add"],
        ["y"],
        ["top_k", "top_k.indices"],
        ["z"],
    ]
    assert list(named.graph.initializers) == ["a/conv/kernel", "a.add.b", "top_k.k"]
    check_model(named, stage="in a test")
    assert named.graph.inputs[0].shape is not None
    assert str(named.graph.inputs[0].shape[0]) == "batch"


def test_names_are_unique_even_where_sources_collide() -> None:
    model = hub(
        "(float[N] relu) => (float[N] y) { a = Relu(relu) b = Relu(a) c = Mul(b, k) y = Relu(c) }",
        trained={"k": floats(1)},
    )
    for node in model.graph:
        metadata.set_scope(node, [])
    metadata.set_weight_info(model.graph.initializers["k"], metadata.WeightInfo("mul", "parameter", True))
    named = name_values(model.clone(deep_copy=True))
    names = [value.name for node in named.graph for value in node.outputs]
    assert names == ["relu_2", "relu_3", "mul_2", "y"]
    assert list(named.graph.initializers) == ["mul"]
    assert len({node.name for node in named.graph}) == 4
    assert_equivalent(model, named)


def test_constants_that_a_branch_gives_are_named() -> None:
    model = hub(
        "(bool c, float[2] x) => (float[2] y) { y = If(c) <then_branch = t () => (float[2] p, float[2] q)"
        " <float[2] p = {1, 2}, float[2] q = {3, 4}> { }, else_branch = e () => (float[2] r, float[2] s)"
        " { r = Abs(x) s = Neg(x) }> }"
    )
    named = name_values(model)
    branch = named.graph.node(0).attributes["then_branch"].as_graph()
    assert [value.name for value in branch.outputs] == ["constant", "constant_2"]
    assert list(branch.initializers) == ["constant", "constant_2"]


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_order_of_a_tensorflow_graph_depends_on_its_structure_only(shuffle: random.Random) -> None:
    text = (
        "(float[N] x) => (float[N] y, float[N] z) { a = Neg(x) b = Exp(a) c = Abs(x) d = Add(b, c)"
        " e = Relu(d) f = Mul(c, e) y = Sub(f, a) z = Tanh(b) }"
    )
    model = hub(text, framework="tf")
    nodes = list(model.graph)
    shuffle.shuffle(nodes)
    for node in list(model.graph):
        model.graph.remove(node)
    model.graph.extend(nodes)
    ordered = order_nodes(model)
    names = [node.outputs[0].name for node in ordered.graph]
    assert names == ["c", "a", "b", "d", "e", "f", "y", "z"]


def test_execution_order_is_kept_where_it_means_something() -> None:
    text = "(float[N] x) => (float[N] y) { a = Neg(x) b = Exp(x) y = Add(b, a) }"
    assert operators(order_nodes(hub(text, framework="torch"))) == ["Neg", "Exp", "Add"]
    assert operators(order_nodes(hub(text, framework="tf"))) == ["Exp", "Neg", "Add"]


def test_order_respects_what_bodies_read() -> None:
    model = hub(
        "(bool c, float[2] x) => (float[2] y) { a = Neg(x) y = If(c) <then_branch = t () => (float[2] p)"
        " { p = Abs(a) }, else_branch = e () => (float[2] q) { q = Exp(x) }> }",
        framework="tf",
    )
    first = model.graph[0]
    model.graph.remove(first)
    model.graph.append(first)
    assert operators(order_nodes(model)) == ["Neg", "If"]
    check_model(model, stage="in a test")


def test_sums_of_two_are_additions() -> None:
    model = hub("(float[N] x, float[N] y) => (float[N] z) { a = Sum(x, y) b = Sum(a, x, y) z = Sum(b) }")
    result = write_sums_as_additions(model.clone(deep_copy=True))
    assert operators(result) == ["Add", "Sum", "Sum"]
    assert_equivalent(model, result)
