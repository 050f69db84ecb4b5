"""Keras' recurrent layers as ONNX's operators while a model is traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from keras.src import layers

from bridge_converters.tf_to_onnx.recurrent_markers import Cell, attributes_of, recur

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
_OPERATORS = {layers.LSTMCell: "LSTM", layers.GRUCell: "GRU", layers.SimpleRNNCell: "RNN"}
_DTYPES = ("float32", "float64")
_LAYERS = (layers.GRU, layers.LSTM, layers.RNN, layers.SimpleRNN)


def recurrence(
    layer: layers.RNN, sequences: tf.Tensor, initial_state: Any, mask: Any
) -> tuple[tf.Tensor, tf.Tensor, Any] | None:
    """What `inner_loop` of a recurrent layer returns, as markers: the last output, all, and the states.

    None where ONNX has no operator that says the same: cells of other classes, other activations, other
    dtypes than float32 and float64, in which nothing is rounded between gates.
    """
    cells = layer.cell.cells if type(layer.cell) is layers.StackedRNNCells else [layer.cell]
    if type(layer) not in _LAYERS or any(type(cell) not in _OPERATORS for cell in cells):
        return None
    sequences = tf.convert_to_tensor(sequences)
    dtype = sequences.dtype.name
    if dtype not in _DTYPES or any({cell.compute_dtype, cell.variable_dtype} != {dtype} for cell in cells):
        return None
    described = [_cell(cell) for cell in cells]
    found = [each for each in described if each is not None]
    if len(found) != len(cells):
        return None
    last, series, states = recur(
        found,
        sequences,
        keras.tree.flatten(initial_state),
        None if mask is None else keras.tree.flatten(mask)[0],
        go_backwards=layer.go_backwards,
        return_sequences=layer.return_sequences,
        zero_output_for_mask=layer.zero_output_for_mask,
    )
    return last, series, keras.tree.pack_sequence_as(initial_state, states)


def _cell(cell: Any) -> Cell | None:
    """What a cell computes; None where the operator has no attributes that say so."""
    operator = _OPERATORS[type(cell)]
    functions: list[Callable[..., Any]] = [cell.activation]
    if hasattr(cell, "recurrent_activation"):
        functions.insert(0, cell.recurrent_activation)
    if operator == "LSTM":
        functions.append(cell.activation)
    known = {getattr(keras.activations, name): onnx for name, onnx in _ACTIVATIONS.items()}
    more = {"linear_before_reset": int(cell.reset_after)} if operator == "GRU" else {}
    attributes = attributes_of(cell.units, functions, known, **more)
    if attributes is None:
        return None
    states = len(keras.tree.flatten(cell.state_size))
    return Cell(operator, attributes, cell.units, states, cell.kernel, cell.recurrent_kernel, cell.bias)
