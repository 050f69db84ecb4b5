"""Steps of optimizers; the tensors come in groups of the same length: parameters, gradients, states."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("Momentum", domain="ai.onnx.preview.training")
def momentum(
    r: tf.Tensor,
    t: tf.Tensor,
    *inputs: tf.Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
    outputs: int = 2,
) -> tuple[tf.Tensor, ...]:
    """Stochastic gradient descent with (Nesterov's) momentum: the new parameters, then their momenta."""
    count = len(inputs) // 3
    rate = tf.cast(r, inputs[0].dtype)
    parameters, momenta = [], []
    for i in range(count):
        x, g, v = inputs[i::count]
        gradient = norm_coefficient * x + g
        v = alpha * v + tf.where(t > 0, beta * gradient, gradient)
        parameters.append(x - rate * (gradient + alpha * v if mode == "nesterov" else v))
        momenta.append(v)
    return (*parameters, *momenta)


@lowering("Adagrad", domain="ai.onnx.preview.training")
def adagrad(
    r: tf.Tensor,
    t: tf.Tensor,
    *inputs: tf.Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 1e-06,
    norm_coefficient: float = 0.0,
    outputs: int = 2,
) -> tuple[tf.Tensor, ...]:
    """Adaptive gradient descent: the new parameters, then their sums of squared gradients."""
    count = len(inputs) // 3
    rate = tf.cast(r / (1 + tf.cast(t, r.dtype) * decay_factor), inputs[0].dtype)
    parameters, sums = [], []
    for i in range(count):
        x, g, h = inputs[i::count]
        gradient = norm_coefficient * x + g
        h = h + gradient * gradient
        parameters.append(x - rate * gradient / (tf.sqrt(h) + epsilon))
        sums.append(h)
    return (*parameters, *sums)


@lowering("Adam", domain="ai.onnx.preview.training")
def adam(
    r: tf.Tensor,
    t: tf.Tensor,
    *inputs: tf.Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 1e-06,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
    outputs: int = 3,
) -> tuple[tf.Tensor, ...]:
    """Adam: the new parameters, then the averages of their gradients and of the squares."""
    count = len(inputs) // 4
    step = tf.cast(t, r.dtype)
    rate = r * tf.where(t > 0, tf.sqrt(1 - beta**step) / (1 - alpha**step), 1)
    rate = tf.cast(rate, inputs[0].dtype)
    parameters, averages, squares = [], [], []
    for i in range(count):
        x, g, v, h = inputs[i::count]
        gradient = norm_coefficient * x + g
        v = alpha * v + (1 - alpha) * gradient
        h = beta * h + (1 - beta) * gradient * gradient
        parameters.append((1 - norm_coefficient_post) * (x - rate * v / (tf.sqrt(h) + epsilon)))
        averages.append(v)
        squares.append(h)
    return (*parameters, *averages, *squares)
