"""Normalisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_torch._exact import BiasedBatchNorm
from bridge_converters.onnx_to_torch._table import layer_rule, lowering


@lowering("BatchNormalization", layout="channels_first")
def batch_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor,
    input_mean: Tensor,
    input_var: Tensor,
    *,
    epsilon: float = 1e-05,
    momentum: float = 0.9,
    training_mode: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise each channel (axis 1) by running statistics, or by the batch's own in training mode.

    In training mode the further outputs are `running * momentum + batch * (1 - momentum)` with the
    biased variance of the batch. Gradients flow into the statistics too, which `F.batch_norm` refuses.
    """
    if not training_mode:
        return normalize_channels(x, scale, b, input_mean, input_var, epsilon)
    axes = (0, *range(2, x.ndim))
    mean = torch.mean(x, axes)
    var = torch.var(x, axes, correction=0)
    y = normalize_channels(x, scale, b, mean, var, epsilon)
    running_mean = input_mean * momentum + mean.to(input_mean.dtype) * (1 - momentum)
    running_var = input_var * momentum + var.to(input_var.dtype) * (1 - momentum)
    return (y, running_mean, running_var)[:outputs] if outputs > 1 else y


def normalize_channels(
    x: Tensor, scale: Tensor, b: Tensor, mean: Tensor, var: Tensor, epsilon: float
) -> Tensor:
    """(x - mean) / sqrt(var + epsilon) * scale + b along axis 1."""
    shape = (-1, *(1,) * (x.ndim - 2))
    factor = (scale * torch.rsqrt(var + epsilon)).reshape(shape)
    return ((x - mean.reshape(shape)) * factor + b.reshape(shape)).to(x.dtype)


@lowering("Contiguous", domain="bridge")
def contiguous(x: Tensor) -> Tensor:
    """The same values, in memory in the order of the axes."""
    return x.contiguous()


@lowering("InstanceNormalization", layout="channels_first")
def instance_normalization(x: Tensor, scale: Tensor, b: Tensor, *, epsilon: float = 1e-05) -> Tensor:
    """Normalise each channel of each sample over its spatial axes."""
    return F.group_norm(x, x.shape[1], scale, b, epsilon)


@lowering("InstanceNormalization", domain="bridge")
def instance_normalization_in_part(
    x: Tensor, scale: Tensor | None, b: Tensor | None, *, epsilon: float = 1e-05
) -> Tensor:
    """The same without a scale, or without a shift."""
    return F.group_norm(x, x.shape[1], scale, b, epsilon)


@lowering("LayerNormalization")
def layer_normalization(
    x: Tensor,
    scale: Tensor,
    b: Tensor | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-05,
    stash_type: int = 1,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Normalise over the axes from `axis` on; the further outputs are the mean and 1 / deviation."""
    if outputs == 1 and scale.ndim == (-axis if axis < 0 else x.ndim - axis):
        return F.layer_norm(x, scale.shape, scale, b, epsilon)
    wide = x.float() if stash_type == 1 and x.dtype != torch.float64 else x
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = torch.mean(wide, axes, keepdim=True)
    centred = wide - mean
    inverse = torch.rsqrt(torch.mean(centred * centred, axes, keepdim=True) + epsilon)
    y = (centred * inverse).to(x.dtype) * scale
    y = y if b is None else y + b
    return (y, mean, inverse)[:outputs] if outputs > 1 else y


@lowering("GroupNormalization", layout="channels_first", since=21)
def group_normalization(
    x: Tensor, scale: Tensor, bias: Tensor, *, epsilon: float = 1e-05, num_groups: int, stash_type: int = 1
) -> Tensor:
    """Normalise each group of channels of each sample; scale and bias are per channel."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@lowering("GroupNormalization", domain="bridge")
def group_normalization_in_part(
    x: Tensor,
    scale: Tensor | None,
    bias: Tensor | None,
    *,
    epsilon: float = 1e-05,
    num_groups: int,
    stash_type: int = 1,
) -> Tensor:
    """The same without a scale, or without a bias."""
    return F.group_norm(x, num_groups, scale, bias, epsilon)


@lowering("RMSNormalization")
def rms_normalization(
    x: Tensor, scale: Tensor, *, axis: int = -1, epsilon: float = 1e-05, stash_type: int = 1
) -> Tensor:
    """Divide by the root mean square over the axes from `axis` on."""
    if scale.ndim == (-axis if axis < 0 else x.ndim - axis):
        return F.rms_norm(x, scale.shape, scale, epsilon)
    wide = x.float() if stash_type == 1 and x.dtype != torch.float64 else x
    axes = tuple(range(axis % x.ndim, x.ndim))
    inverse = torch.rsqrt(torch.mean(wide * wide, axes, keepdim=True) + epsilon)
    return (wide * inverse).to(x.dtype) * scale


@lowering("LRN", layout="channels_first")
def lrn(x: Tensor, *, alpha: float = 0.0001, beta: float = 0.75, bias: float = 1.0, size: int) -> Tensor:
    """Local response normalisation across a window of `size` channels."""
    before = (size - 1) // 2
    squares = F.pad((x * x).movedim(1, -1), (before, size - 1 - before))
    total = squares.unfold(-1, size, 1).sum(-1).movedim(-1, 1)
    return x / (bias + alpha / size * total) ** beta


@lowering("LpNormalization")
def lp_normalization(x: Tensor, *, axis: int = -1, p: int = 2) -> Tensor:
    """Divide by the p-norm along an axis; a vector of zeros stays zero."""
    norm = torch.linalg.vector_norm(x, p, axis, keepdim=True)
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@lowering("MeanVarianceNormalization")
def mean_variance_normalization(x: Tensor, *, axes: tuple[int, ...] = (0, 2, 3)) -> Tensor:
    """Subtract the mean and divide by the deviation over the axes."""
    centred = x - torch.mean(x, axes, keepdim=True)
    return centred / (torch.sqrt(torch.mean(centred * centred, axes, keepdim=True)) + 1e-09)


@layer_rule("BatchNormalization")
def batch_normalization_layer(view: NodeView) -> Layer | None:
    """A batch normalisation in inference form; its layer trains as PyTorch's do."""
    shape = view.shape(0)
    scale, bias, mean, variance = (view.input(i) for i in range(1, 5))
    if shape is None or not 2 <= len(shape) <= 5 or view.attr("training_mode", 0):
        return None
    if scale is None or bias is None or mean is None or variance is None:
        return None
    if any(view.constant(i) is None for i in range(1, 5)) or not any(map(view.is_trained, range(1, 5))):
        return None
    affine = not (view.all_equal(1, 1) and view.all_equal(2, 0))
    tensors = {"weight": LayerTensor(scale), "bias": LayerTensor(bias)} if affine else {}
    tensors["running_mean"] = LayerTensor(mean)
    tensors["running_var"] = LayerTensor(variance, note=VARIANCE_NOTE)
    arguments = {
        "eps": view.attr("epsilon", 1e-05),
        "momentum": round(1 - view.attr("momentum", 0.9), 9),
        "affine": affine,
    }
    exact = BiasedBatchNorm if view.trains_as == "tf" else None
    if exact is not None:
        tensors["running_var"] = LayerTensor(variance)
    return Layer(
        f"nn.BatchNorm{max(len(shape) - 2, 1)}d" if exact is None else exact.__name__,
        view.known_shape(3),
        without(arguments, {"eps": 1e-05, "momentum": 0.1, "affine": True}),
        tensors,
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
    normalized = shape[view.attr("axis", -1) :]
    if view.known_shape(1) != normalized:
        return None
    unit_scale, no_bias = view.all_equal(1, 1), bias is None or view.all_equal(2, 0)
    if not (unit_scale or view.is_trained(1)) or not (no_bias or view.is_trained(2)):
        return None
    affine = not (unit_scale and no_bias)
    tensors = {"weight": LayerTensor(scale)} if affine else {}
    if bias is not None and not no_bias:
        tensors["bias"] = LayerTensor(bias)
    arguments = {
        "eps": view.attr("epsilon", 1e-05),
        "elementwise_affine": affine,
        "bias": not no_bias or not affine,
    }
    defaults = {"eps": 1e-05, "elementwise_affine": True, "bias": True}
    return Layer("nn.LayerNorm", (uniform_shape(normalized),), without(arguments, defaults), tensors)


@layer_rule("RMSNormalization")
def rms_normalization_layer(view: NodeView) -> Layer | None:
    """A root-mean-square normalisation with a scale of the normalised shape, trained or ones."""
    shape, scale = view.shape(0), view.input(1)
    if shape is None or scale is None or view.constant(1) is None:
        return None
    normalized = shape[view.attr("axis", -1) :]
    plain = view.all_equal(1, 1)
    if view.known_shape(1) != normalized or not (plain or view.is_trained(1)):
        return None
    arguments = {"eps": view.attr("epsilon", 1e-05), "elementwise_affine": not plain}
    return Layer(
        "nn.RMSNorm",
        (uniform_shape(normalized),),
        without(arguments, {"elementwise_affine": True}),
        {} if plain else {"weight": LayerTensor(scale)},
    )


def uniform_shape(shape: tuple[int | None, ...]) -> int | tuple[int | None, ...] | None:
    """The normalised shape as PyTorch models write it: a number for one axis."""
    return shape[0] if len(shape) == 1 else shape


@layer_rule("GroupNormalization")
def group_normalization_layer(view: NodeView) -> Layer | None:
    """A group normalisation with trained scale and bias, or without either."""
    tensors = _channel_weights(view)
    if tensors is None:
        return None
    arguments = {"eps": view.attr("epsilon", 1e-05), "affine": bool(tensors)}
    return Layer(
        "nn.GroupNorm",
        (view.attr("num_groups"), *view.known_shape(1)),
        without(arguments, {"eps": 1e-05, "affine": True}),
        tensors,
    )


@layer_rule("InstanceNormalization")
def instance_normalization_layer(view: NodeView) -> Layer | None:
    """An instance normalisation with trained scale and bias, or without either."""
    shape, tensors = view.shape(0), _channel_weights(view)
    if shape is None or not 3 <= len(shape) <= 5 or tensors is None:
        return None
    arguments = {"eps": view.attr("epsilon", 1e-05), "affine": bool(tensors)}
    return Layer(
        f"nn.InstanceNorm{len(shape) - 2}d",
        view.known_shape(1),
        without(arguments, {"eps": 1e-05, "affine": False}),
        tensors,
    )


def _channel_weights(view: NodeView) -> dict[str, LayerTensor] | None:
    """Trained scale and bias of channels; nothing where they are ones and zeros; None if neither is so."""
    scale, bias = view.input(1), view.input(2)
    if scale is None or bias is None:
        return None
    if view.all_equal(1, 1) and view.all_equal(2, 0):
        return {}
    if not view.is_trained(1) or not view.is_trained(2):
        return None
    return {"weight": LayerTensor(scale), "bias": LayerTensor(bias)}
