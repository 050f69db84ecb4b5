"""Recurrent operators: a loop over time, with the projection of all inputs done beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._rnn import activations_with_parameters, recurrence_beyond
from bridge_converters._windows import without
from bridge_converters.onnx_to_torch._table import layer_rule, lowering


@lowering("LSTM", supports=recurrence_beyond)
def lstm(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    initial_c: Tensor | None = None,
    p: Tensor | None = None,
    *,
    activation_alpha: tuple[float, ...] | None = None,
    activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    input_forget: int = 0,
    layout: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Long short-term memory; the gates of w, r and b are i, o, f, c, the peepholes of p are i, o, f.

    Gives the hidden states of all steps (steps, directions, batch, hidden), and the last hidden and
    cell states (directions, batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    names = activations or ("Sigmoid", "Tanh", "Tanh") * len(w)
    functions = activations_with_parameters(names, activation_alpha, activation_beta)
    x = x.transpose(0, 1) if layout else x
    h0, c0 = (first_states(each, x, r, layout) for each in (initial_h, initial_c))
    results = []
    for d in range(len(w)):
        w_bias, r_bias = (None, None) if b is None else b[d].chunk(2)
        peepholes = None if p is None else p[d].chunk(3)
        weights = (r[d], r_bias, peepholes, functions[3 * d : 3 * d + 3], clip, input_forget)
        inputs = F.linear(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(lstm_cell, weights, inputs, (h0[d], c0[d]), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def lstm_cell(
    x: Tensor,
    h: Tensor,
    c: Tensor,
    r: Tensor,
    bias: Tensor | None,
    peepholes: tuple[Tensor, ...] | None,
    functions: list[tuple[str, float, float]],
    clip: float | None,
    coupled: int,
) -> tuple[Tensor, Tensor]:
    """One step of a long short-term memory on projected inputs: the new hidden and cell states.

    Clipping bounds what goes into the gates, as in onnxruntime, and not the cell state.
    """
    gate, new, out = functions
    i, o, f, g = (x + F.linear(h, r, bias)).chunk(4, -1)
    i = activate(i if peepholes is None else i + peepholes[0] * c, gate, clip)
    f = 1 - i if coupled else activate(f if peepholes is None else f + peepholes[2] * c, gate, clip)
    c = f * c + i * activate(g, new, clip)
    o = activate(o if peepholes is None else o + peepholes[1] * c, gate, clip)
    return o * activate(c, out, None), c


@lowering("GRU", supports=recurrence_beyond)
def gru(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: tuple[float, ...] | None = None,
    activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] | None = None,
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    linear_before_reset: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Gated recurrent unit; the gates of w, r and b are z, r, h.

    Gives the hidden states of all steps (steps, directions, batch, hidden) and the last (directions,
    batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    names = activations or ("Sigmoid", "Tanh") * len(w)
    functions = activations_with_parameters(names, activation_alpha, activation_beta)
    x = x.transpose(0, 1) if layout else x
    h0 = first_states(initial_h, x, r, layout)
    results = []
    for d in range(len(w)):
        w_bias, r_bias = (None, None) if b is None else b[d].chunk(2)
        weights = (r[d], r_bias, functions[2 * d : 2 * d + 2], clip, linear_before_reset)
        inputs = F.linear(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(gru_cell, weights, inputs, (h0[d],), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def gru_cell(
    x: Tensor,
    h: Tensor,
    r: Tensor,
    bias: Tensor | None,
    functions: list[tuple[str, float, float]],
    clip: float | None,
    linear_before_reset: int,
) -> tuple[Tensor]:
    """One step of a gated recurrent unit on projected inputs: the new state."""
    gate, new = functions
    x_z, x_r, x_h = x.chunk(3, -1)
    r_z, r_r, r_h = r.chunk(3)
    b_z, b_r, b_h = (None, None, None) if bias is None else bias.chunk(3)
    z = activate(x_z + F.linear(h, r_z, b_z), gate, clip)
    reset = activate(x_r + F.linear(h, r_r, b_r), gate, clip)
    past = reset * F.linear(h, r_h, b_h) if linear_before_reset else F.linear(reset * h, r_h, b_h)
    return ((1 - z) * activate(x_h + past, new, clip) + z * h,)


@lowering("RNN", supports=recurrence_beyond)
def rnn(
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    sequence_lens: Tensor | None = None,
    initial_h: Tensor | None = None,
    *,
    activation_alpha: tuple[float, ...] | None = None,
    activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """The simple recurrence h = f(w x + r h + b).

    Gives the hidden states of all steps (steps, directions, batch, hidden) and the last (directions,
    batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    functions = activations_with_parameters(activations, activation_alpha, activation_beta)
    x = x.transpose(0, 1) if layout else x
    h0 = first_states(initial_h, x, r, layout)
    results = []
    for d in range(len(w)):
        w_bias, r_bias = (None, None) if b is None else b[d].chunk(2)
        weights = (r[d], r_bias, functions[d], clip)
        inputs = F.linear(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(rnn_cell, weights, inputs, (h0[d],), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def rnn_cell(
    x: Tensor,
    h: Tensor,
    r: Tensor,
    bias: Tensor | None,
    function: tuple[str, float, float],
    clip: float | None,
) -> tuple[Tensor]:
    """One step of a simple recurrence on projected inputs: the new state."""
    return (activate(x + F.linear(h, r, bias), function, clip),)


def first_states(given: Tensor | None, x: Tensor, r: Tensor, layout: int) -> Tensor:
    """The states (directions, batch, hidden) before the first step: zeros where none are given."""
    if given is None:
        return x.new_zeros(r.shape[0], x.shape[1], r.shape[2])
    return given.transpose(0, 1) if layout else given


def unroll(
    cell: Callable[..., tuple[Tensor, ...]],
    weights: tuple[Any, ...],
    inputs: Tensor,
    states: tuple[Tensor, ...],
    lengths: Tensor | None,
    reverse: bool,
) -> tuple[Tensor, ...]:
    """Run a cell over inputs (steps, batch, gates): its first state at all steps, and the last states.

    Beyond the length of a sequence its states stay as they are, and the result holds zeros.
    """
    steps = range(len(inputs))
    valid = None
    if lengths is not None:
        valid = (torch.arange(len(inputs), device=inputs.device)[:, None] < lengths)[:, :, None]
    series = []
    for step in reversed(steps) if reverse else steps:
        new = cell(inputs[step], *states, *weights)
        if valid is not None:
            new = tuple(torch.where(valid[step], *each) for each in zip(new, states, strict=True))
        states = new
        series.append(states[0])
    if not series:
        return inputs.new_zeros(0, *states[0].shape), *states
    y = torch.stack(series[::-1] if reverse else series)
    return y if valid is None else torch.where(valid, y, 0), *states


def joined_directions(
    results: list[tuple[Tensor, ...]], layout: int, outputs: int
) -> Tensor | tuple[Tensor, ...]:
    """The results of all directions as the operator gives them, as many as are asked for."""
    series, *states = zip(*results, strict=True)
    if layout:
        y = torch.stack([each.transpose(0, 1) for each in series], 2)
        last = [torch.stack(each, 1) for each in states]
    else:
        y = torch.stack(series, 1)
        last = [torch.stack(each) for each in states]
    return (y, *last)[:outputs] if outputs > 1 else y


def activate(x: Tensor, activation: tuple[str, float, float], clip: float | None) -> Tensor:
    """An activation (name, alpha, beta) of what is clipped to -clip..clip."""
    name, alpha, beta = activation
    x = x if clip is None else x.clamp(-clip, clip)
    if name == "sigmoid":
        return torch.sigmoid(x)
    if name == "tanh":
        return torch.tanh(x)
    if name == "relu":
        return torch.relu(x)
    if name == "affine":
        return alpha * x + beta
    if name == "leakyrelu":
        return F.leaky_relu(x, alpha)
    if name == "thresholdedrelu":
        return torch.where(x > alpha, x, 0)
    if name == "scaledtanh":
        return alpha * torch.tanh(beta * x)
    if name == "hardsigmoid":
        return (alpha * x + beta).clamp(0, 1)
    if name == "elu":
        return F.elu(x, alpha)
    return F.softsign(x) if name == "softsign" else F.softplus(x)


@lowering("KeptFirst", domain="bridge")
def kept_first(x: Tensor, mask: Tensor) -> Tensor:
    """Sequences (batch, steps, size) with the steps of the mask before the others, in their order."""
    order = torch.argsort((~mask).int(), dim=1, stable=True)
    return x.gather(1, order[:, :, None].expand_as(x))


@lowering("Held", domain="bridge")
def held(y: Tensor, mask: Tensor) -> Tensor:
    """What a recurrence gave for the steps of a mask, at every step: the last so far, zero before."""
    count = mask.cumsum(1)[:, :, None]
    last = y.gather(1, (count - 1).clamp(min=0).expand_as(y))
    return torch.where(count > 0, last, 0)


@lowering("Spread", domain="bridge")
def spread(y: Tensor, mask: Tensor) -> Tensor:
    """What a recurrence gave for the steps of a mask, at these steps; zero at the others."""
    place = (mask.cumsum(1) - 1).clamp(min=0)
    return torch.where(mask[:, :, None], y.gather(1, place[:, :, None].expand_as(y)), 0)


@lowering("KeepSteps", domain="bridge")
def keep_steps(y: Tensor, lengths: Tensor, *, batch_first: int) -> Tensor:
    """Sequences with zeros after their ends."""
    steps = torch.arange(y.shape[1 if batch_first else 0], device=y.device)
    kept = steps < lengths[:, None] if batch_first else steps[:, None] < lengths
    return torch.where(kept[:, :, None], y, 0)


@lowering("LastStep", domain="bridge")
def last_step(y: Tensor, lengths: Tensor, first: Tensor | None = None, *, batch_first: int) -> Tensor:
    """What a recurrent layer gave at the last step of each sequence (1, batch, size).

    A sequence without steps keeps its first state, which is zero if it is not given.
    """
    rows = torch.arange(lengths.shape[0], device=y.device)
    place = (lengths.long() - 1).clamp(min=0)
    last = (y[rows, place] if batch_first else y[place, rows])[None]
    return torch.where(lengths[:, None] > 0, last, 0 if first is None else first)


@lowering("PackSteps", domain="bridge")
def pack_steps(x: Tensor, lengths: Tensor, *, batch_first: int) -> nn.utils.rnn.PackedSequence:
    """Sequences of different lengths without their padding; of those without steps one step is kept."""
    return nn.utils.rnn.pack_padded_sequence(
        x, lengths.long().clamp(min=1).cpu(), batch_first=bool(batch_first), enforce_sorted=False
    )


@lowering("PadSteps", domain="bridge")
def pad_steps(packed: nn.utils.rnn.PackedSequence, lengths: Tensor, x: Tensor, *, batch_first: int) -> Tensor:
    """Packed results as sequences of the same number of steps as x, with zeros after their ends."""
    steps = x.shape[1 if batch_first else 0]
    y, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=bool(batch_first), total_length=steps)
    return keep_steps(y, lengths, batch_first=batch_first)


@lowering("StateOrFirst", domain="bridge")
def state_or_first(state: Tensor, lengths: Tensor, first: Tensor | None = None) -> Tensor:
    """The last state of each sequence (directions, batch, size), the first of those without steps."""
    return torch.where(lengths[:, None] > 0, state, 0 if first is None else first)


@layer_rule("LSTM", domain="bridge")
def lstm_layer(view: NodeView) -> Layer | None:
    """A long short-term memory; its inputs are those of `fuse_recurrent_layers`."""
    return _layer(view, "nn.LSTM", {}, results=(0, (1, 2)))


@layer_rule("GRU", domain="bridge")
def gru_layer(view: NodeView) -> Layer | None:
    """A gated recurrent unit that is linear before the reset."""
    return _layer(view, "nn.GRU", {}, results=(0, 1))


@layer_rule("RNN", domain="bridge")
def rnn_layer(view: NodeView) -> Layer | None:
    """A simple recurrence with tanh or relu."""
    return _layer(view, "nn.RNN", {"nonlinearity": view.attr("activation")}, results=(0, 1))


@layer_rule("LSTMCell", domain="bridge")
def lstm_cell_layer(view: NodeView) -> Layer | None:
    """One step of a long short-term memory."""
    return _cell(view, "nn.LSTMCell", {}, inputs=(0, (5, 6)), results=(0, 1))


@layer_rule("GRUCell", domain="bridge")
def gru_cell_layer(view: NodeView) -> Layer | None:
    """One step of a gated recurrent unit that is linear before the reset."""
    return _cell(view, "nn.GRUCell", {}, inputs=(0, 5), results=None)


@layer_rule("RNNCell", domain="bridge")
def rnn_cell_layer(view: NodeView) -> Layer | None:
    """One step of a simple recurrence with tanh or relu."""
    return _cell(view, "nn.RNNCell", {"nonlinearity": view.attr("activation")}, inputs=(0, 5), results=None)


def _cell(
    view: NodeView,
    constructor: str,
    options: dict[str, Any],
    *,
    inputs: tuple[int | tuple[int, ...], ...],
    results: tuple[int | tuple[int, ...], ...] | None,
) -> Layer:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    found = {name: value for at, name in enumerate(names, 1) if (value := view.input(at)) is not None}
    options |= {"bias": "bias_ih" in found}
    sizes = {"input_size": view.known_shape(1)[1], "hidden_size": view.attr("hidden_size")}
    return Layer(
        constructor,
        (),
        sizes | without(options, {"nonlinearity": "tanh", "bias": True}),
        {name: LayerTensor(value) for name, value in found.items()},
        inputs=inputs,
        results=results,
        label=view.attr("label"),
    )


def _layer(
    view: NodeView, constructor: str, options: dict[str, Any], *, results: tuple[int | tuple[int, ...], ...]
) -> Layer:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    tensors = {}
    for direction in range(view.attr("directions")):
        for offset, name in enumerate(names):
            value = view.input(1 + 4 * direction + offset)
            if value is not None:
                tensors[f"{name}_l0{'_reverse' if direction else ''}"] = LayerTensor(value)
    states = 1 + 4 * view.attr("directions")
    options |= {
        "bias": "bias_ih_l0" in tensors,
        "batch_first": bool(view.attr("batch_first")),
        "bidirectional": view.attr("directions") == 2,
    }
    defaults = {"nonlinearity": "tanh", "bias": True, "batch_first": False, "bidirectional": False}
    sizes = {"input_size": view.known_shape(1)[1], "hidden_size": view.attr("hidden_size")}
    first: int | tuple[int, ...] = (states, states + 1) if constructor == "nn.LSTM" else states
    return Layer(
        constructor,
        (),
        sizes | without(options, defaults),
        tensors,
        inputs=(0, first),
        results=results,
        label=view.attr("label"),
    )
