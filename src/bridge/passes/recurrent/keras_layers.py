"""Keras' recurrent layers."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, attribute, constant, producer, scalar
from bridge.passes.recurrent.builder import Builder
from bridge.passes.recurrent.eligible import first_states, has_no_bias


class KerasBuilder(Builder):
    """Makes `keras.layers.LSTM`, `GRU` or `SimpleRNN`, `Bidirectional` of them, or their cells."""

    def build(self) -> ir.Node:
        """The layer, with all its results; `return_what_is_read` leaves out those that nothing reads."""
        backwards = attribute(self.node, "direction", "forward") == "reverse"
        tensors = [each for direction in range(self.directions) for each in self._tensors(direction)]
        states = [
            self._first(value, direction)
            for direction in range(self.directions)
            for value in first_states(self.node)
        ]
        attributes = self.attributes(None) | {
            "directions": self.directions,
            "go_backwards": int(backwards),
            "return_sequences": 1,
            "return_state": 1,
            "reset_after": int(bool(attribute(self.node, "linear_before_reset", 0))),
        }
        vector = [self.batch, self.hidden]
        sequence = [self.batch, self.steps, self.directions * self.hidden]
        x = self.swapped(self.x)
        count = self.count * self.directions
        layer = self.layer([x, *tensors, *states], attributes, [sequence, *[vector] * count])
        if self.is_read(0):
            y = layer.outputs[0]
            self.replace_sequences(self.reversed(y, 1) if backwards else y, batch_first=True)
        for index in range(1, self.count + 1):
            if self.is_read(index):
                rows = [layer.outputs[index + self.count * d] for d in range(self.directions)]
                self.replace_state(self.node.outputs[index], rows)
        return layer

    def build_step(self) -> None:
        """A cell."""
        after = int(bool(attribute(self.node, "linear_before_reset", 0)))
        self.build_cell(self._tensors(0), reset_after=after)

    def _tensors(self, direction: int) -> list[ir.Value | None]:
        node, weights = self.node, self.weights
        matrices = self.matrices(direction, ("kernel", "recurrent_kernel"))
        if has_no_bias(node):
            return [*matrices, None]
        if node.op_type == "GRU" and attribute(node, "linear_before_reset", 0):
            return [*matrices, weights.both_biases(node, direction, "bias")]
        return [*matrices, weights.summed_bias(node, direction, "bias")]

    def _first(self, value: ir.Value, direction: int) -> ir.Value:
        """The states (batch, hidden) of one direction before the first step."""
        if self.directions == 1:
            return self.without_axis(value)
        index = add_constant(self.constants, np.asarray(direction, np.int64), f"{value.name}_direction")
        return self.add("Gather", [value, index], [self.batch, self.hidden], axis=0)


def return_what_is_read(layers: list[ir.Node]) -> None:
    """Let the calls of one layer return sequences and states only where one of them is read.

    The last step of a layer that goes forward is its state; both last states of a bidirectional layer side by
    side are what it returns without sequences.
    """
    for layer in layers:
        _read_last_step_as_state(layer)
    sequences = any(map(_is_read, (layer.outputs[0] for layer in layers)))
    if not sequences and all(map(_gives_last, layers)):
        for layer in layers:
            _read_last(layer)
        states = False
    else:
        states = any(_is_read(output) for layer in layers for output in layer.outputs[1:])
    for layer in layers:
        layer.attributes["return_sequences"] = ir.AttrInt64("return_sequences", int(sequences))
        layer.attributes["return_state"] = ir.AttrInt64("return_state", int(states))
        if not sequences:
            axes = [] if layer.outputs[0].shape is None else list(layer.outputs[0].shape)
            layer.outputs[0].shape = ir.Shape([axes[0], axes[2]]) if axes else None


def _is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def _read_last_step_as_state(layer: ir.Node) -> None:
    if attribute(layer, "directions") == 2 or attribute(layer, "go_backwards"):
        return
    for use in list(layer.outputs[0].uses()):
        if _is_last_step(use.node) and not use.node.outputs[0].is_graph_output():
            use.node.outputs[0].replace_all_uses_with(layer.outputs[1])


def _is_last_step(reader: ir.Node) -> bool:
    """Whether a node takes the last element along axis 1."""
    if reader.domain != "" or reader.op_type != "Gather" or attribute(reader, "axis", 0) != 1:
        return False
    index = constant(reader.inputs[1])
    return index is not None and index.ndim == 0 and scalar(reader.inputs[1]) == -1


def _gives_last(layer: ir.Node) -> bool:
    """Whether the last hidden states are all that is read of a layer, in the form it returns by itself."""
    read = [output for output in layer.outputs[1:] if _is_read(output)]
    if attribute(layer, "directions") == 1:
        return read in ([], [layer.outputs[1]]) and not layer.outputs[1].is_graph_output()
    return not read or _joining(layer) is not None


def _joining(layer: ir.Node) -> ir.Node | None:
    """The node that alone reads both last hidden states, side by side."""
    forward, backward = _hidden(layer)
    readers = {use.node for output in layer.outputs[1:] for use in output.uses()}
    if len(readers) != 1 or any(output.is_graph_output() for output in layer.outputs[1:]):
        return None
    (reader,) = readers
    joins = producer(reader.outputs[0], "Concat") is reader and attribute(reader, "axis") in (1, -1)
    whole = joins and not reader.outputs[0].is_graph_output()
    return reader if whole and tuple(reader.inputs) == (forward, backward) else None


def _hidden(layer: ir.Node) -> tuple[ir.Value, ir.Value]:
    count = (len(layer.outputs) - 1) // 2
    return layer.outputs[1], layer.outputs[1 + count]


def _read_last(layer: ir.Node) -> None:
    if attribute(layer, "directions") == 1:
        layer.outputs[1].replace_all_uses_with(layer.outputs[0])
    elif (reader := _joining(layer)) is not None:
        reader.outputs[0].replace_all_uses_with(layer.outputs[0])
