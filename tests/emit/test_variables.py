"""Names of variables: what a value is for, where that shows."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.emit.names import Namespace
from bridge.emit.variables import GENERIC, Layers, Variables

FLOAT, INT, BOOL = (ir.TensorType(each) for each in (ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.BOOL))
_SHAPE = (2, 3, 4, 5)


def value(name: str, kind: ir.TensorType = FLOAT, shape: Sequence[int] = _SHAPE) -> ir.Value:
    return ir.Value(name=name, type=kind, shape=ir.Shape(shape))


def node(op: str, *inputs: ir.Value, kind: ir.TensorType = FLOAT, shape: Sequence[int] = _SHAPE) -> ir.Node:
    made = ir.node(op, list(inputs))
    made.outputs[0].type, made.outputs[0].shape = kind, ir.Shape(shape)
    return made


def named(
    inputs: Sequence[ir.Value],
    items: Sequence[ir.Node],
    *,
    layers: dict[ir.Node, tuple[str, str]] | None = None,
    taken: Sequence[str] = (),
    kept: bool = False,
) -> list[str]:
    """The names of the parameters and of each item's first result; `layers` are attribute and type."""
    calls = layers or {}
    last = {each: index for index, item in enumerate(items) for each in item.inputs}
    variables = Variables(
        Namespace(taken),
        Layers(
            lambda item: calls[item][0] if item in calls else None,
            lambda item: calls[item][1] if item in calls else None,
            lambda item: list(dict.fromkeys(item.inputs)),
            lambda item: list(item.outputs),
        ),
        items,
        {*inputs, *(each for item in items for each in item.outputs)},
    )
    found = [variables.keep(each, str(each.name)) if kept else variables.parameter(each) for each in inputs]
    for index, item in enumerate(items):
        dead = [each for each in dict.fromkeys(item.inputs) if last[each] <= index]
        found += variables.assign(item, list(item.outputs), dead)
    return found


def test_data_on_its_way_keeps_one_name() -> None:
    x = value("a")
    first = node("Relu", x)
    second = node("Exp", first.outputs[0])
    assert named([x], [first, second]) == ["x", "x", "x"]


def test_a_branch_beside_data_that_is_read_again() -> None:
    x = value("a")
    branch = node("Conv", x)
    total = node("Add", x, branch.outputs[0])
    assert named([x], [branch, total], layers={branch: ("conv1", "Conv")}) == ["x", "y", "x"]


def test_layers_that_read_the_same_value_give_their_names() -> None:
    x = value("a")
    gate, up = node("MatMul", x), node("MatMul", x)
    product = node("Mul", gate.outputs[0], up.outputs[0])
    layers = {gate: ("gate_proj", "Dense"), up: ("up_proj", "Dense")}
    assert named([x], [gate, up, product], layers=layers) == ["x", "gate_proj", "up_proj", "x"]


def test_other_kinds_of_layers_do_not() -> None:
    x = value("a")
    conv, pool = node("Conv", x), node("MaxPool", x)
    layers = {conv: ("conv", "Conv"), pool: ("pool", "Pool")}
    assert named([x], [conv, pool, node("Add", conv.outputs[0], pool.outputs[0])], layers=layers) == [
        "x",
        "y",
        "x",
        "y",
    ]


def attention() -> tuple[list[ir.Value], list[ir.Node], dict[ir.Node, tuple[str, str]]]:
    x, mask = value("a"), value("b", BOOL)
    q, k, v = node("MatMul", x), node("MatMul", x), node("MatMul", x)
    turned = node("Transpose", k.outputs[0])
    hidden = node("Where", mask)
    result = node("Attention", q.outputs[0], turned.outputs[0], v.outputs[0], hidden.outputs[0])
    layers = {q: ("to_q", "Dense"), k: ("to_k", "Dense"), v: ("to_v", "Dense")}
    return [x, mask], [q, k, v, turned, hidden, result], layers


def test_operands_of_attention() -> None:
    inputs, items, layers = attention()
    assert named(inputs, items, layers=layers) == [
        "x",
        "mask",
        "query",
        "key",
        "value",
        "key",
        "bias",
        "attended",
    ]


def test_an_operand_that_something_else_reads_too() -> None:
    inputs, items, layers = attention()
    items.append(node("Add", items[0].outputs[0], items[-1].outputs[0]))
    assert named(inputs, items, layers=layers)[2] == "to_q"


def test_rotated_queries_keep_their_name_and_angles_theirs() -> None:
    x, angles = value("a"), value("b", shape=(4, 5))
    cosine = node("Cos", angles, shape=(4, 5))
    q, k = node("MatMul", x), node("MatMul", x)
    turned = [node("Mul", each.outputs[0], cosine.outputs[0]) for each in (q, k)]
    result = node("Attention", turned[0].outputs[0], turned[1].outputs[0], x)
    layers = {q: ("q_proj", "Dense"), k: ("k_proj", "Dense")}
    assert named([x, angles], [cosine, q, k, *turned, result], layers=layers) == [
        "x",
        "y",
        "cosine",
        "query",
        "key",
        "query",
        "key",
        "attended",
    ]


def test_truth_values_are_masks_and_counts_of_them_are_not() -> None:
    ids = value("ids", INT)
    mask = node("Equal", ids, kind=BOOL)
    count = node("Cast", mask.outputs[0], kind=INT)
    assert named([ids], [mask, count], kept=True) == ["ids", "mask", "x"]


def test_what_is_looked_up() -> None:
    x = value("a", INT)
    rows = node("Gather", x)
    assert named([x], [rows], layers={rows: ("embedding", "nn.Embedding")}) == ["ids", "x"]


def test_names_of_inputs_are_not_given_to_other_values() -> None:
    image = value("image")
    first = node("Relu", image)
    assert named([image], [first, node("Exp", first.outputs[0])], kept=True) == ["image", "x", "x"]


def test_taken_names_get_numbers() -> None:
    inputs, items, layers = attention()
    assert named(inputs, items, layers=layers, taken=["query", "x"])[:3] == ["y", "mask", "query2"]


def test_results_of_recurrent_layers() -> None:
    x = value("a")
    layer = ir.node("LSTM", [x], num_outputs=3)
    assert named([x], [layer]) == ["x", "x", "hidden", "cell"]


@given(st.data())
def test_no_value_takes_the_name_of_one_that_is_read_later(data: st.DataObject) -> None:
    kinds = st.sampled_from([FLOAT, INT, BOOL])
    inputs = [value(f"in{index}", data.draw(kinds)) for index in range(data.draw(st.integers(1, 3)))]
    known, items = list(inputs), []
    layers: dict[ir.Node, tuple[str, str]] = {}
    for _ in range(data.draw(st.integers(1, 14))):
        op = data.draw(
            st.sampled_from(["Add", "Relu", "Where", "Attention", "Cos", "LSTM", "Dense", "Equal"])
        )
        wanted = {"Relu": 1, "Cos": 1, "LSTM": 1, "Dense": 1, "Attention": 3}.get(op, 2)
        read = [data.draw(st.sampled_from(known)) for _ in range(wanted)]
        made = node(op, *read, kind=data.draw(kinds))
        if op == "Dense":
            layers[made] = (data.draw(st.sampled_from(["query", "x", "proj", "layers_0"])), "Dense")
        items.append(made)
        known.append(made.outputs[0])
    found = dict(zip(known, named(inputs, items, layers=layers, taken=["query"]), strict=True))
    holder: dict[str, ir.Value] = {found[each]: each for each in inputs}
    assert len(holder) == len(inputs)
    for item in items:
        assert all(holder[found[each]] is each for each in item.inputs)
        holder[found[item.outputs[0]]] = item.outputs[0]


@pytest.mark.parametrize("count", [1, 6, 9])
def test_there_are_always_more_generic_names(count: int) -> None:
    inputs = [value(str(index)) for index in range(count)]
    found = named(inputs, [])
    assert found[:6] == list(GENERIC[:count])
    assert len(set(found)) == count
