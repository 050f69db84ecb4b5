"""What the builders of both targets share: undoing and making the axes of ONNX's recurrent operators."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, attribute, only_use, producer, replace_value
from bridge.passes.dims import dim_of
from bridge.passes.moves import axes_of, permutation
from bridge.passes.recurrent.eligible import STATES, activation, given_states, input_of
from bridge.passes.recurrent.groups import level
from bridge.passes.recurrent.weights import LayerWeights

DOMAIN = "bridge"
SWAP = (1, 0, 2)


class Builder:
    """Replaces one recurrent node by a layer of the target."""

    def __init__(self, node: ir.Node, weights: LayerWeights, constants: ir.Graph) -> None:
        assert node.graph is not None
        self.node = node
        self.weights = weights
        self.graph = node.graph
        self.constants = constants
        self.count = len(STATES[node.op_type])
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
        of_stack = level(self.node.inputs[1])
        result["label"] = "_".join(each for each in (of_stack, direction) if each)
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
        self,
        inputs: Sequence[ir.Value | None],
        attributes: dict[str, Any],
        shapes: Sequence[Any],
        *,
        suffix: str = "",
    ) -> ir.Node:
        """The node that stands for the layer."""
        made = ir.Node(
            DOMAIN,
            f"{self.node.op_type}{suffix}",
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
        return add_constant(self.constants, np.asarray(values, np.int64), f"{self.node.outputs[0].name}_axes")

    def swapped(self, value: ir.Value) -> ir.Value:
        """A value with its first two axes exchanged; what exchanged them before is undone instead."""
        inner = producer(value, "Transpose")
        if inner is not None and permutation(inner) == SWAP and inner.inputs[0] is not None:
            return inner.inputs[0]
        shape = None if value.shape is None else [value.shape[axis] for axis in SWAP]
        dropout = producer(value, "Dropout")
        if dropout is not None and only_use(value) is self.node and dropout.inputs[0] is not None:
            before = producer(dropout.inputs[0], "Transpose")
            if before is not None and permutation(before) == SWAP:
                dropout.replace_input_with(0, before.inputs[0])
                dropout.outputs[0].shape = None if shape is None else ir.Shape(shape)
                return value
        return self.add("Transpose", [value], shape, perm=SWAP)

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
                if reader.op_type == "Transpose" and reader.domain == "" and permutation(reader) == SWAP:
                    self.hand_over(reader.outputs[0], batch_first)
        if old.uses() or old.is_graph_output():
            self.hand_over(old, new)

    def _replace_whole(self, old: ir.Value, time_first: ir.Value) -> None:
        if self.directions == 1:
            new = self.add("Unsqueeze", [time_first, self.indices(1)], old.shape)
        else:
            target = self.indices(0, 0, self.directions, self.hidden)
            split = self.add("Reshape", [time_first, target], None)
            split.shape = ir.Shape([self.steps, self.batch, self.directions, self.hidden])
            new = self.add("Transpose", [split], old.shape, perm=(0, 2, 1, 3))
        self.hand_over(old, new)

    def hand_over(self, old: ir.Value, new: ir.Value) -> None:
        if old.is_graph_output() and new.is_graph_output():
            new = self.add("Identity", [new], new.shape)
        replace_value(old, new)

    def matrices(self, direction: int, names: tuple[str, str]) -> list[ir.Value | None]:
        """The projections of the inputs and of the state of one direction."""
        return [self.weights.matrix(self.node, index, direction, names[index - 1]) for index in (1, 2)]

    def build_cell(
        self, tensors: Sequence[ir.Value | None], last: ir.Value | None = None, **attributes: Any
    ) -> None:
        """One step: `bridge::LSTMCell(x, tensors..., h, c, last)` gives the states (batch, hidden)."""
        vector = [self.batch, self.hidden]
        states = [self.without_axis(state) for state in given_states(self.node)]
        inputs = [self.without_axis(self.x), *tensors, *states, *([] if last is None else [last])]
        made = self.attributes(None) | attributes
        cell = self.layer(inputs, made, [vector] * self.count, suffix="Cell")
        if self.is_read(0):
            shape = [1, 1, *vector]
            y = self.add("Unsqueeze", [cell.outputs[0], self.indices(0, 1)], shape)
            self.hand_over(self.node.outputs[0], y)
        for index in range(1, self.count + 1):
            if self.is_read(index):
                self.replace_state(self.node.outputs[index], [cell.outputs[index - 1]])
        forget_unread(cell)

    def without_axis(self, value: ir.Value) -> ir.Value:
        """A value (1, batch, size) without its first axis."""
        inner = producer(value, "Unsqueeze")
        if inner is not None and inner.inputs[0] is not None and axes_of(inner, 3) == (0,):
            return inner.inputs[0]
        shape = None if value.shape is None else list(value.shape)[1:]
        return self.add("Squeeze", [value, self.indices(0)], shape)

    def replace_state(self, old: ir.Value, states: Sequence[ir.Value]) -> None:
        """Let the readers of a state (directions, batch, hidden) read those of the directions."""
        if len(states) == 1:
            for use in list(old.uses()):
                reader = use.node
                if reader.op_type == "Squeeze" and reader.domain == "" and axes_of(reader, 3) == (0,):
                    self.hand_over(reader.outputs[0], states[0])
            if not old.uses() and not old.is_graph_output():
                return
        vector = [1, self.batch, self.hidden]
        rows = [self.add("Unsqueeze", [each, self.indices(0)], vector) for each in states]
        self.hand_over(old, rows[0] if len(rows) == 1 else self.add("Concat", rows, old.shape, axis=0))


def forget_unread(layer: ir.Node) -> None:
    """Leave out the outputs that nothing reads."""
    for output in layer.outputs:
        if not output.uses() and not output.is_graph_output():
            output.name = ""
