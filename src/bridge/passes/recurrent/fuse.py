"""Nodes of the domain `bridge` that stand for a target's own recurrent layers."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.recurrent.builder import forget_unread
from bridge.passes.recurrent.directions import join_halves, opposite
from bridge.passes.recurrent.groups import Group, Target, groups
from bridge.passes.recurrent.keras_layers import (
    KerasBuilder,
    read_last_step_as_state,
    return_what_is_read,
)
from bridge.passes.recurrent.masks import name_kept_steps, read_in_order, read_within_ends
from bridge.passes.recurrent.states import read_parts
from bridge.passes.recurrent.torch_layers import TorchBuilder, is_batch_first
from bridge.passes.recurrent.weights import LayerWeights
from bridge.passes.unused import drop_unused


def fuse_recurrent_layers(model: ir.Model, target: Target, *, exact_training: bool = False) -> ir.Model:
    """LSTM, GRU and RNN with trained tensors as the target's layers.

    For PyTorch `bridge::LSTM(x, w_ih, w_hh, b_ih, b_hh, (the same reversed), h, c)` gives sequences
    (steps, batch, directions * hidden), or batch first as `batch_first` says, and states (directions,
    batch, hidden). For Keras `bridge::LSTM(x, kernel, recurrent_kernel, bias, (the same backwards), h, c,
    (backwards))` gives what the layer does, or `Bidirectional` of it: sequences (batch, steps, directions *
    hidden), reversed in time with `go_backwards`, and the states (batch, hidden) of each direction; without
    `return_sequences` the last step (batch, directions * hidden) instead of the sequences.
    `bridge::LSTMCell(x, tensors, h, c)` is a single step, which gives the states (batch, hidden).

    With `exact_training` two biases that Keras' layer would hold as their sum stay two: the attribute
    `two_biases` is set, the second bias follows the states, and there is one node per direction. The last
    input is the mask (batch, steps) of the steps that count, where sequences have lengths of their own.

    What the graph does to bring the operator's axes into these forms is dropped. Does not keep the graph
    valid ONNX.
    """
    weights = LayerWeights(model, target)
    if target == "torch":
        name_kept_steps(model)
        read_in_order(model)
    made: list[list[ir.Node]] = []
    found = list(groups(model, target))
    if target == "torch":
        for pair in list(opposite(found)):
            _build_both(model, weights, *pair)
            found = [group for group in found if group not in pair]
    for group in found:
        if target == "tf":
            keras = [KerasBuilder(node, weights, model.graph, exact_training) for node in group.nodes]
            if group.is_cell:
                for builder in keras:
                    builder.build_step()
            else:
                made.extend(map(list, zip(*(builder.build() for builder in keras), strict=True)))
        else:
            batch_first = all(map(is_batch_first, group.nodes))
            for node in group.nodes:
                torch = TorchBuilder(node, weights, model.graph)
                if group.is_cell:
                    torch.build_step()
                else:
                    torch.build(batch_first=batch_first)
    if target == "torch":
        join_halves(model)
        read_within_ends(model)
    read_parts(model)
    for layers in made:
        for layer in layers:
            read_last_step_as_state(layer)
    drop_unused(model)
    for layers in made:
        return_what_is_read(layers)
    drop_unused(model)
    for layers in made:
        for layer in layers:
            forget_unread(layer)
    return model


def _build_both(model: ir.Model, weights: LayerWeights, forward: Group, backward: Group) -> None:
    """One layer of PyTorch in both directions for each pair of calls."""
    batch_first = all(map(is_batch_first, forward.nodes + backward.nodes))
    for nodes in zip(forward.nodes, backward.nodes, strict=True):
        graph = nodes[0].graph
        assert graph is not None
        both = [TorchBuilder(node, weights, model.graph) for node in nodes]
        both[0].build_both(both[1], batch_first=batch_first)
        for node in nodes:
            graph.remove(node, safe=True)
        graph.sort()
