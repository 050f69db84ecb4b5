"""Keras' recurrent layers as ONNX's operators while a model is traced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras.src import layers

from bridge_converters.tf_to_onnx.markers import mark, mark_several

_ACTIVATIONS: dict[str, tuple[str, float | None, float | None]] = {
    "elu": ("Elu", 1.0, None),
    "hard_sigmoid": ("HardSigmoid", 1 / 6, 0.5),
    "leaky_relu": ("LeakyRelu", 0.2, None),
    "linear": ("Affine", 1.0, 0.0),
    "relu": ("Relu", None, None),
    "sigmoid": ("Sigmoid", None, None),
    "softplus": ("Softplus", None, None),
    "softsign": ("Softsign", None, None),
    "tanh": ("Tanh", None, None),
}
"""ONNX's activation of one of Keras, with its alpha and beta where it has them."""
_OPERATORS = {
    layers.LSTMCell: ("LSTM", (0, 3, 1, 2)),
    layers.GRUCell: ("GRU", (0, 1, 2)),
    layers.SimpleRNNCell: ("RNN", (0,)),
}
"""The operator of a cell, and where Keras has ONNX's gates: i o f c among i f c o."""
_DTYPES = ("float32", "float64")
_LAYERS = (layers.GRU, layers.LSTM, layers.RNN, layers.SimpleRNN)


@dataclass(frozen=True)
class _Mask:
    """Which steps (batch, steps) of sequences count, and in which order the others come after them."""

    kept: tf.Tensor

    @property
    def counts(self) -> tf.Tensor:
        """How many steps count up to each one."""
        return tf.cumsum(tf.cast(self.kept, tf.int32), axis=1)

    @property
    def lengths(self) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(self.kept, tf.int32), axis=1)

    def kept_first(self, sequences: tf.Tensor) -> tf.Tensor:
        """The sequences with the steps that count before the others, in their order."""
        size = tf.shape(self.kept, tf.int64)[1:]
        key = tf.cast(self.kept, tf.int32)
        shape = self.kept.shape
        _, order = mark_several(
            "TopK", [key, size], shapes=[shape, shape], dtype=[tf.int32, tf.int64], attributes={"axis": 1}
        )
        return _steps(sequences, order)

    def held(self, series: tf.Tensor) -> tf.Tensor:
        """What a recurrence gave for the steps that count, at every step: the last so far, zero before."""
        return tf.where(tf.expand_dims(self.counts > 0, 2), self._last(series), tf.zeros((), series.dtype))

    def spread(self, series: tf.Tensor) -> tf.Tensor:
        """What a recurrence gave for the steps that count, at these steps; zero at the others."""
        return tf.where(tf.expand_dims(self.kept, 2), self._last(series), tf.zeros((), series.dtype))

    def _last(self, series: tf.Tensor) -> tf.Tensor:
        return _steps(series, tf.cast(tf.maximum(self.counts - 1, 0), tf.int64))

    def unless_empty(self, state: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """A last state; the first one where no step counts."""
        return state if _is_zeros(first) else tf.where(tf.expand_dims(self.lengths > 0, 1), state, first)

    def zero_if_empty(self, state: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """A last state as the last output, which is zero where no step counts."""
        if _is_zeros(first):
            return state
        return tf.where(tf.expand_dims(self.lengths > 0, 1), state, tf.zeros((), state.dtype))


def recurrence(
    layer: layers.RNN, sequences: tf.Tensor, initial_state: Any, mask: Any
) -> tuple[tf.Tensor, tf.Tensor, Any] | None:
    """What `inner_loop` of a recurrent layer returns, as markers: the last output, all, and the states.

    With a mask the steps that count come first, which is all that `sequence_lens` can say, and the results
    are spread over all steps. None where ONNX has no operator that says the same: cells of other classes,
    other activations, other dtypes than float32 and float64, in which nothing is rounded between gates.
    """
    cells = layer.cell.cells if type(layer.cell) is layers.StackedRNNCells else [layer.cell]
    if type(layer) not in _LAYERS or any(type(cell) not in _OPERATORS for cell in cells):
        return None
    activations = [_activations(cell) for cell in cells]
    sequences = tf.convert_to_tensor(sequences)
    dtype = sequences.dtype.name
    if dtype not in _DTYPES or any({cell.compute_dtype, cell.variable_dtype} != {dtype} for cell in cells):
        return None
    found = [each for each in activations if each is not None]
    if len(found) != len(cells):
        return None
    held = mask is not None and layer.return_sequences and not layer.zero_output_for_mask
    reverse = layer.go_backwards and len(cells) == 1 and not held
    flipped = layer.go_backwards and not reverse
    steps = None if mask is None else _Mask(_mask(mask, flipped))
    x = tf.reverse(sequences, [1]) if flipped else sequences
    x = x if steps is None else steps.kept_first(x)
    first, last = keras.tree.flatten(initial_state), []
    for cell, attributes in zip(cells, found, strict=True):
        given = [first.pop(0) for _ in keras.tree.flatten(cell.state_size)]
        x, states = _run(cell, attributes, x, given, steps, reverse=reverse)
        last.append(states)
    states = keras.tree.pack_sequence_as(initial_state, [state for states in last for state in states])
    if steps is None:
        return last[-1][0], tf.reverse(x, [1]) if reverse else x, states
    if not layer.return_sequences and not layer.zero_output_for_mask:
        return steps.zero_if_empty(last[-1][0], given[0]), x, states
    series = steps.spread(x) if layer.zero_output_for_mask else steps.held(x)
    series = tf.reverse(series, [1]) if reverse else series
    return series[:, -1], series, states


def _run(
    cell: Any,
    attributes: dict[str, Any],
    x: tf.Tensor,
    first: Sequence[tf.Tensor],
    steps: _Mask | None,
    *,
    reverse: bool,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """All outputs (batch, steps, units) of one cell at their steps, and its last states."""
    operator, order = _OPERATORS[type(cell)]
    options = attributes | ({"direction": "reverse"} if reverse else {})
    inputs = [
        tf.transpose(x, (1, 0, 2)),
        tf.expand_dims(tf.transpose(_reordered(cell.kernel, order)), 0),
        tf.expand_dims(tf.transpose(_reordered(cell.recurrent_kernel, order)), 0),
        _bias(cell.bias, order),
        None if steps is None else steps.lengths,
        *(tf.expand_dims(state, 0) for state in first),
    ]
    last = tf.TensorShape([1, x.shape[0], cell.units])
    y, *states = mark_several(
        operator,
        inputs,
        shapes=[tf.TensorShape([x.shape[1], 1, x.shape[0], cell.units]), *[last] * len(first)],
        dtype=x.dtype,
        attributes=options,
    )
    series = tf.transpose(tf.squeeze(y, 1), (1, 0, 2))
    final = [tf.squeeze(state, 0) for state in states]
    if steps is not None:
        final = [steps.unless_empty(*each) for each in zip(final, first, strict=True)]
    return series, final


def _steps(sequences: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The steps of sequences (batch, steps, size) at places (batch, steps)."""
    return mark(
        "GatherND",
        [sequences, tf.expand_dims(places, 2)],
        shape=sequences.shape,
        dtype=sequences.dtype,
        attributes={"batch_dims": 1},
    )


def _mask(mask: Any, reverse: bool) -> tf.Tensor:
    """The mask (batch, steps) of a layer's first input."""
    kept = tf.cast(keras.tree.flatten(mask)[0], tf.bool)
    return tf.reverse(kept, [1]) if reverse else kept


def _is_zeros(state: tf.Tensor) -> bool:
    """Whether a state is made of zeros in the graph itself."""
    operation = state.op
    while operation.type in ("Identity", "Cast", "Reshape"):
        operation = operation.inputs[0].op
    if operation.type == "ZerosLike":
        return True
    if operation.type == "Const":
        return not tf.get_static_value(operation.outputs[0]).any()
    filled = tf.get_static_value(operation.inputs[1]) if operation.type == "Fill" else None
    return filled is not None and not filled.any()


def _activations(cell: Any) -> dict[str, Any] | None:
    """The attributes of an operator that say what a cell computes; None where it has no such attributes."""
    functions: list[Callable[..., Any]] = [cell.activation]
    if hasattr(cell, "recurrent_activation"):
        functions.insert(0, cell.recurrent_activation)
    if isinstance(cell, layers.LSTMCell):
        functions.append(cell.activation)
    known = {getattr(keras.activations, name): onnx for name, onnx in _ACTIVATIONS.items()}
    if any(function not in known for function in functions):
        return None
    names, alphas, betas = zip(*(known[function] for function in functions), strict=True)
    attributes: dict[str, Any] = {"hidden_size": cell.units, "activations": list(names)}
    for name, values in (("activation_alpha", alphas), ("activation_beta", betas)):
        given = [value for value in values if value is not None]
        if given:
            attributes[name] = given
    if isinstance(cell, layers.GRUCell):
        attributes["linear_before_reset"] = int(cell.reset_after)
    return attributes


def _reordered(kernel: Any, order: tuple[int, ...]) -> tf.Tensor:
    tensor = tf.convert_to_tensor(kernel)
    if order == tuple(range(len(order))):
        return tensor
    gates = tf.split(tensor, len(order), axis=-1)
    return tf.concat([gates[index] for index in order], -1)


def _bias(bias: Any, order: tuple[int, ...]) -> tf.Tensor | None:
    """Keras' bias and zeros for ONNX's second one; a GRU that resets after the product has both."""
    if bias is None:
        return None
    tensor = tf.convert_to_tensor(bias)
    if tensor.shape.rank == 2:
        return tf.reshape(tensor, (1, -1))
    reordered = _reordered(tensor, order)
    return tf.expand_dims(tf.concat([reordered, tf.zeros(reordered.shape, reordered.dtype)], 0), 0)
