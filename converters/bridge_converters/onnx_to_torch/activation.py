"""Activations, softmax and dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._windows import without
from bridge_converters.onnx_to_torch._table import layer_rule, lowering
from bridge_converters.onnx_to_torch.random import seeded


@lowering("Relu")
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return F.relu(x)


@lowering("LeakyRelu")
def leaky_relu(x: Tensor, *, alpha: float = 0.01) -> Tensor:
    """x where x >= 0, alpha * x elsewhere."""
    return F.leaky_relu(x, alpha)


@lowering("PRelu")
def prelu(x: Tensor, slope: Tensor) -> Tensor:
    """x where x >= 0, slope * x elsewhere; the slope broadcasts as numpy does."""
    return torch.where(x >= 0, x, slope * x)


@lowering("Elu")
def elu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x where x >= 0, alpha * (exp(x) - 1) elsewhere."""
    return F.elu(x, alpha)


@lowering("Selu")
def selu(x: Tensor, *, alpha: float = 1.6732632, gamma: float = 1.050701) -> Tensor:
    """gamma * (x where x > 0, alpha * (exp(x) - 1) elsewhere)."""
    if abs(alpha - 1.6732632) < 1e-7 and abs(gamma - 1.050701) < 1e-7:
        return F.selu(x)
    return gamma * F.elu(x, alpha)


@lowering("Celu")
def celu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1))."""
    return F.celu(x, alpha)


@lowering("Gelu")
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x, or its tanh approximation."""
    if approximate == "none":
        return F.gelu(x)
    return F.gelu(x, approximate="tanh")


@lowering("Sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return torch.sigmoid(x)


@lowering("HardSigmoid")
def hard_sigmoid(x: Tensor, *, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """alpha * x + beta clipped to 0..1."""
    if abs(alpha - 1 / 6) < 1e-8 and beta == 0.5:
        return F.hardsigmoid(x)
    return torch.clamp(alpha * x + beta, 0, 1)


@lowering("HardSwish")
def hard_swish(x: Tensor) -> Tensor:
    """x * max(0, min(1, x / 6 + 0.5))."""
    return F.hardswish(x)


@lowering("Swish", domain="bridge")
@lowering("Swish", since=24)
def swish(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x * sigmoid(alpha * x)."""
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@lowering("SwiGLU", since=28)
def swiglu(a: Tensor, b: Tensor, *, alpha: float = 1.0) -> Tensor:
    """b times swish of the gate a."""
    return (F.silu(a) if alpha == 1.0 else a * torch.sigmoid(alpha * a)) * b


@lowering("Softplus")
def softplus(x: Tensor) -> Tensor:
    """log(exp(x) + 1)."""
    return F.softplus(x)


@lowering("Softsign")
def softsign(x: Tensor) -> Tensor:
    """x / (1 + abs(x))."""
    return F.softsign(x)


@lowering("Tanh")
def tanh(x: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return torch.tanh(x)


@lowering("Mish")
def mish(x: Tensor) -> Tensor:
    """x * tanh(softplus(x))."""
    return F.mish(x)


@lowering("ThresholdedRelu")
def thresholded_relu(x: Tensor, *, alpha: float = 1.0) -> Tensor:
    """x where x > alpha, 0 elsewhere."""
    return F.threshold(x, alpha, 0.0)


@lowering("Shrink")
def shrink(x: Tensor, *, bias: float = 0.0, lambd: float = 0.5) -> Tensor:
    """x + bias below -lambd, x - bias above lambd, 0 between."""
    return torch.where(x < -lambd, x + bias, torch.where(x > lambd, x - bias, 0)).to(x.dtype)


@lowering("Softmax", since=13)
def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """exp(x) over its sum along an axis."""
    return F.softmax(x, dim=axis)


@lowering("LogSoftmax", since=13)
def log_softmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """The logarithm of softmax along an axis."""
    return F.log_softmax(x, dim=axis)


@lowering("Hardmax", since=13)
def hardmax(x: Tensor, *, axis: int = -1) -> Tensor:
    """1 at the first maximum along an axis, 0 elsewhere."""
    first = torch.argmax(x, axis, keepdim=True)
    return torch.zeros_like(x).scatter(axis, first, 1)


@lowering("Dropout", const=("ratio", "training_mode"))
def dropout(
    x: Tensor,
    ratio: float | Tensor | None = None,
    training_mode: bool | Tensor | None = None,
    *,
    seed: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, Tensor]:
    """The identity, as in inference; in training mode elements are dropped at random, the others scaled."""
    if training_mode is None or training_mode is False:
        return (x, torch.ones_like(x, dtype=torch.bool)) if outputs == 2 else x
    rate = (0.5 if ratio is None else ratio) * training_mode
    keep = torch.rand(x.shape, generator=seeded(seed, x.device), device=x.device) >= rate
    y = torch.where(keep, x / (1 - rate), 0).to(x.dtype)
    return (y, keep) if outputs == 2 else y


@layer_rule("Clip")
def clip_layer(view: NodeView) -> Layer | None:
    """A clip to 0..6."""
    low, high = view.constant(1), view.constant(2)
    six = low is not None and high is not None and low == 0 and high == 6
    return Layer("nn.ReLU6") if six else None


@layer_rule("LeakyRelu")
def leaky_relu_layer(view: NodeView) -> Layer | None:
    return Layer(
        "nn.LeakyReLU", (), without({"negative_slope": view.attr("alpha", 0.01)}, {"negative_slope": 0.01})
    )


@layer_rule("Elu")
def elu_layer(view: NodeView) -> Layer | None:
    return Layer("nn.ELU", (), without({"alpha": view.attr("alpha", 1.0)}, {"alpha": 1.0}))


@layer_rule("Celu")
def celu_layer(view: NodeView) -> Layer | None:
    return Layer("nn.CELU", (), without({"alpha": view.attr("alpha", 1.0)}, {"alpha": 1.0}))


@layer_rule("Selu")
def selu_layer(view: NodeView) -> Layer | None:
    usual = view.attr("alpha", 1.6732632) == 1.6732632 and view.attr("gamma", 1.050701) == 1.050701
    return Layer("nn.SELU") if usual else None


@layer_rule("Gelu")
def gelu_layer(view: NodeView) -> Layer | None:
    arguments = {"approximate": view.attr("approximate", "none")}
    return Layer("nn.GELU", (), without(arguments, {"approximate": "none"}))


@layer_rule("Swish", domain="bridge")
@layer_rule("Swish")
def swish_layer(view: NodeView) -> Layer | None:
    return Layer("nn.SiLU") if view.attr("alpha", 1.0) == 1.0 else None


@layer_rule("HardSigmoid")
def hard_sigmoid_layer(view: NodeView) -> Layer | None:
    usual = abs(view.attr("alpha", 0.2) - 1 / 6) < 1e-8 and view.attr("beta", 0.5) == 0.5
    return Layer("nn.Hardsigmoid") if usual else None


@layer_rule("ThresholdedRelu")
def thresholded_relu_layer(view: NodeView) -> Layer | None:
    return Layer("nn.Threshold", (view.attr("alpha", 1.0), 0.0))


@layer_rule("Softmax")
def softmax_layer(view: NodeView) -> Layer | None:
    return Layer("nn.Softmax", (), {"dim": view.attr("axis", -1)})


@layer_rule("LogSoftmax")
def log_softmax_layer(view: NodeView) -> Layer | None:
    return Layer("nn.LogSoftmax", (), {"dim": view.attr("axis", -1)})


@layer_rule("PRelu")
def prelu_layer(view: NodeView) -> Layer | None:
    """A trained slope that is one number, or one per channel (axis 1)."""
    shape, slope = view.shape(0), view.input(1)
    if slope is None or shape is None or not view.is_trained(1):
        return None
    sizes = view.known_shape(1)
    count = max(sizes, default=1)
    per_channel = len(shape) >= 2 and (1,) * (len(shape) - len(sizes)) + sizes == (
        1,
        count,
        *(1,) * (len(shape) - 2),
    )
    if not per_channel and count != 1:
        return None
    flat = LayerTensor(slope, () if len(sizes) == 1 else (("reshape", {"shape": (count,)}),))
    return Layer("nn.PReLU", (), without({"num_parameters": count}, {"num_parameters": 1}), {"weight": flat})


@layer_rule("Dropout")
def dropout_layer(view: NodeView) -> Layer | None:
    """Dropout that acts in training only, as a source model's own layer does."""
    ratio = view.constant(1)
    if len(view.node.outputs) > 1 or (view.input(1) is not None and ratio is None):
        return None
    if view.input(2) is not None and not view.all_equal(2, False):
        return None
    rate = 0.5 if ratio is None else float(str(ratio.reshape(())[()]))
    return Layer("nn.Dropout", (rate,)) if rate < 1 else None


def _named(constructor: str) -> Callable[[NodeView], Layer | None]:
    return lambda view: Layer(constructor)


for _op, _constructor in {
    "HardSwish": "nn.Hardswish",
    "Mish": "nn.Mish",
    "Relu": "nn.ReLU",
    "Sigmoid": "nn.Sigmoid",
    "Softplus": "nn.Softplus",
    "Softsign": "nn.Softsign",
    "Tanh": "nn.Tanh",
}.items():
    layer_rule(_op)(_named(_constructor))
