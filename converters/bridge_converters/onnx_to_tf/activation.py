"""Activations, softmax and dropout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_tf._table import layer_rule, lowering
from bridge_converters.onnx_to_tf.random import uniform_numbers


@lowering("Relu")
def relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0)."""
    return tf.nn.relu(x)


@lowering("LeakyRelu")
def leaky_relu(x: tf.Tensor, *, alpha: float = 0.01) -> tf.Tensor:
    """x where x >= 0, alpha * x elsewhere."""
    return tf.nn.leaky_relu(x, alpha)


@lowering("PRelu")
def prelu(x: tf.Tensor, slope: tf.Tensor) -> tf.Tensor:
    """x where x >= 0, slope * x elsewhere; the slope broadcasts as numpy does."""
    return tf.where(x >= 0, x, slope * x)


@lowering("Elu")
def elu(x: tf.Tensor, *, alpha: float = 1.0) -> tf.Tensor:
    """x where x >= 0, alpha * (exp(x) - 1) elsewhere."""
    if alpha == 1.0:
        return tf.nn.elu(x)
    return tf.where(x >= 0, x, alpha * tf.nn.elu(x))


@lowering("Selu")
def selu(x: tf.Tensor, *, alpha: float = 1.6732632, gamma: float = 1.050701) -> tf.Tensor:
    """gamma * (x where x > 0, alpha * (exp(x) - 1) elsewhere)."""
    if abs(alpha - 1.6732632) < 1e-7 and abs(gamma - 1.050701) < 1e-7:
        return tf.nn.selu(x)
    return gamma * tf.where(x > 0, x, alpha * tf.nn.elu(x))


@lowering("Celu")
def celu(x: tf.Tensor, *, alpha: float = 1.0) -> tf.Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return tf.nn.relu(x) + tf.minimum(alpha * tf.nn.elu(x / alpha), 0)


@lowering("Gelu")
def gelu(x: tf.Tensor, *, approximate: str = "none") -> tf.Tensor:
    """x times the normal distribution function at x, or its tanh approximation."""
    if approximate == "none":
        return tf.nn.gelu(x)
    return tf.nn.gelu(x, approximate=True)


@lowering("Sigmoid")
def sigmoid(x: tf.Tensor) -> tf.Tensor:
    """1 / (1 + exp(-x))."""
    return tf.sigmoid(x)


@lowering("HardSigmoid")
def hard_sigmoid(x: tf.Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> tf.Tensor:
    """alpha * x + beta clipped to 0..1."""
    if abs(alpha - 1 / 6) < 1e-8 and beta == 0.5:
        return tf.nn.relu6(x + 3) / 6
    return tf.clip_by_value(alpha * x + beta, 0, 1)


@lowering("HardSwish")
def hard_swish(x: tf.Tensor) -> tf.Tensor:
    """x * max(0, min(1, x / 6 + 0.5))."""
    return x * tf.nn.relu6(x + 3) / 6


@lowering("Swish", domain="bridge")
@lowering("Swish", since=24)
def swish(x: tf.Tensor, *, alpha: float = 1.0) -> tf.Tensor:
    """x * sigmoid(alpha * x)."""
    return tf.nn.silu(x) if alpha == 1.0 else x * tf.sigmoid(alpha * x)


@lowering("SwiGLU", since=28)
def swiglu(a: tf.Tensor, b: tf.Tensor, *, alpha: float = 1.0) -> tf.Tensor:
    """b times swish of the gate a."""
    return (tf.nn.silu(a) if alpha == 1.0 else a * tf.sigmoid(alpha * a)) * b


@lowering("Softplus")
def softplus(x: tf.Tensor) -> tf.Tensor:
    """log(exp(x) + 1)."""
    return tf.nn.softplus(x)


@lowering("Softsign")
def softsign(x: tf.Tensor) -> tf.Tensor:
    """x / (1 + abs(x))."""
    return tf.nn.softsign(x)


@lowering("Tanh")
def tanh(x: tf.Tensor) -> tf.Tensor:
    """The hyperbolic tangent."""
    return tf.tanh(x)


@lowering("Mish")
def mish(x: tf.Tensor) -> tf.Tensor:
    """x * tanh(softplus(x))."""
    return x * tf.tanh(tf.nn.softplus(x))


@lowering("ThresholdedRelu")
def thresholded_relu(x: tf.Tensor, *, alpha: float = 1.0) -> tf.Tensor:
    """x where x > alpha, 0 elsewhere."""
    return tf.where(x > alpha, x, tf.zeros_like(x))


@lowering("Shrink")
def shrink(x: tf.Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> tf.Tensor:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    wide = x if tf.as_dtype(x.dtype).is_floating else tf.cast(x, tf.float32)
    shrunk = tf.where(wide < -lambd, wide + bias, tf.where(wide > lambd, wide - bias, 0))
    return tf.cast(shrunk, x.dtype)


@lowering("Softmax", since=13)
def softmax(x: tf.Tensor, *, axis: int = -1) -> tf.Tensor:
    """exp(x) over its sum along an axis."""
    return tf.nn.softmax(x, axis=axis)


@lowering("LogSoftmax", since=13)
def log_softmax(x: tf.Tensor, *, axis: int = -1) -> tf.Tensor:
    """The logarithm of softmax along an axis."""
    return tf.nn.log_softmax(x, axis=axis)


@lowering("Hardmax", since=13)
def hardmax(x: tf.Tensor, *, axis: int = -1) -> tf.Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    return tf.one_hot(tf.argmax(x, axis), tf.shape(x)[axis], axis=axis % x.ndim, dtype=x.dtype)


@lowering("Dropout", const=("ratio", "training_mode"))
def dropout(
    x: tf.Tensor,
    ratio: float | tf.Tensor | None = None,
    training_mode: bool | tf.Tensor | None = None,
    *,
    seed: int | None = None,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, tf.Tensor]:
    """The identity, as in inference; in training mode elements are dropped at random, the others scaled."""
    if training_mode is None or training_mode is False:
        return (x, tf.ones_like(x, tf.bool)) if outputs == 2 else x
    rate = tf.cast(0.5 if ratio is None else ratio, tf.float32) * tf.cast(training_mode, tf.float32)
    keep = uniform_numbers(tf.shape(x), tf.float32, 0.0, 1.0, seed) >= rate
    y = tf.where(keep, x / tf.cast(1 - rate, x.dtype), tf.zeros_like(x))
    return (y, tf.ensure_shape(keep, x.shape)) if outputs == 2 else y


@layer_rule("Relu")
def relu_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.ReLU")


@layer_rule("Clip")
def clip_layer(view: NodeView) -> Layer | None:
    """A clip to 0 and above."""
    low, high = view.constant(1), view.constant(2)
    if low is None or low != 0 or high is None or high <= 0 or high.dtype.kind != "f":
        return None
    return Layer("keras.layers.ReLU", (), {"max_value": float(str(high.reshape(())[()]))})


@layer_rule("LeakyRelu")
def leaky_relu_layer(view: NodeView) -> Layer | None:
    arguments = {"negative_slope": view.attr("alpha", 0.01)}
    return Layer("keras.layers.LeakyReLU", (), without(arguments, {"negative_slope": 0.3}))


@layer_rule("Elu")
def elu_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.ELU", (), without({"alpha": view.attr("alpha", 1.0)}, {"alpha": 1.0}))


@layer_rule("Selu")
def selu_layer(view: NodeView) -> Layer | None:
    usual = view.attr("alpha", 1.6732632) == 1.6732632 and view.attr("gamma", 1.050701) == 1.050701
    return Layer("keras.layers.Activation", ("selu",)) if usual else None


@layer_rule("Gelu")
def gelu_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.Activation", ("gelu",)) if view.attr("approximate", "none") == "none" else None


@layer_rule("Swish", domain="bridge")
@layer_rule("Swish")
def swish_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.Activation", ("silu",)) if view.attr("alpha", 1.0) == 1.0 else None


@layer_rule("HardSigmoid")
def hard_sigmoid_layer(view: NodeView) -> Layer | None:
    """Keras' hard sigmoid has a slope of 1/6."""
    usual = abs(view.attr("alpha", 0.2) - 1 / 6) < 1e-8 and view.attr("beta", 0.5) == 0.5
    return Layer("keras.layers.Activation", ("hard_sigmoid",)) if usual else None


@layer_rule("Softmax")
def softmax_layer(view: NodeView) -> Layer | None:
    return Layer("keras.layers.Softmax", (), without({"axis": view.attr("axis", -1)}, {"axis": -1}))


@layer_rule("PRelu")
def prelu_layer(view: NodeView) -> Layer | None:
    """A trained slope of one axis less than the input, where axes of size 1 are shared."""
    shape, slope = view.shape(0), view.input(1)
    if slope is None or shape is None or len(shape) < 2 or not view.is_trained(1):
        return None
    sizes = view.known_shape(1)
    padded = (1,) * (len(shape) - 1 - len(sizes)) + sizes
    if len(padded) != len(shape) - 1 or any(
        n not in (1, size) for n, size in zip(padded, shape[1:], strict=True)
    ):
        return None
    shared = tuple(
        axis
        for axis, (n, size) in enumerate(zip(padded, shape[1:], strict=True), start=1)
        if n == 1 and size != 1
    )
    moves = () if padded == sizes else (("reshape", {"shape": padded}),)
    arguments: dict[str, Any] = {"shared_axes": shared} if shared else {}
    return Layer("keras.layers.PReLU", (), arguments, {"alpha": LayerTensor(slope, moves)}, build_shape=shape)


@layer_rule("Dropout")
def dropout_layer(view: NodeView) -> Layer | None:
    """Dropout that acts in training only, as a source model's own layer does."""
    ratio = view.constant(1)
    if len(view.node.outputs) > 1 or (view.input(1) is not None and ratio is None):
        return None
    if view.input(2) is not None and not view.all_equal(2, False):
        return None
    rate = 0.5 if ratio is None else float(str(ratio.reshape(())[()]))
    return Layer("keras.layers.Dropout", (rate,)) if rate < 1 else None


def _activation(name: str) -> Callable[[NodeView], Layer | None]:
    return lambda view: Layer("keras.layers.Activation", (name,))


for _op, _name in {
    "HardSwish": "hard_swish",
    "Mish": "mish",
    "Sigmoid": "sigmoid",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Tanh": "tanh",
}.items():
    layer_rule(_op)(_activation(_name))
