"""The weights of a PyTorch version as TensorFlow variables, in the layouts that TensorFlow wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

Array = np.ndarray[Any, np.dtype[Any]]


class Weights:
    """Variables by PyTorch's name, made on first use; `arrays` are PyTorch's own."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        self.arrays = arrays
        self.variables: dict[str, tf.Variable] = {}

    def __call__(self, name: str) -> tf.Variable:
        """A tensor as it is: biases, scales, embeddings."""
        return self._variable(name, lambda array: array)

    def dense(self, name: str) -> tf.Variable:
        """The kernel of a linear layer, (inputs, outputs)."""
        return self._variable(name, np.transpose)

    def conv(self, name: str) -> tf.Variable:
        """The kernel of a convolution, plain (*window, inputs, outputs) or transposed."""
        return self._variable(name, conv_kernel)

    def depthwise(self, name: str) -> tf.Variable:
        """The kernel of a depthwise convolution, (height, width, channels, 1)."""
        return self._variable(name, depthwise_kernel)

    def _variable(self, name: str, layout: Callable[[Array], Array]) -> tf.Variable:
        if name not in self.variables:
            with tf.init_scope():
                array = np.ascontiguousarray(layout(self.arrays[name]))
                self.variables[name] = tf.Variable(array, name=name.replace(".", "_"))
        return self.variables[name]


def conv_kernel(array: Array) -> Array:
    """(outputs, inputs, *window) to (*window, inputs, outputs)."""
    return np.moveaxis(array, (0, 1), (-1, -2))


def depthwise_kernel(array: Array) -> Array:
    """(channels, 1, height, width) to (height, width, channels, 1)."""
    return array.transpose(2, 3, 0, 1)
