"""Keras' recurrent layers as ONNX's operators while a model is traced."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from keras.src import layers

from bridge_converters.tf_to_onnx.markers import mark_several

_ACTIVATIONS = {
    "elu": "Elu",
    "relu": "Relu",
    "sigmoid": "Sigmoid",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "tanh": "Tanh",
}
_OPERATORS = {
    layers.LSTM: ("LSTM", (0, 3, 1, 2)),
    layers.GRU: ("GRU", (0, 1, 2)),
    layers.SimpleRNN: ("RNN", (0,)),
}
"""The operator of a layer, and where Keras has ONNX's gates: i o f c among i f c o."""


def recurrence(
    layer: layers.RNN, sequences: tf.Tensor, initial_state: Any, mask: Any
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]] | None:
    """What `inner_loop` of a recurrent layer returns, as a marker: the last output, all, and the states.

    None where ONNX has no operator that says the same: other activations, masks (`sequence_lens` is right
    for right padding only), a layer that keeps its state between batches, other dtypes than float32.
    """
    sequences = tf.convert_to_tensor(sequences)
    names = _activation_names(layer)
    if type(layer) not in _OPERATORS or names is None or mask is not None or layer.stateful:
        return None
    if sequences.dtype != tf.float32 or layer.compute_dtype != "float32":
        return None
    operator, order = _OPERATORS[type(layer)]
    cell = layer.cell
    given = list(initial_state) if isinstance(initial_state, list | tuple) else [initial_state]
    attributes: dict[str, Any] = {"hidden_size": cell.units, "activations": names}
    if operator == "GRU":
        attributes["linear_before_reset"] = int(cell.reset_after)
    if layer.go_backwards:
        attributes["direction"] = "reverse"
    inputs = [
        tf.transpose(sequences, (1, 0, 2)),
        tf.transpose(_reordered(cell.kernel, order))[None],
        tf.transpose(_reordered(cell.recurrent_kernel, order))[None],
        _bias(cell.bias, order),
        None,
        *(tf.convert_to_tensor(state)[None] for state in given),
    ]
    batch, steps = sequences.shape[0], sequences.shape[1]
    last = tf.TensorShape([1, batch, cell.units])
    y, *states = mark_several(
        operator,
        inputs,
        shapes=[tf.TensorShape([steps, 1, batch, cell.units]), *[last] * len(given)],
        dtype=sequences.dtype,
        attributes=attributes,
    )
    series = tf.transpose(tf.squeeze(y, 1), (1, 0, 2))
    series = tf.reverse(series, [1]) if layer.go_backwards else series
    final = [tf.squeeze(state, 0) for state in states]
    return final[0], series, final


def _activation_names(layer: layers.RNN) -> list[str] | None:
    cell = layer.cell
    functions = [getattr(cell, "activation", None)]
    if hasattr(cell, "recurrent_activation"):
        functions.insert(0, cell.recurrent_activation)
    if isinstance(layer, layers.LSTM):
        functions.append(cell.activation)
    known = {getattr(keras.activations, name): onnx for name, onnx in _ACTIVATIONS.items()}
    names = [known.get(function) for function in functions]
    return None if None in names else [name for name in names if name is not None]


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
    return tf.concat([reordered, tf.zeros(reordered.shape, reordered.dtype)], 0)[None]
