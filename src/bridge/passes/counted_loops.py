"""Loops that end after a number of steps which is known before the first one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, all_nodes, producer, rank, scalar, take_over

Limit = ir.Value | int
"""What a counter is compared with: a value from outside of the loop, or a number."""


@dataclass(frozen=True)
class _Bound:
    """The condition `first + steps done < limit`."""

    first: int
    limit: Limit
    value: ir.Value


def count_steps(model: ir.Model) -> ir.Model:
    """Loops that count up to a limit run for a number of steps, without a condition.

    TensorFlow's loops carry a counter, which starts with a constant, and go on while it is below a limit that
    does not change; some have a largest number of steps beside. What the body does with the counter it
    does with the number of the step, and a counter that nothing reads afterwards is dropped.
    """
    for node in list(all_nodes(model)):
        if node.op_type == "Loop" and node.domain == "" and node.graph is not None:
            _count(node, model.graph)
    return model


def _count(node: ir.Node, constants: ir.Graph) -> None:
    body = node.attributes["body"].as_graph()
    counters = _counters(node, body)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        trips = _trips(node, body, counters)
        if trips is None:
            return
        _set_trips(node, body, trips, constants)
    for index in sorted(counters, reverse=True):
        if counters[index] == 0:
            node = _number_steps(node, body, index)


def _counters(node: ir.Node, body: ir.Graph) -> dict[int, int]:
    """The carried values that grow by 1 in every step, by position, with the number that they start with."""
    found = {}
    for index in range(len(node.inputs) - 2):
        taken = body.inputs[2 + index]
        grown = producer(_behind(body.outputs[1 + index]), "Add")
        first = scalar(node.inputs[2 + index])
        if grown is None or first is None or taken.dtype not in (ir.DataType.INT32, ir.DataType.INT64):
            continue
        operands = [_behind(value) for value in grown.inputs]
        steps = [scalar(value) for value in grown.inputs]
        if grown.graph is body and (
            (operands[0] is taken and steps[1] == 1) or (operands[1] is taken and steps[0] == 1)
        ):
            found[index] = int(first)
    return found


def _behind(value: ir.Value | None) -> ir.Value | None:
    while (node := producer(value, "Identity")) is not None:
        value = node.inputs[0]
    return value


def _number(value: ir.Value | None) -> ir.Value | None:
    """What a value was made of by casts: sizes are cast to and fro."""
    while (node := producer(value, "Identity", "Cast")) is not None:
        value = node.inputs[0]
    return value


def _trips(node: ir.Node, body: ir.Graph, counters: dict[int, int]) -> list[_Bound] | None:
    """The limits of a loop beside its largest number of steps; None where its condition says anything else.

    The condition holds before the first step for the same limits, one step earlier, or is implied.
    """
    starts = [_start(value) for value in _conjuncts(node.inputs[1])]
    again = [_again(value, body, counters) for value in _conjuncts(body.outputs[0])]
    if any(each is None for each in (*starts, *again)):
        return None
    most = node.inputs[0]
    largest = None if most is None else _limit(most, body)
    before = [each for each in starts if isinstance(each, _Bound)]
    found = []
    for each in again:
        if not isinstance(each, _Bound):
            continue
        if largest is not None and each.first <= 0 and _same(each.limit, largest):
            continue
        begins = isinstance(each.limit, int) and each.first < each.limit
        if not begins and not any(
            start.first == each.first and _same(start.limit, each.limit) for start in before
        ):
            return None
        found.append(each)
    for start in before:
        implied = largest is not None and start.first <= 0 and _same(start.limit, largest)
        if not implied and not any(
            start.first == each.first and _same(start.limit, each.limit) for each in found
        ):
            return None
    return found if found or most is not None else None


def _conjuncts(value: ir.Value | None) -> Iterator[ir.Value | None]:
    """The conditions of which all must hold."""
    node = producer(value, "And", "Identity", "Cast")
    if node is None:
        yield value
        return
    for each in node.inputs:
        yield from _conjuncts(each)


def _comparison(value: ir.Value | None) -> tuple[ir.Value, ir.Value] | None:
    """The smaller and the larger side of a strict comparison of integers."""
    node = producer(value, "Less", "Greater")
    if node is None:
        return None
    left, right = node.inputs if node.op_type == "Less" else reversed(node.inputs)
    small, large = _number(left), _number(right)
    if small is None or large is None:
        return None
    whole = all(_is_whole(each) for each in (small, large))
    return (small, large) if whole else None


def _is_whole(value: ir.Value) -> bool:
    number = scalar(value)
    if number is not None:
        return float(number).is_integer()
    return value.dtype in (ir.DataType.INT32, ir.DataType.INT64) and rank(value) in (0, None)


def _start(value: ir.Value | None) -> _Bound | bool | None:
    """What must hold before the first step: a number below a limit, or nothing (True); None if unknown."""
    if scalar(value):
        return True
    sides = _comparison(value)
    first = None if sides is None else scalar(sides[0])
    if sides is None or first is None:
        return None
    return _Bound(int(first), _limit(sides[1], None), sides[1])


def _again(value: ir.Value | None, body: ir.Graph, counters: dict[int, int]) -> _Bound | bool | None:
    """What must hold for another step; None if it is not that a counter is below a limit from outside.

    `first` is what was compared before the first step: one less than what the first step compares.
    """
    if value is body.inputs[1] or scalar(value):
        return True
    sides = _comparison(value)
    if sides is None or _is_inside(sides[1], body):
        return None
    grown = _grown(sides[0], body, counters)
    return None if grown is None else _Bound(grown - 1, _limit(sides[1], body), sides[1])


def _grown(value: ir.Value | None, body: ir.Graph, counters: dict[int, int]) -> int | None:
    """What a value is in the first step, if it grows by 1 in every step."""
    value = _number(value)
    if value is body.inputs[0]:
        return 0
    for index, first in counters.items():
        if value is body.inputs[2 + index]:
            return first
    node = producer(value, "Add")
    if node is None or node.graph is not body:
        return None
    for counter, added in (node.inputs, reversed(node.inputs)):
        number, grown = scalar(added), _grown(counter, body, counters)
        if number is not None and float(number).is_integer() and grown is not None:
            return grown + int(number)
    return None


def _is_inside(value: ir.Value, body: ir.Graph) -> bool:
    node = value.producer()
    return value in body.inputs or (node is not None and node.graph is body)


def _limit(value: ir.Value, body: ir.Graph | None) -> Limit:
    number = scalar(_number(value))
    root = _number(value)
    assert root is not None
    return root if number is None else int(number)


def _same(one: Limit, other: Limit) -> bool:
    return one is other if isinstance(one, ir.Value) else one == other


def _set_trips(node: ir.Node, body: ir.Graph, bounds: Sequence[_Bound], constants: ir.Graph) -> None:
    """Let a loop run for its number of steps, the smallest of several, and ask for every one of them."""
    graph = node.graph
    assert graph is not None

    def add(op_type: str, inputs: list[ir.Value | None], **attributes: int) -> ir.Value:
        made = ir.node(op_type, inputs, attributes)
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(node, made)
        made.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        made.outputs[0].shape = ir.Shape([])
        return made.outputs[0]

    trips = [] if node.inputs[0] is None else [node.inputs[0]]
    for bound in bounds:
        steps = add("Cast", [bound.value], to=int(ir.DataType.INT64))
        if bound.first:
            first = add_constant(constants, np.asarray(bound.first, np.int64), f"{steps.name}_first")
            steps = add("Sub", [steps, first])
        trips.append(steps)
    node.replace_input_with(0, trips[0] if len(trips) == 1 else add("Min", list(trips)))
    node.replace_input_with(1, None)
    always = ir.node("Identity", [body.inputs[1]])
    always.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
    always.metadata_props.update(node.metadata_props)
    always.outputs[0].name = f"{body.outputs[0].name}_always"
    body.append(always)
    body.outputs[0] = always.outputs[0]


def _number_steps(node: ir.Node, body: ir.Graph, index: int) -> ir.Node:
    """Let the body read the number of the step instead of a counter that starts with 0; drop the counter.

    Gives the loop, which is another node without the counter.
    """
    taken, number = body.inputs[2 + index], body.inputs[0]
    for use in list(taken.uses()):
        if use.node.op_type == "Gather" and use.idx == 1:
            use.node.replace_input_with(1, number)
    if taken.uses() and taken.dtype is not None:
        cast = ir.node("Cast", [number], {"to": int(taken.dtype)})
        cast.metadata_props.update(node.metadata_props)
        cast.outputs[0].type, cast.outputs[0].shape = taken.type, ir.Shape([])
        cast.outputs[0].name = f"{taken.name}_step"
        taken.replace_all_uses_with(cast.outputs[0])
        if len(body):
            body.insert_before(body[0], cast)
        else:
            body.append(cast)
    output = node.outputs[index]
    if output.uses() or output.is_graph_output():
        return node
    body.inputs.pop(2 + index)
    body.outputs.pop(1 + index)
    graph = node.graph
    assert graph is not None
    inputs = [value for at, value in enumerate(node.inputs) if at != 2 + index]
    outputs = [value for at, value in enumerate(node.outputs) if at != index]
    loop = ir.node("Loop", inputs, num_outputs=len(outputs), name=node.name)
    loop.attributes.add(node.attributes.pop("body"))
    loop.metadata_props.update(node.metadata_props)
    graph.insert_before(node, loop)
    for old, new in zip(outputs, loop.outputs, strict=True):
        take_over(old, new)
    graph.remove(node, safe=True)
    return loop
