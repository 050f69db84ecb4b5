"""Loops over time whose body is one step of a recurrence, as the recurrence over all steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, attribute, producer, take_over
from bridge.passes.dims import Contents, contents, dim_of, known_contents
from bridge.passes.moves import axes_of
from bridge.passes.recurrent.eligible import LENGTHS, RECURRENT, given_states, input_of
from bridge.passes.unused import drop_unused

_PEEPHOLES = 7


@dataclass(frozen=True)
class _Step:
    """What a body does: one operator over one step of `sequence`, whose states are handed on.

    `states` are the positions of its states among those of the loop, `series` the positions of the hidden
    states of all steps among the loop's outputs. `axis` is that of time in the sequence.
    """

    node: ir.Node
    sequence: ir.Value
    axis: int
    reverse: bool
    states: tuple[int, ...]
    series: tuple[int, ...]


def recognise_recurrences(model: ir.Model) -> ir.Model:
    """A Scan or counted Loop over an LSTM, GRU or RNN of one step as that operator over all steps.

    The body may carry counters beside the states if nothing reads them afterwards. What it does beside
    the step, to its inputs, its states or its results, keeps the loop as it is.
    """
    known = known_contents(model)
    changed = False
    for node in list(model.graph):
        if node.domain == "" and node.op_type in ("Scan", "Loop"):
            step = _scan_step(node) if node.op_type == "Scan" else _loop_step(node, known)
            if step is not None:
                _replace(node, step, model.graph)
                changed = True
    return drop_unused(model) if changed else model


def _scan_step(node: ir.Node) -> _Step | None:
    body = node.attributes["body"].as_graph()
    if attribute(node, "num_scan_inputs") != 1:
        return None
    count = len(node.inputs) - 1
    found = _step_of(body, first=0, count=count)
    if found is None or found[1] is not body.inputs[-1]:
        return None
    made = len(node.outputs) - count
    ((axis,), (way,)) = (_each(node, f"scan_input_{name}", 1) for name in ("axes", "directions"))
    axes, ways = (_each(node, f"scan_output_{name}", made) for name in ("axes", "directions"))
    step, _, states = found
    series = _series(node, body, step, count)
    data = node.inputs[-1]
    if series is None or data is None or data.shape is None:
        return None
    if any(axes[at - count] != 0 or ways[at - count] != way for at in series):
        return None
    return _Step(step, data, axis % len(data.shape), bool(way), states, series)


def _each(node: ir.Node, name: str, count: int) -> tuple[int, ...]:
    found = attribute(node, name)
    return (0,) * count if found is None else tuple(found)  # type: ignore[arg-type]


def _loop_step(node: ir.Node, known: Mapping[ir.Value, Contents]) -> _Step | None:
    """A Loop that takes the element of its own number from a sequence, as often as there are elements."""
    body = node.attributes["body"].as_graph()
    count = len(node.inputs) - 2
    if node.inputs[0] is None or node.inputs[1] is not None:
        return None
    found = _step_of(body, first=2, count=count)
    taken = None if found is None else producer(found[1], "Gather")
    if found is None or taken is None or taken.inputs[1] is not body.inputs[0]:
        return None
    data, axis = taken.inputs[0], attribute(taken, "axis", 0)
    if data is None or data.shape is None or not isinstance(axis, int) or _is_inside(data, body):
        return None
    size, trips = dim_of(data.shape[axis]), contents(node.inputs[0], known)
    step, _, states = found
    series = _series(node, body, step, count)
    if size is None or trips != (size,) or series is None:
        return None
    return _Step(step, data, axis % len(data.shape), False, states, series)


def _step_of(body: ir.Graph, *, first: int, count: int) -> tuple[ir.Node, ir.Value, tuple[int, ...]] | None:
    """The only recurrent operator of a body, its row of inputs, and which states of the loop are its own."""
    nodes = [node for node in body if node.op_type in RECURRENT and node.domain == ""]
    if len(nodes) != 1 or attribute(nodes[0], "direction", "forward") != "forward":
        return None
    (node,) = nodes
    if input_of(node, LENGTHS) is not None or input_of(node, _PEEPHOLES) is not None:
        return None
    if any((value := input_of(node, index)) is not None and _is_inside(value, body) for index in (1, 2, 3)):
        return None
    row = _without_axis(node.inputs[0])
    olds = [_without_axis(state) for state in given_states(node)]
    if row is None or len(olds) != len(node.outputs) - 1:
        return None
    carried = list(body.inputs[first : first + count])
    outputs = body.outputs[1:] if first else body.outputs
    states = []
    for old, new in zip(olds, node.outputs[1:], strict=True):
        if old not in carried:
            return None
        at = carried.index(old)
        if _state_behind(outputs[at]) is not new:
            return None
        states.append(at)
    return node, row, tuple(states)


def _is_inside(value: ir.Value, body: ir.Graph) -> bool:
    node = value.producer()
    return value in body.inputs or (node is not None and node.graph is body)


def _without_axis(value: ir.Value | None) -> ir.Value | None:
    """What a value (1, batch, size) is with its first axis."""
    node = producer(value, "Unsqueeze")
    return None if node is None or axes_of(node, 3) != (0,) else node.inputs[0]


def _state_behind(value: ir.Value) -> ir.Value | None:
    """The state (1, batch, size) that a value is without its first axis."""
    while (node := producer(value, "Identity")) is not None and node.inputs[0] is not None:
        value = node.inputs[0]
    node = producer(value, "Squeeze")
    return None if node is None or axes_of(node, 3) != (0,) else node.inputs[0]


def _series(node: ir.Node, body: ir.Graph, step: ir.Node, count: int) -> tuple[int, ...] | None:
    """Which outputs of the loop are the hidden states of all steps; None if it gives anything else."""
    inner = body.outputs[1:] if node.op_type == "Loop" else body.outputs
    own = {_state_behind(value) for value in inner[:count]} & set(step.outputs[1:])
    found = []
    for at, (output, value) in enumerate(zip(node.outputs, inner, strict=True)):
        is_read = bool(output.uses()) or output.is_graph_output()
        state = _state_behind(value)
        if at < count:
            if is_read and state not in own:
                return None
        elif is_read:
            if state is not step.outputs[1]:
                return None
            found.append(at)
    return tuple(found)


def _replace(loop: ir.Node, step: _Step, graph: ir.Graph) -> None:
    offset = 2 if loop.op_type == "Loop" else 0
    name = loop.outputs[-1].name or step.node.name or "recurrence"
    axis = {at: add_constant(graph, np.asarray([at], np.int64), f"{name}_axis") for at in (0, 1)}

    def add(op_type: str, inputs: list[ir.Value | None], count: int = 1, **attributes: int) -> list[ir.Value]:
        node = ir.node(op_type, inputs, attributes, num_outputs=count)
        node.metadata_props.update(step.node.metadata_props)
        metadata.set_scope(node, metadata.scope_of(step.node) or metadata.scope_of(loop))
        graph.insert_before(loop, node)
        for output in node.outputs:
            output.type = step.sequence.type
        return list(node.outputs)

    x = step.sequence
    assert x.shape is not None
    if step.axis:
        order = [step.axis, *(at for at in range(len(x.shape)) if at != step.axis)]
        sequence = x
        (x,) = add("Transpose", [sequence], perm=order)  # type: ignore[arg-type]
        x.shape = ir.Shape([sequence.shape[at] for at in order])  # type: ignore[index]
    first: list[ir.Value | None] = []
    for at in step.states:
        given = loop.inputs[offset + at]
        (state,) = add("Unsqueeze", [given, axis[0]])
        if given is not None and given.shape is not None:
            state.shape = ir.Shape([1, *given.shape])
        first.append(state)
    tensors = [input_of(step.node, index) for index in (1, 2, 3)]
    y, *last = add(step.node.op_type, [x, *tensors, None, *first], len(step.node.outputs))
    whole = y.producer()
    assert whole is not None
    whole.attributes.update(step.node.attributes)
    if step.reverse:
        whole.attributes["direction"] = ir.AttrString("direction", "reverse")
    for at, state in zip(step.states, last, strict=True):
        state.shape = first[step.states.index(at)].shape  # type: ignore[union-attr]
        (row,) = add("Squeeze", [state, axis[0]])
        take_over(loop.outputs[at], row)
    hidden = attribute(step.node, "hidden_size")
    if x.shape is not None and isinstance(hidden, int):
        y.shape = ir.Shape([x.shape[0], 1, x.shape[1], hidden])
    for at in step.series:
        (rows,) = add("Squeeze", [y, axis[1]])
        take_over(loop.outputs[at], rows)
