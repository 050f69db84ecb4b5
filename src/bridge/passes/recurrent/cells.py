"""Cells written as arithmetic: what their gates are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir as ir

from bridge.hub.graph import producer
from bridge.passes.match import is_number
from bridge.passes.recurrent.affine import Affine, Reading


@dataclass(frozen=True)
class Gate:
    """One gate in ONNX's terms: what it takes from the inputs and what from the state."""

    inputs: Affine
    state: Affine


@dataclass(frozen=True)
class Cell:
    """A step of a recurrence that a graph computes from x and the states.

    `gates` are in ONNX's order (LSTM i o f c, GRU z r h). `results` are the new states, `nodes` what
    computes them and nothing else.
    """

    op_type: str
    x: ir.Value
    states: tuple[ir.Value, ...]
    gates: tuple[Gate, ...]
    results: tuple[ir.Value, ...]
    nodes: frozenset[ir.Node]
    attributes: tuple[tuple[str, object], ...] = ()


def lstm_cells(hidden: ir.Value) -> Iterator[Cell]:
    """The readings of a value as `o * tanh(c')` with `c' = f * c + i * g`."""
    for output, squashed in _factors(hidden):
        new = _activated(squashed, "Tanh")
        if new is None:
            continue
        for kept, added in _terms(new):
            for forget, old in _factors(kept):
                for gate, candidate in _factors(added):
                    affines = {"i": gate, "o": output, "f": forget}
                    yield from _lstm(hidden, new, old, affines, candidate)


def _lstm(
    hidden: ir.Value, new: ir.Value, old: ir.Value, gates: dict[str, ir.Value], candidate: ir.Value
) -> Iterator[Cell]:
    reading = Reading()
    values = [_activated(gates[name], "Sigmoid") for name in "iof"] + [_activated(candidate, "Tanh")]
    affines = [each for value in values if (each := reading.affine(value)) is not None]
    if len(affines) < 4:
        return
    data = _two_kinds(affines)
    inner = {hidden, new, *gates.values(), candidate, *_between(hidden, new)}
    nodes = reading.nodes | {node for each in inner if (node := each.producer()) is not None}
    kept = [use for use in (new.producer(), hidden.producer()) if use is not None]
    nodes |= {node for add in kept for part in add.inputs if (node := _arithmetic(part)) is not None}
    for x, h in () if data is None else (data, data[::-1]):
        parts = [_apart(affine, x, h) for affine in affines]
        if all(part is not None for part in parts):
            made = tuple(part for part in parts if part is not None)
            yield Cell("LSTM", x, (h, old), made, (hidden, new), frozenset(nodes))


def _between(hidden: ir.Value, new: ir.Value) -> list[ir.Value]:
    """The hyperbolic tangent of the new state."""
    return [factor for pair in _factors(hidden) for factor in pair if _activated(factor, "Tanh") is new]


def _arithmetic(value: ir.Value | None) -> ir.Node | None:
    return producer(value, "Mul")


def gru_cells(hidden: ir.Value) -> Iterator[Cell]:
    """The readings of a value as `(1 - z) * n + z * h` or as `n + z * (h - n)`."""
    for update, candidate, old, nodes in _interpolations(hidden):
        z, n = _activated(update, "Sigmoid"), _activated(candidate, "Tanh")
        if z is None or n is None:
            continue
        common = {*nodes, update.producer(), candidate.producer()}
        yield from _reset_after(hidden, z, n, old, common)
        yield from _reset_before(hidden, z, n, old, common)


def _interpolations(
    hidden: ir.Value,
) -> Iterator[tuple[ir.Value, ir.Value, ir.Value, set[ir.Node | None]]]:
    """z, n, h, and the nodes of the interpolation itself."""
    for left, right in _terms(hidden):
        for update, old in _factors(right):
            for rest, candidate in _factors(left):
                one = producer(rest, "Sub")
                if one is not None and is_number(one.inputs[0], 1.0) and one.inputs[1] is update:
                    nodes = {hidden.producer(), left.producer(), right.producer(), one}
                    yield update, candidate, old, nodes
        for update, difference in _factors(right):
            minus = producer(difference, "Sub")
            if minus is not None and minus.inputs[1] is left and minus.inputs[0] is not None:
                yield update, left, minus.inputs[0], {hidden.producer(), right.producer(), minus}


def _reset_after(
    hidden: ir.Value, z: ir.Value, n: ir.Value, old: ir.Value, common: set[ir.Node | None]
) -> Iterator[Cell]:
    """`n = tanh(x_n + r * (h R_n + b))`."""
    for straight, gated in _terms(n):
        for reset, past in _factors(gated):
            reading = Reading()
            r = _activated(reset, "Sigmoid")
            affines = [reading.affine(each) for each in (z, r, straight, past)]
            found = [each for each in affines if each is not None]
            if len(found) < 4 or len(found[3].products) != 1 or found[3].product(old) is None:
                continue
            x = next((each.data for each in found[0].products if each.data is not old), None)
            if x is None or len(found[2].products) != 1 or found[2].product(x) is None:
                continue
            gates = [_apart(each, x, old) for each in found[:2]]
            nodes = {n.producer(), gated.producer(), reset.producer(), *common, *reading.nodes}
            if all(gate is not None for gate in gates):
                made = (*(gate for gate in gates if gate is not None), Gate(found[2], found[3]))
                yield _gru(hidden, x, old, made, nodes, linear_before_reset=1)


def _reset_before(
    hidden: ir.Value, z: ir.Value, n: ir.Value, old: ir.Value, common: set[ir.Node | None]
) -> Iterator[Cell]:
    """`n = tanh(x_n + (r * h) R_n)`."""
    reading = Reading()
    update, candidate = reading.affine(z), reading.affine(n)
    if update is None or candidate is None or len(candidate.products) != 2:
        return
    for product in candidate.products:
        for reset, past in _factors(product.data):
            r = _activated(reset, "Sigmoid")
            gate = reading.affine(r)
            if past is not old or gate is None:
                continue
            (x,) = (each.data for each in candidate.products if each is not product)
            gates = [_apart(update, x, old), _apart(gate, x, old), _apart(candidate, x, product.data)]
            nodes = {product.data.producer(), reset.producer(), *common, *reading.nodes}
            if all(each is not None for each in gates):
                made = tuple(each for each in gates if each is not None)
                yield _gru(hidden, x, old, made, nodes, linear_before_reset=0)


def _gru(
    hidden: ir.Value,
    x: ir.Value,
    old: ir.Value,
    gates: tuple[Gate, ...],
    nodes: set[ir.Node | None],
    **attributes: object,
) -> Cell:
    kept = frozenset(node for node in nodes if node is not None)
    return Cell("GRU", x, (old,), gates, (hidden,), kept, tuple(attributes.items()))


def rnn_cell(hidden: ir.Value, old: ir.Value) -> Cell | None:
    """A value as `tanh(x W + h R + b)`, or with relu, of a state h that it is the next of."""
    for activation in ("Tanh", "Relu"):
        reading = Reading()
        affine = reading.affine(_activated(hidden, activation))
        if affine is None or len(affine.products) != 2:
            continue
        x = next((each.data for each in affine.products if each.data is not old), None)
        gate = None if x is None else _apart(affine, x, old)
        node = hidden.producer()
        if x is not None and gate is not None and node is not None:
            nodes = frozenset({node, *reading.nodes})
            attributes = () if activation == "Tanh" else (("activations", ("Relu",)),)
            return Cell("RNN", x, (old,), (gate,), (hidden,), nodes, attributes)
    return None


def _two_kinds(affines: list[Affine]) -> tuple[ir.Value, ir.Value] | None:
    """The two values that every gate takes, one product each."""
    data = list(dict.fromkeys(product.data for affine in affines for product in affine.products))
    return (data[0], data[1]) if len(data) == 2 else None


def _apart(affine: Affine, x: ir.Value, h: ir.Value) -> Gate | None:
    """A gate's share of the inputs and of the state; biases on their own count to the inputs."""
    of_inputs, of_state = affine.product(x), affine.product(h)
    if of_inputs is None or of_state is None or len(affine.products) != 2:
        return None
    beside = tuple(bias for bias in affine.biases if bias.beside is h)
    rest = tuple(bias for bias in affine.biases if bias.beside is not h)
    return Gate(Affine((of_inputs,), rest), Affine((of_state,), beside))


def _activated(value: ir.Value | None, op_type: str) -> ir.Value | None:
    node = producer(value, op_type)
    return None if node is None else node.inputs[0]


def _terms(value: ir.Value | None) -> list[tuple[ir.Value, ir.Value]]:
    return _operands(value, "Add")


def _factors(value: ir.Value | None) -> list[tuple[ir.Value, ir.Value]]:
    return _operands(value, "Mul")


def _operands(value: ir.Value | None, op_type: str) -> list[tuple[ir.Value, ir.Value]]:
    """The operands of a commutative node in both orders; none if another node computes the value."""
    node = producer(value, op_type)
    if node is None:
        return []
    left, right = node.inputs
    return [] if left is None or right is None else [(left, right), (right, left)]
