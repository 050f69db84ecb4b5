"""PyTorch's recurrent layers."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import attribute, producer
from bridge.passes.moves import permutation
from bridge.passes.recurrent.builder import SWAP, Builder, forget_unread
from bridge.passes.recurrent.eligible import first_states, has_no_bias


class TorchBuilder(Builder):
    """Makes `nn.LSTM`, `nn.GRU` or `nn.RNN` of one layer, or their cells."""

    def build(self, *, batch_first: bool) -> None:
        """A layer, the other way round on reversed sequences."""
        x = self.x
        backwards = attribute(self.node, "direction", "forward") == "reverse"
        x = self.swapped(x) if batch_first else x
        inputs: list[ir.Value | None] = [self.reversed(x, int(batch_first)) if backwards else x]
        for direction in range(self.directions):
            inputs.extend(self._tensors(direction, "_l0_reverse" if direction else "_l0"))
        inputs.extend(first_states(self.node))
        start = [self.batch, self.steps] if batch_first else [self.steps, self.batch]
        state = [self.directions, self.batch, self.hidden]
        attributes = self.attributes(None) | {"batch_first": int(batch_first), "directions": self.directions}
        layer = self.layer(
            inputs, attributes, [[*start, self.directions * self.hidden], *[state] * self.count]
        )
        if self.is_read(0):
            y = layer.outputs[0]
            y = self.reversed(y, int(batch_first)) if backwards else y
            self.replace_sequences(y, batch_first=batch_first)
        for index in range(1, self.count + 1):
            if self.is_read(index):
                self.hand_over(self.node.outputs[index], layer.outputs[index])
        forget_unread(layer)

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
