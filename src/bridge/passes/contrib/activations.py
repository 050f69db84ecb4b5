"""Activations, with what onnxruntime fuses before them."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.contrib.builder import Builder, InexpressibleError, expansion


@expansion("Gelu")
def gelu(op: Builder) -> None:
    """The exact form."""
    op.give(op("Gelu", op[0]))


@expansion("BiasGelu")
def bias_gelu(op: Builder) -> None:
    """Gelu(A + B)."""
    op.give(op("Gelu", op("Add", op[0], op[1])))


@expansion("FastGelu")
def fast_gelu(op: Builder) -> None:
    """The tanh form of Gelu(X + bias)."""
    bias = op.input(1)
    total = op[0] if bias is None else op("Add", op[0], bias)
    op.give(op("Gelu", total, approximate="tanh"))


@expansion("QuickGelu")
def quick_gelu(op: Builder) -> None:
    """X * sigmoid(alpha * X)."""
    op.give(swish(op, op[0], op.attribute("alpha")))


@expansion("BiasSplitGelu")
def bias_split_gelu(op: Builder) -> None:
    """The first half of X + bias, times Gelu of the second."""
    left, right = op.several("Split", 2, op("Add", op[0], op[1]), axis=-1, num_outputs=2)
    op.give(op("Mul", left, op("Gelu", right)))


def swish(op: Builder, x: ir.Value, alpha: float = 1.0) -> ir.Value:
    """x * sigmoid(alpha * x)."""
    inner = x if alpha == 1.0 else op("Mul", x, op.number(alpha, "alpha"))
    return op("Mul", x, op("Sigmoid", inner))


_PARAMETERS: dict[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "HardSwish": (),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""The activations that onnxruntime fuses into products, with their parameters in its order."""


def activated(op: Builder, x: ir.Value, parameters: list[float | None]) -> ir.Value:
    """x under the activation that a fused node names; without one, x itself."""
    name = op.attribute("activation")
    if not name:
        return x
    if name == "Clip":
        low, high = (None if each is None else op.number(each, "bound") for each in parameters[:2])
        return op("Clip", x, low, high)
    if name not in _PARAMETERS:
        raise InexpressibleError(f"its activation {name} is not known")
    given = dict(zip(_PARAMETERS[name], parameters, strict=False))
    return op(name, x, **given)
