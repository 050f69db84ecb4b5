"""Recurrent operators: a scan over time, with the projection of all inputs done beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bridge.emit.layer import Inner, Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge.emit.names import snake_case
from bridge.hub.graph import is_computed
from bridge_converters._rnn import activations_with_parameters, recurrence_beyond
from bridge_converters._windows import without
from bridge_converters.onnx_to_tf._exact import (
    TwoBiasLSTM,
    TwoBiasLSTMCell,
    TwoBiasSimpleRNN,
    TwoBiasSimpleRNNCell,
)
from bridge_converters.onnx_to_tf._table import layer_rule, lowering


@lowering("LSTM", supports=recurrence_beyond)
def lstm(
    x: tf.Tensor,
    w: tf.Tensor,
    r: tf.Tensor,
    b: tf.Tensor | None = None,
    sequence_lens: tf.Tensor | None = None,
    initial_h: tf.Tensor | None = None,
    initial_c: tf.Tensor | None = None,
    p: tf.Tensor | None = None,
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
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Long short-term memory; the gates of w, r and b are i, o, f, c, the peepholes of p are i, o, f.

    Gives the hidden states of all steps (steps, directions, batch, hidden), and the last hidden and
    cell states (directions, batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    names = activations or ("Sigmoid", "Tanh", "Tanh") * w.shape[0]
    functions = activations_with_parameters(names, activation_alpha, activation_beta)
    x = tf.transpose(x, (1, 0, 2)) if layout else x
    h0, c0 = (first_states(each, x, r, layout) for each in (initial_h, initial_c))
    results = []
    for d in range(w.shape[0]):
        w_bias, r_bias = (None, None) if b is None else tf.split(b[d], 2)
        peepholes = None if p is None else tf.split(p[d], 3)
        weights = (r[d], r_bias, peepholes, functions[3 * d : 3 * d + 3], clip, input_forget)
        inputs = project(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(lstm_cell, weights, inputs, (h0[d], c0[d]), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def lstm_cell(
    x: tf.Tensor,
    h: tf.Tensor,
    c: tf.Tensor,
    r: tf.Tensor,
    bias: tf.Tensor | None,
    peepholes: tuple[tf.Tensor, ...] | None,
    functions: list[tuple[str, float, float]],
    clip: float | None,
    coupled: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """One step of a long short-term memory on projected inputs: the new hidden and cell states.

    Clipping bounds what goes into the gates, as in onnxruntime, and not the cell state.
    """
    gate, new, out = functions
    i, o, f, g = tf.split(x + project(h, r, bias), 4, -1)
    i = activate(i if peepholes is None else i + peepholes[0] * c, gate, clip)
    f = 1 - i if coupled else activate(f if peepholes is None else f + peepholes[2] * c, gate, clip)
    c = f * c + i * activate(g, new, clip)
    o = activate(o if peepholes is None else o + peepholes[1] * c, gate, clip)
    return o * activate(c, out, None), c


@lowering("GRU", supports=recurrence_beyond)
def gru(
    x: tf.Tensor,
    w: tf.Tensor,
    r: tf.Tensor,
    b: tf.Tensor | None = None,
    sequence_lens: tf.Tensor | None = None,
    initial_h: tf.Tensor | None = None,
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
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Gated recurrent unit; the gates of w, r and b are z, r, h.

    Gives the hidden states of all steps (steps, directions, batch, hidden) and the last (directions,
    batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    names = activations or ("Sigmoid", "Tanh") * w.shape[0]
    functions = activations_with_parameters(names, activation_alpha, activation_beta)
    x = tf.transpose(x, (1, 0, 2)) if layout else x
    h0 = first_states(initial_h, x, r, layout)
    results = []
    for d in range(w.shape[0]):
        w_bias, r_bias = (None, None) if b is None else tf.split(b[d], 2)
        weights = (r[d], r_bias, functions[2 * d : 2 * d + 2], clip, linear_before_reset)
        inputs = project(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(gru_cell, weights, inputs, (h0[d],), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def gru_cell(
    x: tf.Tensor,
    h: tf.Tensor,
    r: tf.Tensor,
    bias: tf.Tensor | None,
    functions: list[tuple[str, float, float]],
    clip: float | None,
    linear_before_reset: int,
) -> tuple[tf.Tensor]:
    """One step of a gated recurrent unit on projected inputs: the new state."""
    gate, new = functions
    x_z, x_r, x_h = tf.split(x, 3, -1)
    r_z, r_r, r_h = tf.split(r, 3)
    b_z, b_r, b_h = (None, None, None) if bias is None else tf.split(bias, 3)
    z = activate(x_z + project(h, r_z, b_z), gate, clip)
    reset = activate(x_r + project(h, r_r, b_r), gate, clip)
    past = reset * project(h, r_h, b_h) if linear_before_reset else project(reset * h, r_h, b_h)
    return ((1 - z) * activate(x_h + past, new, clip) + z * h,)


@lowering("RNN", supports=recurrence_beyond)
def rnn(
    x: tf.Tensor,
    w: tf.Tensor,
    r: tf.Tensor,
    b: tf.Tensor | None = None,
    sequence_lens: tf.Tensor | None = None,
    initial_h: tf.Tensor | None = None,
    *,
    activation_alpha: tuple[float, ...] | None = None,
    activation_beta: tuple[float, ...] | None = None,
    activations: tuple[str, ...] = ("Tanh", "Tanh"),
    clip: float | None = None,
    direction: str = "forward",
    hidden_size: int | None = None,
    layout: int = 0,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """The simple recurrence h = f(w x + r h + b).

    Gives the hidden states of all steps (steps, directions, batch, hidden) and the last (directions,
    batch, hidden). With `layout` 1 the batch is the first axis of everything.
    """
    functions = activations_with_parameters(activations, activation_alpha, activation_beta)
    x = tf.transpose(x, (1, 0, 2)) if layout else x
    h0 = first_states(initial_h, x, r, layout)
    results = []
    for d in range(w.shape[0]):
        w_bias, r_bias = (None, None) if b is None else tf.split(b[d], 2)
        weights = (r[d], r_bias, functions[d], clip)
        inputs = project(x, w[d], w_bias)
        reverse = direction == "reverse" or d == 1
        results.append(unroll(rnn_cell, weights, inputs, (h0[d],), sequence_lens, reverse))
    return joined_directions(results, layout, outputs)


def rnn_cell(
    x: tf.Tensor,
    h: tf.Tensor,
    r: tf.Tensor,
    bias: tf.Tensor | None,
    function: tuple[str, float, float],
    clip: float | None,
) -> tuple[tf.Tensor]:
    """One step of a simple recurrence on projected inputs: the new state."""
    return (activate(x + project(h, r, bias), function, clip),)


def project(x: tf.Tensor, weight: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """x @ weight.T + bias along the last axis."""
    y = tf.matmul(x, weight, transpose_b=True)
    return y if bias is None else y + bias


def first_states(given: tf.Tensor | None, x: tf.Tensor, r: tf.Tensor, layout: int) -> tf.Tensor:
    """The states (directions, batch, hidden) before the first step: zeros where none are given."""
    if given is None:
        return tf.zeros((r.shape[0], tf.shape(x)[1], r.shape[2]), x.dtype)
    return tf.transpose(given, (1, 0, 2)) if layout else given


def unroll(
    cell: Callable[..., tuple[tf.Tensor, ...]],
    weights: tuple[Any, ...],
    inputs: tf.Tensor,
    states: tuple[tf.Tensor, ...],
    lengths: tf.Tensor | None,
    reverse: bool,
) -> tuple[tf.Tensor, ...]:
    """Run a cell over inputs (steps, batch, gates): its first state at all steps, and the last states.

    Beyond the length of a sequence its states stay as they are, and the result holds zeros.
    """
    steps = tf.shape(inputs)[0]
    valid = None if lengths is None else tf.transpose(tf.sequence_mask(lengths, steps))[:, :, None]

    def step(old: tuple[tf.Tensor, ...], given: tuple[tf.Tensor, ...]) -> tuple[tf.Tensor, ...]:
        new = cell(given[0], *old, *weights)
        if valid is not None:
            new = tuple(tf.where(given[1], *each) for each in zip(new, old, strict=True))
        return tuple(tf.ensure_shape(a, b.shape) for a, b in zip(new, old, strict=True))

    series = tf.scan(step, (inputs,) if valid is None else (inputs, valid), states, reverse=reverse)
    y = series[0] if valid is None else tf.where(valid, series[0], tf.zeros_like(series[0]))
    if reverse:
        return y, *(tf.concat([each, first[None]], 0)[0] for each, first in zip(series, states, strict=True))
    return y, *(tf.concat([first[None], each], 0)[-1] for each, first in zip(series, states, strict=True))


def joined_directions(
    results: list[tuple[tf.Tensor, ...]], layout: int, outputs: int
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """The results of all directions as the operator gives them, as many as are asked for."""
    series, *states = zip(*results, strict=True)
    if layout:
        y = tf.stack([tf.transpose(each, (1, 0, 2)) for each in series], 2)
        last = [tf.stack(each, 1) for each in states]
    else:
        y = tf.stack(series, 1)
        last = [tf.stack(each) for each in states]
    return (y, *last)[:outputs] if outputs > 1 else y


def activate(x: tf.Tensor, activation: tuple[str, float, float], clip: float | None) -> tf.Tensor:
    """An activation (name, alpha, beta) of what is clipped to -clip..clip."""
    name, alpha, beta = activation
    x = x if clip is None else tf.clip_by_value(x, -clip, clip)
    if name == "sigmoid":
        return tf.sigmoid(x)
    if name == "tanh":
        return tf.tanh(x)
    if name == "relu":
        return tf.nn.relu(x)
    if name == "affine":
        return alpha * x + beta
    if name == "leakyrelu":
        return tf.where(x < 0, alpha * x, x)
    if name == "thresholdedrelu":
        return tf.where(x > alpha, x, tf.zeros_like(x))
    if name == "scaledtanh":
        return alpha * tf.tanh(beta * x)
    if name == "hardsigmoid":
        return tf.clip_by_value(alpha * x + beta, 0, 1)
    if name == "elu":
        return tf.where(x < 0, alpha * tf.math.expm1(tf.minimum(x, 0)), x)
    return tf.nn.softsign(x) if name == "softsign" else tf.nn.softplus(x)


@lowering("SequenceMask", domain="bridge")
def sequence_mask(lengths: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """Which steps of x (batch, steps, features) lie within the lengths of the sequences."""
    return tf.sequence_mask(lengths, tf.shape(x)[1])


@layer_rule("LSTM", domain="bridge")
def lstm_layer(view: NodeView) -> Layer | None:
    """A long short-term memory; its inputs are those of `fuse_recurrent_layers`."""
    return _layer(view, "keras.layers.LSTM", {})


@layer_rule("GRU", domain="bridge")
def gru_layer(view: NodeView) -> Layer | None:
    """A gated recurrent unit, with the reset before or after the product."""
    return _layer(view, "keras.layers.GRU", {"reset_after": bool(view.attr("reset_after"))})


@layer_rule("RNN", domain="bridge")
def rnn_layer(view: NodeView) -> Layer | None:
    """A simple recurrence with tanh or relu."""
    return _layer(view, "keras.layers.SimpleRNN", {"activation": view.attr("activation")})


@layer_rule("LSTMCell", domain="bridge")
def lstm_cell_layer(view: NodeView) -> Layer | None:
    """One step of a long short-term memory."""
    return _cell(view, "keras.layers.LSTMCell", {}, inputs=(0, (4, 5)), results=(2, (0, 1)))


@layer_rule("GRUCell", domain="bridge")
def gru_cell_layer(view: NodeView) -> Layer | None:
    """One step of a gated recurrent unit."""
    options = {"reset_after": bool(view.attr("reset_after"))}
    return _cell(view, "keras.layers.GRUCell", options, inputs=(0, 4), results=(0, 1))


@layer_rule("RNNCell", domain="bridge")
def rnn_cell_layer(view: NodeView) -> Layer | None:
    """One step of a simple recurrence."""
    options = {"activation": view.attr("activation")}
    return _cell(view, "keras.layers.SimpleRNNCell", options, inputs=(0, 4), results=(0, 1))


_TENSORS = ("kernel", "recurrent_kernel", "bias")
_EXACT = {"LSTM": TwoBiasLSTM, "RNN": TwoBiasSimpleRNN}
_EXACT_CELLS = {"LSTMCell": TwoBiasLSTMCell, "RNNCell": TwoBiasSimpleRNNCell}
_DEFAULTS = {
    "reset_after": True,
    "activation": "tanh",
    "use_bias": True,
    "return_sequences": False,
    "return_state": False,
    "go_backwards": False,
    "zero_output_for_mask": False,
}


BIASES_NOTE = "the sum of two biases, which train as one"


def _layer(view: NodeView, constructor: str, options: dict[str, Any]) -> Layer:
    directions = view.attr("directions")
    flags = ("return_sequences", "return_state", "go_backwards")
    options |= {"use_bias": view.input(3) is not None} | {flag: bool(view.attr(flag)) for flag in flags}
    options["zero_output_for_mask"] = bool(view.attr("masked") and view.attr("return_sequences"))
    options = without(options, _DEFAULTS)
    units = view.attr("hidden_size")
    states = 2 if view.op_type == "LSTM" else 1
    first = 1 + len(_TENSORS) * directions
    given = tuple(range(first, first + states * directions))
    common = {
        "inputs": (0, given),
        "build_shape": (None, None, view.known_shape(1)[0]),
        "results": tuple(range(1 + states * directions)) if view.attr("return_state") else None,
        "label": view.attr("label"),
        "keywords": {"mask": first + len(given) + 1} if view.attr("masked") else {},
    }
    exact = _EXACT[view.op_type] if view.attr("two_biases") else None
    if exact is not None:
        tensors = _tensors(view, 1, "cell.", recurrent_bias=first + len(given))
        return Layer(exact.__name__, (units,), options, tensors, source=exact, **common)
    if directions == 1:
        return Layer(constructor, (units,), options, _tensors(view, 1, "cell."), **common)
    dtype = _dtype(view)
    name = snake_case(constructor.rpartition(".")[2])
    inner = Inner(constructor, (units,), tuple((options | dtype | {"name": name}).items()))
    tensors = _tensors(view, 1, "forward_layer.cell.") | _tensors(view, 4, "backward_layer.cell.")
    return Layer("keras.layers.Bidirectional", (inner,), {}, tensors, **common)


def _cell(
    view: NodeView,
    constructor: str,
    options: dict[str, Any],
    *,
    inputs: tuple[int | tuple[int, ...], ...],
    results: tuple[int | tuple[int, ...], ...],
) -> Layer:
    options |= {"use_bias": view.input(3) is not None}
    exact = _EXACT_CELLS[view.op_type] if view.attr("two_biases") else None
    states = 2 if view.op_type == "LSTMCell" else 1
    return Layer(
        constructor if exact is None else exact.__name__,
        (view.attr("hidden_size"),),
        without(options, _DEFAULTS),
        _tensors(view, 1, "", recurrent_bias=None if exact is None else 4 + states),
        inputs=inputs,
        build_shape=(None, view.known_shape(1)[0]),
        results=results,
        label=view.attr("label"),
        source=exact,
    )


def _tensors(
    view: NodeView, first: int, prefix: str, *, recurrent_bias: int | None = None
) -> dict[str, LayerTensor]:
    """The tensors of one direction, whose node inputs begin at `first`, and a second bias."""
    slots = {name: first + offset for offset, name in enumerate(_TENSORS)}
    if recurrent_bias is not None:
        slots["recurrent_bias"] = recurrent_bias
    found = {name: value for name, index in slots.items() if (value := view.input(index)) is not None}
    return {
        f"{prefix}{name}": LayerTensor(value, note=BIASES_NOTE if is_computed(value) else None)
        for name, value in found.items()
    }


def _dtype(view: NodeView) -> dict[str, str]:
    value = view.input(1)
    assert value is not None
    assert value.dtype is not None
    name = value.dtype.numpy().name
    return {} if name == "float32" else {"dtype": name}
