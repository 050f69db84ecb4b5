"""The layers of the hand-written pairs in TensorFlow: `tf` operations, channels last, Keras for the LSTM."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scripts.proof.plants.architectures import Architecture
from scripts.proof.plants.faults import Faults
from scripts.proof.plants.weights import Array, Weights


class TensorFlowLayers(tf.Module):  # type: ignore[misc]
    """See `architectures.Layers`. Variables are made on the first call of their node."""

    def __init__(self, architecture: Architecture, faults: Faults) -> None:
        super().__init__()
        self.faults = faults
        self._network = architecture.network
        self._source = Weights(architecture.seed, faults)
        self._made: dict[str, Any] = {}

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        return self._network(self, *inputs)

    def _once(self, node: str, make: Callable[[], Any]) -> Any:
        if node not in self._made:
            with tf.init_scope():
                self._made[node] = make()
        return self._made[node]

    def _variables(self, node: str, make: Callable[[], Sequence[Array | None]]) -> list[Any]:
        def variables() -> list[Any]:
            return [
                None if each is None else tf.Variable(each, name=f"{node}_{position}")
                for position, each in enumerate(make())
            ]

        made: list[Any] = self._once(node, variables)
        return made

    def image(self, x: Any) -> Any:
        return tf.transpose(x, (0, 2, 3, 1))

    def to_interface(self, x: Any) -> Any:
        return tf.transpose(x, (0, 3, 1, 2))

    def conv(
        self,
        x: Any,
        node: str,
        channels: tuple[int, int],
        kernel: int = 3,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        dilation: tuple[int, int] = (1, 1),
        groups: int = 1,
        bias: bool = True,
    ) -> Any:
        shift = int(padding != (0, 0) and self.faults.at("padding_shift", node))
        if dilation[0] != dilation[1] and self.faults.at("dilations_swapped", node):
            dilation, padding = dilation[::-1], padding[::-1]

        def make() -> Sequence[Array | None]:
            shape = (channels[1], channels[0] // groups, kernel, kernel)
            weight = self._source.convolution(node, shape, groups).transpose(2, 3, 1, 0)
            return weight, self._source.bias(node, channels[1]) if bias else None

        weight, vector = self._variables(node, make)
        with tf.name_scope(node):
            around = [(each - shift, each + shift) for each in padding]
            padded = tf.pad(x, [(0, 0), *around, (0, 0)])
            if groups == channels[0] == channels[1] and groups > 1:
                strides = (1, stride, stride, 1)
                depthwise = tf.transpose(weight, (0, 1, 3, 2))
                y = tf.nn.depthwise_conv2d(padded, depthwise, strides, "VALID", dilations=dilation)
            else:
                parts = zip(tf.split(padded, groups, -1), tf.split(weight, groups, -1), strict=True)
                convolved = [
                    tf.nn.conv2d(part, one, stride, "VALID", dilations=dilation) for part, one in parts
                ]
                y = convolved[0] if groups == 1 else tf.concat(convolved, -1)
            return y if vector is None else tf.nn.bias_add(y, vector)

    def batch_norm(self, x: Any, node: str, size: int) -> Any:
        scale, shift, mean, variance = self._variables(
            node, lambda: (*self._source.scale_and_shift(node, size), *self._source.statistics(node, size))
        )
        epsilon = 1e-3 if self.faults.at("epsilon", node) else 1e-5
        with tf.name_scope(node):
            return tf.nn.batch_normalization(x, mean, variance, shift, scale, epsilon)

    def layer_norm(self, x: Any, node: str, size: int) -> Any:
        scale, shift = self._variables(node, lambda: self._source.scale_and_shift(node, size))
        epsilon = 1e-6 if self.faults.at("epsilon", node) else 1e-5
        with tf.name_scope(node):
            mean, variance = tf.nn.moments(x, -1, keepdims=True)
            return tf.nn.batch_normalization(x, mean, variance, shift, scale, epsilon)

    def _activation(self, node: str, function: Callable[[Any], Any], x: Any) -> Any:
        half = self.faults.at("activation_half", node)
        detached = self.faults.at("detached_gradient", node)
        with tf.name_scope(node):
            result = function(x)
            if half:
                result = tf.cast(tf.cast(result, tf.float16), result.dtype)
            return tf.stop_gradient(result) if detached else result

    def relu(self, x: Any, node: str) -> Any:
        clipped = self.faults.at("clipped_range", node)
        return self._activation(node, tf.nn.relu6 if clipped else tf.nn.relu, x)

    def relu6(self, x: Any, node: str) -> Any:
        clipped = self.faults.at("clipped_range", node)
        return self._activation(node, tf.nn.relu if clipped else tf.nn.relu6, x)

    def leaky_relu(self, x: Any, node: str) -> Any:
        slope = 0.2 if self.faults.at("activation_slope", node) else 0.01
        return self._activation(node, lambda value: tf.nn.leaky_relu(value, slope), x)

    def gelu(self, x: Any, node: str) -> Any:
        approximate = self.faults.at("gelu_tanh", node)
        return self._activation(node, lambda value: tf.nn.gelu(value, approximate), x)

    def max_pool(self, x: Any, node: str, kernel: int, stride: int, *, ceil: bool = False) -> Any:
        up = ceil != (stride > 1 and self.faults.at("ceil_mode", node))
        with tf.name_scope(node):
            more = [_missing(size, kernel, stride) if up else 0 for size in x.shape[1:3]]
            low = x.dtype.min
            padded = tf.pad(x, [(0, 0), *((0, each) for each in more), (0, 0)], constant_values=low)
            return tf.nn.max_pool2d(padded, kernel, stride, "VALID")

    def average_pool(
        self, x: Any, node: str, kernel: int, stride: int, padding: int, *, ceil: bool, count: bool
    ) -> Any:
        up = ceil != (stride > 1 and self.faults.at("ceil_mode", node))
        counted = count != (padding > 0 and self.faults.at("count_include_pad", node))
        with tf.name_scope(node):
            sizes = [int(size) + 2 * padding for size in x.shape[1:3]]
            more = [_missing(size, kernel, stride) if up else 0 for size in sizes]
            inside = tf.ones_like(x[:1, :, :, :1])
            around = [(0, 0), (padding, padding), (padding, padding), (0, 0)]
            beyond = [(0, 0), *((0, each) for each in more), (0, 0)]
            total = tf.nn.avg_pool2d(tf.pad(tf.pad(x, around), beyond), kernel, stride, "VALID")
            weights = tf.pad(inside, around, constant_values=1.0 if counted else 0.0)
            share = tf.nn.avg_pool2d(tf.pad(weights, beyond), kernel, stride, "VALID")
            return total / share

    def global_pool(self, x: Any, node: str) -> Any:
        with tf.name_scope(node):
            return tf.reduce_mean(x, (1, 2))

    def resize(self, x: Any, node: str, factor: int) -> Any:
        height, width = (int(size) for size in x.shape[1:3])
        corners = self.faults.at("resize_mode", node)
        with tf.name_scope(node):
            if corners:
                return tf.compat.v1.image.resize_bilinear(
                    x, (factor * height, factor * width), align_corners=True
                )
            return tf.image.resize(x, (factor * height, factor * width))

    def flatten(self, x: Any, node: str) -> Any:
        wrong = self.faults.at("reshape_order", node)
        with tf.name_scope(node):
            ordered = x if wrong else tf.transpose(x, (0, 3, 1, 2))
            return tf.reshape(ordered, (-1, math.prod(x.shape[1:])))

    def dense(self, x: Any, node: str, sizes: tuple[int, int], *, bias: bool = True) -> Any:
        def make() -> Sequence[Array | None]:
            vector = self._source.bias(node, sizes[1]) if bias else None
            return self._source.dense(node, sizes[1], sizes[0]).T, vector

        kernel, vector = self._variables(node, make)
        with tf.name_scope(node):
            y = tf.tensordot(x, kernel, 1) if x.shape.rank > 2 else tf.matmul(x, kernel)
            return y if vector is None else tf.nn.bias_add(y, vector)

    def embedding(self, ids: Any, node: str, rows: int, width: int) -> Any:
        (table,) = self._variables(node, lambda: (self._source.embedding(node, rows, width),))
        with tf.name_scope(node):
            return tf.gather(table, ids)

    def heads(self, x: Any, node: str, count: int) -> Any:
        length, width = x.shape[1:]
        with tf.name_scope(node):
            if self.faults.at("reshape_order", node):
                return tf.transpose(tf.reshape(x, (-1, length, width // count, count)), (0, 3, 1, 2))
            return tf.transpose(tf.reshape(x, (-1, length, count, width // count)), (0, 2, 1, 3))

    def merge(self, x: Any, node: str) -> Any:
        axes = (0, 2, 3, 1) if self.faults.at("reshape_order", node) else (0, 2, 1, 3)
        with tf.name_scope(node):
            return tf.reshape(tf.transpose(x, axes), (-1, x.shape[2], x.shape[1] * x.shape[3]))

    def scores(self, query: Any, key: Any, node: str) -> Any:
        heads, width = query.shape[1], query.shape[3]
        if self.faults.at("attention_scale", node):
            width *= heads
        with tf.name_scope(node):
            return tf.matmul(query, key, transpose_b=True) / math.sqrt(width)

    def softmax(self, x: Any, node: str) -> Any:
        axis = -2 if self.faults.at("softmax_axis", node) else -1
        with tf.name_scope(node):
            return tf.nn.softmax(x, axis)

    def matmul(self, x: Any, y: Any, node: str) -> Any:
        with tf.name_scope(node):
            return tf.matmul(x, y)

    def mean_over_length(self, x: Any, node: str) -> Any:
        with tf.name_scope(node):
            return tf.reduce_mean(x, 1)

    def last(self, x: Any, node: str) -> Any:
        with tf.name_scope(node):
            return x[:, -1]

    def lstm(self, x: Any, node: str, sizes: tuple[int, int]) -> Any:
        def make() -> Any:
            kernel, recurrent, bias, recurrent_bias = self._source.recurrent(node, "lstm", *sizes)
            layer = keras.layers.LSTM(sizes[1], return_sequences=True, name=node)
            layer.build((None, None, sizes[0]))
            layer.set_weights([kernel.T, recurrent.T, bias + recurrent_bias])
            return layer

        layer = self._once(node, make)
        with tf.name_scope(node):
            return layer(x)

    def gru(self, x: Any, node: str, sizes: tuple[int, int]) -> Any:
        before = self.faults.at("gru_reset_after", node)
        kernel, recurrent, bias, recurrent_bias = self._variables(
            node, lambda: self._source.recurrent(node, "gru", *sizes)
        )
        size = sizes[1]
        with tf.name_scope(node):
            given = tf.tensordot(x, kernel, ((2,), (1,))) + bias
            steps = tf.transpose(given, (1, 0, 2))

            def step(state: Any, value: Any) -> Any:
                kept = tf.matmul(state, recurrent, transpose_b=True) + recurrent_bias
                reset = tf.sigmoid(value[:, :size] + kept[:, :size])
                update = tf.sigmoid(value[:, size : 2 * size] + kept[:, size : 2 * size])
                if before:
                    last = tf.matmul(reset * state, recurrent[2 * size :], transpose_b=True)
                    last += recurrent_bias[2 * size :]
                else:
                    last = reset * kept[:, 2 * size :]
                return (1 - update) * tf.tanh(value[:, 2 * size :] + last) + update * state

            states = tf.scan(step, steps, tf.zeros_like(steps[0, :, :size]))
            return tf.transpose(states, (1, 0, 2))

    def concat(self, parts: Sequence[Any], node: str) -> Any:
        ordered = parts[::-1] if self.faults.at("concat_order", node) else parts
        with tf.name_scope(node):
            return tf.concat(ordered, -1)

    def add(self, x: Any, y: Any, node: str) -> Any:
        with tf.name_scope(node):
            return x + y

    def dropout(self, x: Any, node: str, rate: float) -> Any:
        if not self.faults.at("dropout_active", node):
            return x
        with tf.name_scope(node):
            return tf.nn.dropout(x, rate)

    def standardise(self, x: Any, node: str) -> Any:
        unbiased = self.faults.at("variance_unbiased", node)
        epsilon = 1e-3 if self.faults.at("epsilon", node) else 1e-6
        with tf.name_scope(node):
            mean, variance = tf.nn.moments(x, -1, keepdims=True)
            if unbiased:
                variance *= x.shape[-1] / (x.shape[-1] - 1)
            return (x - mean) * tf.math.rsqrt(variance + epsilon)

    def clip(self, x: Any, node: str, low: float, high: float) -> Any:
        high = 1.02 * high if self.faults.at("clipped_range", node) else high
        lost = self.faults.at("lost_nan", node)

        def run(value: Any) -> Any:
            clipped = tf.clip_by_value(value, low, high)
            return tf.where(tf.math.is_nan(value), tf.zeros_like(value), clipped) if lost else clipped

        return self._activation(node, run, x)

    def log(self, x: Any, node: str) -> Any:
        with tf.name_scope(node):
            return tf.math.log(x)

    def round(self, x: Any, node: str) -> Any:
        away = self.faults.at("rounding", node)
        with tf.name_scope(node):
            return tf.sign(x) * tf.floor(tf.abs(x) + 0.5) if away else tf.round(x)

    def floor_divide(self, ids: Any, node: str, divisor: int) -> Any:
        truncates = self.faults.at("integer_division", node)
        with tf.name_scope(node):
            return tf.truncatediv(ids, divisor) if truncates else ids // divisor

    def argmax(self, x: Any, node: str) -> Any:
        with tf.name_scope(node):
            return tf.argmax(x, -1)

    def swap_outputs(self, outputs: tuple[Any, ...], node: str) -> tuple[Any, ...]:
        if self.faults.at("swapped_outputs", node):
            return outputs[1], outputs[0], *outputs[2:]
        return outputs


def _missing(size: int, kernel: int, stride: int) -> int:
    """How much an axis lacks for its last window, where sizes are rounded up."""
    steps = math.ceil((size - kernel) / stride)
    if steps * stride >= size:
        steps -= 1
    return max(0, steps * stride + kernel - size)


def save(architecture: Architecture, faults: Faults, path: Path) -> None:
    """Save the network as a SavedModel with one signature, `serving_default`, and a dynamic batch."""
    model = TensorFlowLayers(architecture, faults)
    specs = [
        tf.TensorSpec((None, *each.shape), tf.dtypes.as_dtype(each.dtype), name=each.name)
        for each in architecture.inputs
    ]
    model(
        *(
            tf.zeros((2, *each.shape), spec.dtype)
            for each, spec in zip(architecture.inputs, specs, strict=True)
        )
    )

    @tf.function(input_signature=specs)
    def serve(*inputs: Any) -> dict[str, Any]:
        return {f"output_{position}": each for position, each in enumerate(model(*inputs))}

    model.serve = serve
    tf.saved_model.save(model, str(path), signatures=serve)


def run(architecture: Architecture, faults: Faults, inputs: Sequence[Array]) -> list[Array]:
    """The outputs of the network without saving it."""
    results = TensorFlowLayers(architecture, faults)(*map(tf.constant, inputs))
    return [np.asarray(each) for each in results]
