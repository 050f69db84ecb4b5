"""Which cases have gradients to check, at which inputs, and what has none for which reason."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from operator_cases import CASES
from operator_cases.case import Array, Case

ALL = -1
"""Every floating-point input of an operator."""

_STEPS = "it is constant but for steps"
_SHAPE = "only the shape, or the type, of the input counts"
_DRAWS = "it draws at random"
_CHOOSES = "it chooses among elements, and gives integers"
_SIZES = "a number of elements comes of it"
_CLASSES = "PyTorch's losses give weights of classes no gradient"

_ROUNDS = "it rounds to quantised values"

NOT_DIFFERENTIABLE: dict[tuple[str, int], str] = {
    **{
        (each.op, ALL): _ROUNDS
        for each in CASES
        if each.op.startswith(("QLinear", "QuantizeLinear", "DynamicQuantize")) or each.op.endswith("Integer")
    },
    **{(op, ALL): _STEPS for op in ("Ceil", "Floor", "Round", "Sign", "Hardmax")},
    **{
        (op, ALL): _STEPS
        for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsInf", "IsNaN")
    },
    **{(op, ALL): _SHAPE for op in ("Shape", "Size", "EyeLike")},
    **{(op, ALL): _CHOOSES for op in ("ArgMax", "ArgMin", "NonZero", "NonMaxSuppression")},
    **{(op, ALL): _DRAWS for op in ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")},
    ("CastLike", 1): _SHAPE,
    ("Dropout", 1): _DRAWS,
    ("MaxRoiPool", 1): _STEPS,
    ("MelWeightMatrix", ALL): "frequencies become numbers of bins",
    ("NegativeLogLikelihoodLoss", 2): _CLASSES,
    ("OneHot", 0): "it is an index",
    ("OneHot", 1): _SIZES,
    ("Range", ALL): _SIZES,
    ("Resize", 1): _SIZES,
    ("Resize", 2): _SIZES,
    ("SoftmaxCrossEntropyLoss", 2): _CLASSES,
    ("Unique", ALL): "it merges equal elements",
}
"""What has no gradient and why, by operator and input."""


IN_FLOAT32 = frozenset({"DequantizeLinear"})
"""Operators that take no float64; they are linear, so that a large step is exact enough."""

NO_DERIVATIVE: dict[str, str] = {
    "MaxUnpool-overlapping": "two elements go to one place",
}
"""Single cases at whose inputs there is no derivative."""


def reason_against(case: Case, position: int) -> str | None:
    """Why a floating-point input of an operator has no gradient; None if it has one."""
    return NOT_DIFFERENTIABLE.get((case.op, ALL)) or NOT_DIFFERENTIABLE.get((case.op, position))


def gradient_cases() -> list[Case]:
    """The cases with a finite floating-point input whose operator is differentiable in any."""
    return [
        each
        for each in CASES
        if (each.op, ALL) not in NOT_DIFFERENTIABLE
        and each.name not in NO_DERIVATIVE
        and "softmax_precision" not in each.attributes  # which is less than float64
        and any(map(_is_finite_float, each.inputs))
    ]


def step(case: Case) -> float:
    """The step of a central difference: small in float64, large where the operator takes no float64."""
    return 2.0**-4 if case.op in IN_FLOAT32 else 1e-6


def smooth(case: Case) -> Iterator[Case]:
    """A case in the precision to check its gradients in, beside kinks and ties; then exactly at its inputs,
    for where the first leaves the operator's domain.
    """
    dtype = np.float32 if case.op in IN_FLOAT32 else np.float64
    generator = np.random.default_rng(zlib.crc32(case.name.encode()))

    def wide(value: Array | None) -> Array | None:
        return value.astype(dtype) if value is not None and _is_float(value) else value

    def moved(position: int, value: Array | None) -> Array | None:
        value = wide(value)
        if value is None or value.dtype != dtype or reason_against(case, position) is not None:
            return value
        return np.asarray(value + generator.uniform(-0.01, 0.01, value.shape), dtype)

    yield replace(case, inputs=tuple(moved(*each) for each in enumerate(case.inputs)))
    yield replace(case, inputs=tuple(map(wide, case.inputs)))


def _is_float(value: Array) -> bool:
    return value.dtype.name in ("float16", "bfloat16", "float32", "float64")


def _is_finite_float(value: Array | None) -> bool:
    return value is not None and value.size > 0 and _is_float(value) and bool(np.isfinite(value).all())
