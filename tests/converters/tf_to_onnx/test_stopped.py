"""Gradients that TensorFlow models stop on purpose are stopped in PyTorch too, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.stopped import drop_stops_in_variances

import bridge


def operators(function: Callable[[tf.Tensor], object]) -> list[str]:
    """What stops gradients in a function's graph and in the bodies that it has, after the rewriting."""
    concrete = tf.function(function).get_concrete_function(tf.TensorSpec((4, 4), tf.float32))
    graph_def = concrete.graph.as_graph_def()
    drop_stops_in_variances(graph_def)
    bodies = [each.node_def for each in graph_def.library.function]
    return [node.op for nodes in (graph_def.node, *bodies) for node in nodes if node.op == "StopGradient"]


def variance(x: tf.Tensor, first: object = 1, second: object = 1, *, keepdims: bool = True) -> tf.Tensor:
    mean = tf.stop_gradient(tf.reduce_mean(x, first, keepdims=keepdims))
    return tf.reduce_mean(tf.math.squared_difference(x, mean), second)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: tf.nn.moments(x, 1),
        lambda x: tf.nn.moments(x, [0, 1], keepdims=True),
        lambda x: variance(x, [0, 1], [1, 0]),
        lambda x: tf.while_loop(lambda x: tf.reduce_sum(x) < 9.0, lambda x: x + tf.nn.moments(x, 1)[1], [x]),
    ],
)
def test_a_variance_needs_no_stop(function: Callable[[tf.Tensor], object]) -> None:
    assert operators(function) == []


@pytest.mark.parametrize(
    "function",
    [
        lambda x: variance(x, 0, 1),
        lambda x: variance(x, keepdims=False),
        lambda x: tf.math.squared_difference(x, tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True))),
        lambda x: tf.reduce_mean(x * tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True)), 1),
        lambda x: tf.reduce_sum(
            tf.math.squared_difference(x, tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True))), 1
        ),
        lambda x: tf.stop_gradient(tf.reduce_mean(x, 1, keepdims=True)),
    ],
)
def test_what_is_no_variance_keeps_it(function: Callable[[tf.Tensor], object]) -> None:
    assert operators(function) == ["StopGradient"]


class Target(keras.Model):
    """A prediction of a target that learns nothing itself, rounded straight through."""

    def __init__(self) -> None:
        super().__init__()
        self.online = keras.layers.Dense(4, activation="tanh", name="online")
        self.slow = keras.layers.Dense(4, name="slow")
        self.norm = keras.layers.LayerNormalization(name="norm")
        self.head = keras.layers.Dense(3, name="head")

    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        positions = tf.stop_gradient(tf.sin(tf.cast(tf.range(4), tf.float32)))
        online = self.norm(self.online(x)) * positions
        goal = tf.stop_gradient(self.slow(x))
        rounded = online + tf.stop_gradient(tf.round(online) - online)
        return {
            "best": tf.argmax(tf.stop_gradient(online), -1),
            "loss": tf.reduce_mean((online - goal) ** 2, -1),
            "y": self.head(rounded),
        }


def test_gradients_stop_in_pytorch_where_they_stop_in_tensorflow(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = Target()
    signature = tf.TensorSpec((None, 4), tf.float32, name="x")
    model(tf.zeros((2, 4)))
    model.export(str(tmp_path / "net"), verbose=False, input_signature=[signature])
    result = bridge.convert(tmp_path / "net", "torch", verify=False)
    assert result.source.count(".detach()") == 2
    report = bridge.verify(tmp_path / "net", result, gradients=True)
    assert report.passed, report.summary()
    assert report.gradients is not None
    assert report.gradients.verdict == "equivalent"
