"""Layers that train as PyTorch's do where Keras' own do not; their text is copied into the emitted file."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


class TwoBiasLSTMCell(keras.layers.LSTMCell):  # type: ignore[misc]
    """An LSTM cell with a second bias, that of the state's projection, as PyTorch trains it."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = (4 * self.units,)
        self.recurrent_bias = self.add_weight(shape=shape, initializer="zeros", name="recurrent_bias")

    def call(
        self, inputs: tf.Tensor, states: Any, training: bool = False
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        h, c = states
        gates = inputs @ self.kernel + self.bias + (h @ self.recurrent_kernel + self.recurrent_bias)
        i, f, g, o = tf.split(gates, 4, -1)
        c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
        h = tf.sigmoid(o) * tf.tanh(c)
        return h, [h, c]


class TwoBiasLSTM(keras.layers.RNN):  # type: ignore[misc]
    """A long short-term memory of `TwoBiasLSTMCell`."""

    def __init__(self, units: int, **kwargs: Any) -> None:
        cell = TwoBiasLSTMCell(units, dtype=kwargs.get("dtype"), name="cell")
        super().__init__(cell, **kwargs)


class TwoBiasSimpleRNNCell(keras.layers.SimpleRNNCell):  # type: ignore[misc]
    """A simple recurrent cell with a second bias, that of the state's projection, as PyTorch trains it."""

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        shape = (self.units,)
        self.recurrent_bias = self.add_weight(shape=shape, initializer="zeros", name="recurrent_bias")

    def call(self, sequence: tf.Tensor, states: Any, training: bool = False) -> tuple[tf.Tensor, Any]:
        h = states[0] if isinstance(states, list | tuple) else states
        total = sequence @ self.kernel + self.bias + (h @ self.recurrent_kernel + self.recurrent_bias)
        h = self.activation(total)
        return h, [h] if isinstance(states, list | tuple) else h


class TwoBiasSimpleRNN(keras.layers.RNN):  # type: ignore[misc]
    """A simple recurrence of `TwoBiasSimpleRNNCell`."""

    def __init__(self, units: int, activation: str = "tanh", **kwargs: Any) -> None:
        cell = TwoBiasSimpleRNNCell(units, activation, dtype=kwargs.get("dtype"), name="cell")
        super().__init__(cell, **kwargs)


class UnbiasedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """A batch normalization whose running variance is the unbiased one (n - 1), as PyTorch keeps it."""

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        if not training:
            return super().call(inputs, training=False)
        channel = self.axis % inputs.ndim
        axes = [axis for axis in range(inputs.ndim) if axis != channel]
        mean, variance = tf.nn.moments(inputs, axes)
        count = tf.cast(tf.size(inputs) // tf.size(mean), inputs.dtype)
        unbiased = variance * count / (count - 1)
        self.moving_mean.assign(self.momentum * self.moving_mean + (1 - self.momentum) * mean)
        self.moving_variance.assign(self.momentum * self.moving_variance + (1 - self.momentum) * unbiased)
        shape = [-1 if axis == channel else 1 for axis in range(inputs.ndim)]
        mean, variance = tf.reshape(mean, shape), tf.reshape(variance, shape)
        scale = tf.reshape(self.gamma, shape) if self.scale else None
        offset = tf.reshape(self.beta, shape) if self.center else None
        return tf.nn.batch_normalization(inputs, mean, variance, offset, scale, self.epsilon)
