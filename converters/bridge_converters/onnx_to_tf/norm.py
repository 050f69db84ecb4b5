"""Normalisation; where channels matter, on data of (N, spatial..., C)."""

from __future__ import annotations

import tensorflow as tf

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import channels, without
from bridge_converters.onnx_to_tf._exact import UnbiasedBatchNormalization
from bridge_converters.onnx_to_tf._table import layer_rule, lowering


@lowering("BatchNormalization", layout="channels_last")
def batch_normalization(
    x: tf.Tensor,
    scale: tf.Tensor,
    b: tf.Tensor,
    input_mean: tf.Tensor,
    input_var: tf.Tensor,
    *,
    epsilon: float = 1e-05,
    momentum: float = 0.9,
    training_mode: int = 0,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Normalise each channel (the last axis) by running statistics, or by the batch's own in training mode.

    In training mode the further outputs are `running * momentum + batch * (1 - momentum)` with the
    biased variance of the batch.
    """
    if not training_mode:
        return normalize_channels(x, scale, b, input_mean, input_var, epsilon)
    mean, var = tf.nn.moments(x, tuple(range(x.ndim - 1)))
    y = normalize_channels(x, scale, b, mean, var, epsilon)
    running_mean = input_mean * momentum + tf.cast(mean, input_mean.dtype) * (1 - momentum)
    running_var = input_var * momentum + tf.cast(var, input_var.dtype) * (1 - momentum)
    return (y, running_mean, running_var)[:outputs] if outputs > 1 else y


def normalize_channels(
    x: tf.Tensor, scale: tf.Tensor, b: tf.Tensor, mean: tf.Tensor, var: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """(x - mean) / sqrt(var + epsilon) * scale + b along the last axis, in the widest of their dtypes."""
    wide = max((each.dtype for each in (x, scale, mean)), key=lambda dtype: dtype.size)
    values = [tf.cast(each, wide) for each in (x, mean, var, b, scale)]
    return tf.cast(tf.nn.batch_normalization(*values, epsilon), x.dtype)


@lowering("InstanceNormalization", layout="channels_last")
def instance_normalization(
    x: tf.Tensor, scale: tf.Tensor, b: tf.Tensor, *, epsilon: float = 1e-05
) -> tf.Tensor:
    """Normalise each channel of each sample over its spatial axes."""
    mean, var = tf.nn.moments(x, tuple(range(1, x.ndim - 1)), keepdims=True)
    return (x - mean) * tf.math.rsqrt(var + epsilon) * scale + b


@lowering("LayerNormalization")
def layer_normalization(
    x: tf.Tensor,
    scale: tf.Tensor,
    b: tf.Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-05,
    stash_type: int = 1,
    outputs: int = 1,
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Normalise over the axes from `axis` on; the further outputs are the mean and 1 / deviation."""
    wide = tf.cast(x, tf.float32) if stash_type == 1 and x.dtype != tf.float64 else x
    mean, var = tf.nn.moments(wide, tuple(range(axis % x.ndim, x.ndim)), keepdims=True)
    inverse = tf.math.rsqrt(var + epsilon)
    y = tf.cast((wide - mean) * inverse, x.dtype) * scale
    y = y if b is None else y + b
    return (y, mean, inverse)[:outputs] if outputs > 1 else y


@lowering("GroupNormalization", layout="channels_last", since=21)
def group_normalization(
    x: tf.Tensor,
    scale: tf.Tensor,
    bias: tf.Tensor,
    *,
    epsilon: float = 1e-05,
    num_groups: int,
    stash_type: int = 1,
) -> tf.Tensor:
    """Normalise each group of channels of each sample; scale and bias are per channel."""
    shape = tf.shape(x)
    grouped = tf.reshape(x, tf.concat([shape[:-1], [num_groups, shape[-1] // num_groups]], 0))
    wide = tf.cast(grouped, tf.float32) if stash_type == 1 and x.dtype != tf.float64 else grouped
    mean, var = tf.nn.moments(wide, (*range(1, x.ndim - 1), x.ndim), keepdims=True)
    normal = tf.cast((wide - mean) * tf.math.rsqrt(var + epsilon), x.dtype)
    return tf.ensure_shape(tf.reshape(normal, shape), x.shape) * scale + bias


@lowering("RMSNormalization")
def rms_normalization(
    x: tf.Tensor, scale: tf.Tensor, *, axis: int = -1, epsilon: float = 1e-05, stash_type: int = 1
) -> tf.Tensor:
    """Divide by the root mean square over the axes from `axis` on."""
    wide = tf.cast(x, tf.float32) if stash_type == 1 and x.dtype != tf.float64 else x
    square = tf.reduce_mean(wide * wide, tuple(range(axis % x.ndim, x.ndim)), keepdims=True)
    return tf.cast(wide * tf.math.rsqrt(square + epsilon), x.dtype) * scale


@lowering("LRN", layout="channels_last")
def lrn(
    x: tf.Tensor, *, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0, size: int
) -> tf.Tensor:
    """Local response normalisation across a window of `size` channels."""
    before = (size - 1) // 2
    squares = tf.pad(x * x, [[0, 0]] * (x.ndim - 1) + [[before, size - 1 - before]])
    total = tf.add_n([squares[..., k : k - size + 1 or None] for k in range(size)])
    return x / (bias + alpha / size * total) ** beta


@lowering("LpNormalization")
def lp_normalization(x: tf.Tensor, *, axis: int = -1, p: int = 2) -> tf.Tensor:
    """Divide by the p-norm along an axis; a vector of zeros stays zero."""
    return tf.math.divide_no_nan(x, tf.norm(x, p, axis, keepdims=True))


@lowering("MeanVarianceNormalization")
def mean_variance_normalization(x: tf.Tensor, *, axes: tuple[int, ...] = (0, 2, 3)) -> tf.Tensor:
    """Subtract the mean and divide by the deviation over the axes."""
    mean, var = tf.nn.moments(x, axes, keepdims=True)
    return (x - mean) / (tf.sqrt(var) + 1e-09)


@layer_rule("BatchNormalization")
def batch_normalization_layer(view: NodeView) -> Layer | None:
    """A batch normalisation in inference form; its layer trains as Keras' do."""
    shape = view.shape(0)
    scale, bias, mean, variance = (view.input(i) for i in range(1, 5))
    if shape is None or len(shape) < 2 or view.attr("training_mode", 0):
        return None
    if scale is None or bias is None or mean is None or variance is None:
        return None
    if any(view.constant(i) is None for i in range(1, 5)) or not any(map(view.is_trained, range(1, 5))):
        return None
    tensors = {}
    if not view.all_equal(1, 1):
        tensors["gamma"] = LayerTensor(scale)
    if not view.all_equal(2, 0):
        tensors["beta"] = LayerTensor(bias)
    tensors["moving_mean"] = LayerTensor(mean)
    tensors["moving_variance"] = LayerTensor(variance, note=VARIANCE_NOTE)
    arguments = {
        "axis": -1 if view.layout == "channels_last" or len(shape) == 2 else 1,
        "momentum": view.attr("momentum", 0.9),
        "epsilon": view.attr("epsilon", 1e-05),
        "center": "beta" in tensors,
        "scale": "gamma" in tensors,
    }
    defaults = {"axis": -1, "momentum": 0.99, "epsilon": 0.001, "center": True, "scale": True}
    (count,) = view.known_shape(3)
    last = arguments["axis"] == -1
    exact = UnbiasedBatchNormalization if view.trains_as == "torch" else None
    if exact is not None:
        tensors["moving_variance"] = LayerTensor(variance)
    return Layer(
        "keras.layers.BatchNormalization" if exact is None else exact.__name__,
        (),
        without(arguments, defaults),
        tensors,
        build_shape=(*shape[:-1], count) if last else (shape[0], count, *shape[2:]),
        source=exact,
    )


VARIANCE_NOTE = (
    "in training PyTorch adds the unbiased variance of a batch to the running variance, Keras the biased"
)


@layer_rule("LayerNormalization")
def layer_normalization_layer(view: NodeView) -> Layer | None:
    """A layer normalisation whose scale has the normalised shape."""
    shape, scale, bias = view.shape(0), view.input(1), view.input(2)
    if shape is None or scale is None or len(view.node.outputs) > 1 or view.constant(1) is None:
        return None
    axis = view.attr("axis", -1)
    if view.known_shape(1) != shape[axis:]:
        return None
    unit_scale, no_bias = view.all_equal(1, 1), bias is None or view.all_equal(2, 0)
    if not (unit_scale or view.is_trained(1)) or not (no_bias or view.is_trained(2)):
        return None
    tensors = {} if unit_scale else {"gamma": LayerTensor(scale)}
    if bias is not None and not no_bias:
        tensors["beta"] = LayerTensor(bias)
    axes = tuple(range(axis % len(shape) - len(shape), 0))
    arguments = {
        "axis": axes[0] if len(axes) == 1 else axes,
        "epsilon": view.attr("epsilon", 1e-05),
        "center": not no_bias,
        "scale": not unit_scale,
    }
    defaults = {"axis": -1, "epsilon": 0.001, "center": True, "scale": True}
    return Layer(
        "keras.layers.LayerNormalization", (), without(arguments, defaults), tensors, build_shape=shape
    )


@layer_rule("RMSNormalization")
def rms_normalization_layer(view: NodeView) -> Layer | None:
    """A root-mean-square normalisation with a trained scale of the normalised shape."""
    shape, scale = view.shape(0), view.input(1)
    if shape is None or scale is None or not view.is_trained(1):
        return None
    axis = view.attr("axis", -1)
    if view.known_shape(1) != shape[axis:]:
        return None
    axes = tuple(range(axis % len(shape) - len(shape), 0))
    arguments = {"axis": axes[0] if len(axes) == 1 else axes, "epsilon": view.attr("epsilon", 1e-05)}
    return Layer(
        "keras.layers.RMSNormalization",
        (),
        without(arguments, {"axis": -1, "epsilon": 1e-06}),
        {"scale": LayerTensor(scale)},
        build_shape=shape,
    )


@layer_rule("GroupNormalization")
def group_normalization_layer(view: NodeView) -> Layer | None:
    """A group normalisation; a scale of ones and a bias of zeros are left out."""
    return _normalized_groups(view, view.attr("num_groups"))


@layer_rule("InstanceNormalization")
def instance_normalization_layer(view: NodeView) -> Layer | None:
    """An instance normalisation: as many groups as channels, which Keras writes as -1."""
    return _normalized_groups(view, -1)


def _normalized_groups(view: NodeView, groups: int) -> Layer | None:
    shape, scale, bias = view.shape(0), view.input(1), view.input(2)
    if shape is None or len(shape) < 3 or scale is None or bias is None or view.layout != "channels_last":
        return None
    tensors = {}
    if not view.all_equal(1, 1):
        tensors["gamma"] = LayerTensor(scale)
    if not view.all_equal(2, 0):
        tensors["beta"] = LayerTensor(bias)
    if not all(view.is_trained(index) for index, name in ((1, "gamma"), (2, "beta")) if name in tensors):
        return None
    if channels(view) is None:
        return None
    arguments = {
        "groups": groups,
        "epsilon": view.attr("epsilon", 1e-05),
        "center": "beta" in tensors,
        "scale": "gamma" in tensors,
    }
    defaults = {"groups": 32, "epsilon": 0.001, "center": True, "scale": True}
    return Layer(
        "keras.layers.GroupNormalization", (), without(arguments, defaults), tensors, build_shape=shape
    )
