"""PyTorch's recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, attribute, producer
from bridge.passes.moves import permutation
from bridge.passes.recurrent.builder import DOMAIN, SWAP, Builder, forget_unread
from bridge.passes.recurrent.eligible import (
    LENGTHS,
    first_states,
    given_states,
    has_no_bias,
    input_of,
    is_zeros,
)


class TorchBuilder(Builder):
    """Makes `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer, or their cells."""

    def build(self, *, batch_first: bool) -> None:
        """A layer, the other way round on reversed sequences.

        Sequences with lengths of their own are run to the end, and what comes after their ends is left out,
        which any exporter can follow; the last cell state of an LSTM and what goes backwards in both
        directions need a packed sequence.
        """
        x = self.swapped(self.x) if batch_first else self.x
        lengths = input_of(self.node, LENGTHS)
        packed = lengths is not None and (self.directions == 2 or self.is_read(2))
        around = {"batch_first": int(batch_first)}
        steps = self._other_way(x, lengths, batch_first)
        if lengths is not None and packed:
            steps = self._own("PackSteps", [steps, lengths], None, around)
        inputs: list[ir.Value | None] = [steps]
        for direction in range(self.directions):
            inputs.extend(self._tensors(direction, "_l0_reverse" if direction else "_l0"))
        inputs.extend(first_states(self.node))
        start = [self.batch, self.steps] if batch_first else [self.steps, self.batch]
        state = [self.directions, self.batch, self.hidden]
        attributes = self.attributes(None) | around | {"directions": self.directions}
        layer = self.layer(
            inputs, attributes, [[*start, self.directions * self.hidden], *[state] * self.count]
        )
        series = layer.outputs[0]
        if lengths is not None and self.is_read(0):
            kept: list[ir.Value | None] = [series, lengths, *([x] if packed else [])]
            y = self._own("PadSteps" if packed else "KeepSteps", kept, series.shape, around)
            self.replace_sequences(self._other_way(y, lengths, batch_first), batch_first=batch_first)
        elif self.is_read(0):
            self.replace_sequences(self._other_way(series, None, batch_first), batch_first=batch_first)
        for index in range(1, self.count + 1):
            if self.is_read(index):
                last = layer.outputs[index]
                if lengths is not None:
                    first = first_states(self.node)[index - 1 : index]
                    operator = "StateOrFirst" if packed else "LastStep"
                    read = last if packed else series
                    last = self._own(operator, [read, lengths, *first], state, {} if packed else around)
                self.hand_over(self.node.outputs[index], last)
        forget_unread(layer)

    def build_both(self, backward: TorchBuilder, *, batch_first: bool) -> None:
        """One layer in both directions, for this operator and one over the same sequences backwards.

        Each of the two hands over its half of the results.
        """
        pair = (self, backward)
        x = self.swapped(self.x) if batch_first else self.x
        lengths = input_of(self.node, LENGTHS)
        around = {"batch_first": int(batch_first)}
        steps = x if lengths is None else self._own("PackSteps", [x, lengths], None, around)
        tensors = [*self._tensors(0, "_l0"), *backward._tensors(0, "_l0_reverse")]
        state = [2, self.batch, self.hidden]
        first = [
            self.add("Concat", states, state, axis=0)
            for states in zip(given_states(self.node), given_states(backward.node), strict=True)
            if not all(map(is_zeros, given_states(self.node) + given_states(backward.node)))
        ]
        start = [self.batch, self.steps] if batch_first else [self.steps, self.batch]
        layer = self.layer(
            [steps, *tensors, *first],
            self.attributes(None) | around | {"directions": 2},
            [[*start, 2 * self.hidden], *[state] * self.count],
        )
        if any(each.is_read(0) for each in pair):
            series = layer.outputs[0]
            if lengths is not None:
                series = self._own("PadSteps", [series, lengths, x], series.shape, around)
            for each, half in zip(pair, self._halves(series, [*start, self.hidden]), strict=True):
                if each.is_read(0):
                    each.replace_sequences(half, batch_first=batch_first)
        for index in range(1, self.count + 1):
            if any(each.is_read(index) for each in pair):
                last = layer.outputs[index]
                if lengths is not None:
                    given: list[ir.Value | None] = [last, lengths, *first[index - 1 : index]]
                    last = self._own("StateOrFirst", given, state, {})
                for row, each in enumerate(pair):
                    if each.is_read(index):
                        place = add_constant(self.constants, np.asarray(row), f"{last.name}_row")
                        one = self.add("Gather", [last, place], state[1:], axis=0)
                        each.replace_state(each.node.outputs[index], [one])
        forget_unread(layer)

    def _halves(self, series: ir.Value, shape: Sequence[Any]) -> Sequence[ir.Value]:
        """Results of both directions, apart."""
        parts = ir.node("Split", [series], {"axis": 2, "num_outputs": 2}, num_outputs=2)
        parts.metadata_props.update(self.node.metadata_props)
        self.graph.insert_before(self.node, parts)
        for half in parts.outputs:
            half.type, half.shape = self.x.type, ir.Shape(shape)
        return parts.outputs

    def _other_way(self, x: ir.Value, lengths: ir.Value | None, batch_first: bool) -> ir.Value:
        """Sequences from their ends to their beginnings, if the layer goes backwards only."""
        if attribute(self.node, "direction", "forward") != "reverse":
            return x
        if lengths is None:
            return self.reversed(x, int(batch_first))
        axes = {"batch_axis": 1 - int(batch_first), "time_axis": int(batch_first)}
        return self.add("ReverseSequence", [x, lengths], x.shape, **axes)

    def _own(
        self, op_type: str, inputs: list[ir.Value | None], shape: Any, attributes: dict[str, Any]
    ) -> ir.Value:
        """What one of bridge's own functions around a layer gives."""
        made = ir.Node(DOMAIN, op_type, inputs, ir.convenience.convert_attributes(attributes))
        made.metadata_props.update(self.node.metadata_props)
        self.graph.insert_before(self.node, made)
        made.outputs[0].type = self.x.type
        made.outputs[0].shape = None if shape is None else ir.Shape(shape)
        return made.outputs[0]

    def build_step(self) -> None:
        """A cell."""
        self.build_cell(self._tensors(0, ""))

    def _tensors(self, direction: int, suffix: str) -> list[ir.Value | None]:
        node, weights = self.node, self.weights
        bias = not has_no_bias(node)
        return [
            *self.matrices(direction, (f"weight_ih{suffix}", f"weight_hh{suffix}")),
            weights.bias(node, direction, 0, f"bias_ih{suffix}") if bias else None,
            weights.bias(node, direction, 1, f"bias_hh{suffix}") if bias else None,
        ]


def is_batch_first(node: ir.Node) -> bool:
    """Whether the graph exchanges the axes of time and batch for an operator."""
    swap = producer(node.inputs[0], "Transpose")
    if swap is None and (dropout := producer(node.inputs[0], "Dropout")) is not None:
        swap = producer(dropout.inputs[0], "Transpose")
    return swap is not None and permutation(swap) == SWAP
