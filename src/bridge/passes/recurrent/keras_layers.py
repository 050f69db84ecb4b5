"""Keras' recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, attribute, constant, producer, scalar
from bridge.passes.recurrent.builder import DOMAIN, Builder
from bridge.passes.recurrent.eligible import LENGTHS, first_states, has_no_bias, input_of
from bridge.passes.recurrent.weights import LayerWeights


class KerasBuilder(Builder):
    """Makes `keras.layers.LSTM`, `GRU` or `SimpleRNN`, `Bidirectional` of them, or their cells."""

    def __init__(
        self, node: ir.Node, weights: LayerWeights, constants: ir.Graph, exact_training: bool
    ) -> None:
        super().__init__(node, weights, constants)
        single = node.op_type in ("LSTM", "RNN") and not has_no_bias(node)
        self.mask: ir.Value | None = None
        self.two_biases = exact_training and single and weights.has_two_biases(node)

    def build(self) -> list[ir.Node]:
        """The layers, with all their results; `return_what_is_read` leaves out those that nothing reads."""
        backwards = attribute(self.node, "direction", "forward") == "reverse"
        x = self.swapped(self.x)
        self.mask = self._mask(x)
        every = range(self.directions)
        if self.directions == 1:
            layers = [self._call(x, every, backwards=backwards)]
        elif self.two_biases:
            layers = [self._call(x, [each], backwards=each == 1) for each in every]
        else:
            layers = [self._call(x, every, backwards=False)]
        if self.is_read(0):
            parts = [
                self.reversed(layer.outputs[0], 1) if attribute(layer, "go_backwards") else layer.outputs[0]
                for layer in layers
            ]
            shape = [self.batch, self.steps, self.directions * self.hidden]
            joined = parts[0] if len(parts) == 1 else self.add("Concat", parts, shape, axis=-1)
            self.replace_sequences(joined, batch_first=True)
        rows = [output for layer in layers for output in layer.outputs[1:]]
        for index in range(1, self.count + 1):
            if self.is_read(index):
                self.replace_state(self.node.outputs[index], rows[index - 1 :: self.count])
        return layers

    def _mask(self, x: ir.Value) -> ir.Value | None:
        """Which steps (batch, steps) of the sequences count, where these have lengths of their own."""
        lengths = input_of(self.node, LENGTHS)
        if lengths is None:
            return None
        made = ir.Node(DOMAIN, "SequenceMask", [lengths, x])
        made.metadata_props.update(self.node.metadata_props)
        self.graph.insert_before(self.node, made)
        made.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
        made.outputs[0].shape = ir.Shape([self.batch, self.steps])
        return made.outputs[0]

    def _call(self, x: ir.Value, directions: Sequence[int], *, backwards: bool) -> ir.Node:
        """A layer of some of the directions."""
        name = ("forward", "backward")[directions[0]] if len(directions) < self.directions else None
        attributes = self.attributes(name) | {
            "directions": len(directions),
            "go_backwards": int(backwards),
            "return_sequences": 1,
            "return_state": 1,
            "reset_after": int(bool(attribute(self.node, "linear_before_reset", 0))),
            "two_biases": int(self.two_biases),
            "masked": int(self.mask is not None),
        }
        count = self.count * len(directions)
        given = first_states(self.node)
        inputs = [x, *(each for direction in directions for each in self._tensors(direction))]
        inputs += [self._first(state, direction) for direction in directions for state in given]
        inputs += [None] * (0 if given else count)
        last = self.weights.bias(self.node, directions[0], 1, "recurrent_bias") if self.two_biases else None
        inputs += [last, self.mask]
        vector = [self.batch, self.hidden]
        sequence = [self.batch, self.steps, len(directions) * self.hidden]
        return self.layer(inputs, attributes, [sequence, *[vector] * count])

    def build_step(self) -> None:
        """A cell."""
        after = int(bool(attribute(self.node, "linear_before_reset", 0)))
        last = self.weights.bias(self.node, 0, 1, "recurrent_bias") if self.two_biases else None
        self.build_cell(self._tensors(0), last, reset_after=after, two_biases=int(self.two_biases))

    def _tensors(self, direction: int) -> list[ir.Value | None]:
        node, weights = self.node, self.weights
        matrices = self.matrices(direction, ("kernel", "recurrent_kernel"))
        if has_no_bias(node):
            return [*matrices, None]
        if node.op_type == "GRU" and attribute(node, "linear_before_reset", 0):
            return [*matrices, weights.both_biases(node, direction, "bias")]
        if self.two_biases:
            return [*matrices, weights.bias(node, direction, 0, "bias")]
        return [*matrices, weights.summed_bias(node, direction, "bias")]

    def _first(self, value: ir.Value, direction: int) -> ir.Value:
        """The states (batch, hidden) of one direction before the first step."""
        if self.directions == 1:
            return self.without_axis(value)
        index = add_constant(self.constants, np.asarray(direction, np.int64), f"{value.name}_direction")
        return self.add("Gather", [value, index], [self.batch, self.hidden], axis=0)


def return_what_is_read(layers: list[ir.Node]) -> None:
    """Let the calls of one layer return sequences and states only where one of them is read.

    Both last states of a bidirectional layer side by side are what it returns without sequences.
    """
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


def read_last_step_as_state(layer: ir.Node) -> None:
    """Let what reads the last step of a layer that goes forward read its state."""
    if attribute(layer, "directions") == 2 or attribute(layer, "go_backwards") or attribute(layer, "masked"):
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
