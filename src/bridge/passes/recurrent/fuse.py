"""Nodes of the domain `bridge` that stand for a target's own recurrent layers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata, recipe
from bridge.hub.graph import add_constant, attribute, integers, producer, replace_value
from bridge.passes.dims import dim_of
from bridge.passes.moves import axes_of, permutation
from bridge.passes.recurrent.eligible import (
    activation,
    first_states,
    has_no_bias,
    input_of,
    is_eligible,
)
from bridge.passes.recurrent.weights import LayerWeights
from bridge.passes.unused import drop_unused

DOMAIN = "bridge"
_SWAP = (1, 0, 2)
Target = Literal["torch", "tf"]


def fuse_recurrent_layers(model: ir.Model, target: Target) -> ir.Model:
    """LSTM, GRU and RNN with trained tensors as a node per layer of the target.

    For PyTorch `bridge::LSTM(x, w_ih, w_hh, b_ih, b_hh, (the same reversed), h, c)` gives sequences
    (steps, batch, directions * hidden), or batch first as `batch_first` says, and states (directions,
    batch, hidden). For Keras there is one node per direction, `bridge::LSTM(x, kernel, recurrent_kernel,
    bias, h, c)`, whose outputs are those of the layer with `return_sequences` and `return_state`: (batch,
    steps, hidden), reversed in time with `go_backwards`, and (batch, hidden). What the graph does to
    bring the operator's axes into these forms is dropped. Does not keep the graph valid ONNX.
    """
    weights = LayerWeights(model, target)
    for node in list(model.graph):
        if is_eligible(node, target) and _owns_its_tensors(node):
            builder = _Torch(node, weights) if target == "torch" else _Keras(node, weights)
            builder.build()
    return drop_unused(model)


def _owns_its_tensors(node: ir.Node) -> bool:
    """Whether nothing else reads the tensors, and they are no graph outputs: a layer keeps its own."""
    for index in (1, 2, 3):
        value = input_of(node, index)
        if value is None or metadata.recipe_record(value) is None:
            continue
        if value.is_graph_output() or any(use.node is not node for use in value.uses()):
            return False
    return True


class _Builder:
    def __init__(self, node: ir.Node, weights: LayerWeights) -> None:
        assert isinstance(node.graph, ir.Graph)
        self.node = node
        self.weights = weights
        self.graph: ir.Graph = node.graph
        self.directions = 2 if attribute(node, "direction", "forward") == "bidirectional" else 1
        state = input_of(node, 2)
        assert state is not None
        assert state.const_value is not None
        self.hidden = state.const_value.shape.numpy()[2]
        x = node.inputs[0]
        assert x is not None
        self.x: ir.Value = x
        axes: list[Any] = [None, None] if x.shape is None else list(x.shape)
        self.steps, self.batch = axes[:2]

    def is_read(self, index: int) -> bool:
        outputs = self.node.outputs
        return index < len(outputs) and (bool(outputs[index].uses()) or outputs[index].is_graph_output())

    def attributes(self, direction: str | None) -> dict[str, Any]:
        """What a layer rule needs to know, and what tells the layers of one module apart."""
        result: dict[str, Any] = {"hidden_size": self.hidden, "activation": activation(self.node)}
        level = _level(self.node.inputs[1])
        result["label"] = "_".join(each for each in (level, direction) if each)
        return result

    def add(
        self, op_type: str, inputs: Sequence[ir.Value | None], shape: Iterable[Any] | None, **attributes: Any
    ) -> ir.Value:
        """A node of the standard domain before the operator."""
        made = ir.node(op_type, inputs, attributes)
        made.metadata_props.update(self.node.metadata_props)
        self.graph.insert_before(self.node, made)
        made.outputs[0].type = self.x.type
        made.outputs[0].shape = None if shape is None else ir.Shape(shape)
        return made.outputs[0]

    def layer(
        self, inputs: Sequence[ir.Value | None], attributes: dict[str, Any], shapes: Sequence[Any]
    ) -> ir.Node:
        """The node that stands for the layer."""
        made = ir.Node(
            DOMAIN,
            self.node.op_type,
            inputs,
            ir.convenience.convert_attributes(attributes),
            num_outputs=len(shapes),
        )
        made.metadata_props.update(self.node.metadata_props)
        made.name = self.node.name
        self.graph.insert_before(self.node, made)
        for output, shape in zip(made.outputs, shapes, strict=True):
            output.type = self.x.type
            output.shape = ir.Shape(shape)
        return made

    def indices(self, *values: int) -> ir.Value:
        return add_constant(self.graph, np.asarray(values, np.int64), f"{self.node.outputs[0].name}_axes")

    def swapped(self, value: ir.Value) -> ir.Value:
        """A value with its first two axes exchanged; what exchanged them before is undone instead."""
        inner = producer(value, "Transpose")
        if inner is not None and permutation(inner) == _SWAP and inner.inputs[0] is not None:
            return inner.inputs[0]
        shape = None if value.shape is None else [value.shape[axis] for axis in _SWAP]
        return self.add("Transpose", [value], shape, perm=_SWAP)

    def reversed(self, value: ir.Value, axis: int) -> ir.Value:
        """A value with the order of its elements reversed along an axis."""
        bounds = [self.indices(each) for each in (-1, np.iinfo(np.int64).min, axis, -1)]
        return self.add("Slice", [value, *bounds], value.shape)

    def replace_sequences(self, joined: ir.Value, *, batch_first: bool) -> None:
        """Let the readers of Y (steps, directions, batch, hidden) read all directions side by side."""
        y = self.node.outputs[0]
        width = self.directions * self.hidden
        time_first = self.swapped(joined) if batch_first else joined
        for use in list(y.uses()):
            flat = self._flat(use.node, width)
            if flat is not None:
                self._replace_flat(flat.outputs[0], time_first, joined if batch_first else None)
        if y.uses() or y.is_graph_output():
            self._replace_whole(y, time_first)

    def _flat(self, reader: ir.Node, width: int) -> ir.Node | None:
        """The node that gives Y as (steps, batch, directions * hidden), from what reads Y."""
        if reader.domain != "":
            return None
        if reader.op_type == "Squeeze" and self.directions == 1:
            return reader if axes_of(reader, 4) == (1,) else None
        if reader.op_type == "Transpose" and permutation(reader) == (0, 2, 1, 3):
            uses = [use.node for use in reader.outputs[0].uses()]
            if len(uses) == 1 and not reader.outputs[0].is_graph_output() and uses[0].op_type == "Reshape":
                shape = uses[0].outputs[0].shape
                if shape is not None and len(shape) == 3 and shape[2] == width and self._same_start(shape):
                    return uses[0]
        return None

    def _same_start(self, shape: ir.Shape) -> bool:
        pairs = ((shape[0], self.steps), (shape[1], self.batch))
        return any(
            found is not None and dim_of(mine) is not None and dim_of(mine) == dim_of(found)
            for mine, found in pairs
        )

    def _replace_flat(self, old: ir.Value, new: ir.Value, batch_first: ir.Value | None) -> None:
        if batch_first is not None:
            for use in list(old.uses()):
                reader = use.node
                if reader.op_type == "Transpose" and reader.domain == "" and permutation(reader) == _SWAP:
                    self._hand_over(reader.outputs[0], batch_first)
        if old.uses() or old.is_graph_output():
            self._hand_over(old, new)

    def _replace_whole(self, old: ir.Value, time_first: ir.Value) -> None:
        if self.directions == 1:
            new = self.add("Unsqueeze", [time_first, self.indices(1)], old.shape)
        else:
            target = self.indices(0, 0, self.directions, self.hidden)
            split = self.add("Reshape", [time_first, target], None)
            split.shape = ir.Shape([self.steps, self.batch, self.directions, self.hidden])
            new = self.add("Transpose", [split], old.shape, perm=(0, 2, 1, 3))
        self._hand_over(old, new)

    def _hand_over(self, old: ir.Value, new: ir.Value) -> None:
        if old.is_graph_output() and new.is_graph_output():
            new = self.add("Identity", [new], new.shape)
        replace_value(old, new)


class _Torch(_Builder):
    def build(self) -> None:
        """`nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer; the other way round on reversed sequences."""
        x = self.x
        batch_first = producer(x, "Transpose") is not None and permutation(x.producer()) == _SWAP  # type: ignore[arg-type]
        backwards = attribute(self.node, "direction", "forward") == "reverse"
        x = self.swapped(x) if batch_first else x
        inputs: list[ir.Value | None] = [self.reversed(x, int(batch_first)) if backwards else x]
        bias = not has_no_bias(self.node)
        for direction in range(self.directions):
            suffix = "_l0_reverse" if direction else "_l0"
            inputs.append(self.weights.matrix(self.node, 1, direction, f"weight_ih{suffix}"))
            inputs.append(self.weights.matrix(self.node, 2, direction, f"weight_hh{suffix}"))
            for half, name in ((0, "bias_ih"), (1, "bias_hh")):
                inputs.append(
                    self.weights.bias(self.node, direction, half, f"{name}{suffix}") if bias else None
                )
        inputs.extend(first_states(self.node))
        start = [self.batch, self.steps] if batch_first else [self.steps, self.batch]
        state = [self.directions, self.batch, self.hidden]
        count = 2 if self.node.op_type == "LSTM" else 1
        attributes = self.attributes(None) | {"batch_first": int(batch_first), "directions": self.directions}
        layer = self.layer(inputs, attributes, [[*start, self.directions * self.hidden], *[state] * count])
        if self.is_read(0):
            y = layer.outputs[0]
            y = self.reversed(y, int(batch_first)) if backwards else y
            self.replace_sequences(y, batch_first=batch_first)
        for index in range(1, count + 1):
            if self.is_read(index):
                self._hand_over(self.node.outputs[index], layer.outputs[index])
        _forget_unread(layer)


class _Keras(_Builder):
    def build(self) -> None:
        """`keras.layers.LSTM`, `GRU` or `SimpleRNN`, one for each direction."""
        x = self.swapped(self.x)
        sequences, states = [], []
        for direction in range(self.directions):
            layer = self._direction(x, direction)
            if self.is_read(0):
                y = layer.outputs[0]
                backwards = bool(attribute(layer, "go_backwards", 0))
                sequences.append(self.reversed(y, 1) if backwards else y)
            states.append(layer.outputs[1:] or layer.outputs)
        if self.is_read(0):
            shape = [self.batch, self.steps, self.directions * self.hidden]
            joined = sequences[0] if len(sequences) == 1 else self.add("Concat", sequences, shape, axis=-1)
            self.replace_sequences(joined, batch_first=True)
        for index in range(1, len(self.node.outputs)):
            if self.is_read(index):
                self._replace_state(self.node.outputs[index], [each[index - 1] for each in states])

    def _direction(self, x: ir.Value, direction: int) -> ir.Node:
        node, weights = self.node, self.weights
        backwards = direction == 1 or attribute(node, "direction", "forward") == "reverse"
        names = ("forward", "backward")
        inputs: list[ir.Value | None] = [
            x,
            weights.matrix(node, 1, direction, "kernel"),
            weights.matrix(node, 2, direction, "recurrent_kernel"),
        ]
        after = bool(attribute(node, "linear_before_reset", 0))
        if has_no_bias(node):
            inputs.append(None)
        elif node.op_type == "GRU" and after:
            inputs.append(weights.both_biases(node, direction, "bias"))
        else:
            inputs.append(weights.summed_bias(node, direction, "bias"))
        inputs.extend(self._first(value, direction) for value in first_states(node))
        cell = node.op_type == "LSTM" and self.is_read(2)
        sequences = self.is_read(0)
        state = cell or (sequences and self.is_read(1))
        attributes = self.attributes(names[direction] if self.directions == 2 else None) | {
            "go_backwards": int(backwards),
            "return_sequences": int(sequences),
            "return_state": int(state),
            "reset_after": int(after),
        }
        vector = [self.batch, self.hidden]
        first = [self.batch, self.steps, self.hidden] if sequences else vector
        count = 2 if node.op_type == "LSTM" else 1
        return self.layer(inputs, attributes, [first, *([vector] * count if state else [])])

    def _first(self, value: ir.Value, direction: int) -> ir.Value:
        """The states (batch, hidden) of one direction before the first step."""
        vector = [self.batch, self.hidden]
        if self.directions == 2:
            index = add_constant(self.graph, np.asarray(direction, np.int64), f"{value.name}_direction")
            return self.add("Gather", [value, index], vector, axis=0)
        inner = producer(value, "Unsqueeze")
        if inner is not None and inner.inputs[0] is not None and integers(inner.inputs[1]) == (0,):
            return inner.inputs[0]
        return self.add("Squeeze", [value, self.indices(0)], vector)

    def _replace_state(self, old: ir.Value, states: Sequence[ir.Value]) -> None:
        """Let the readers of a state (directions, batch, hidden) read those of the layers."""
        if len(states) == 1:
            for use in list(old.uses()):
                reader = use.node
                if reader.op_type == "Squeeze" and reader.domain == "" and axes_of(reader, 3) == (0,):
                    self._hand_over(reader.outputs[0], states[0])
            if not old.uses() and not old.is_graph_output():
                return
        vector = [1, self.batch, self.hidden]
        rows = [self.add("Unsqueeze", [each, self.indices(0)], vector) for each in states]
        self._hand_over(old, rows[0] if len(rows) == 1 else self.add("Concat", rows, old.shape, axis=0))


def _level(weights: ir.Value | None) -> str | None:
    """`layer_1` for the tensors of that layer of a stacked module of PyTorch (`weight_ih_l1`)."""
    record = None if weights is None else metadata.recipe_record(weights)
    names = [] if record is None else list(recipe.sources(recipe.from_json(record)))
    found = re.search(r"_l(\d+)(_reverse)?$", names[0]) if names else None
    return None if found is None else f"layer_{found[1]}"


def _forget_unread(layer: ir.Node) -> None:
    for output in layer.outputs:
        if not output.uses() and not output.is_graph_output():
            output.name = ""
