"""Whether an output of the target equals the source's, as docs/verdict.md defines it. Pure functions.

Every output is judged against a reference, the source computed in float64 by its own framework. The
target may be as far from it as a small multiple of what the source itself is: that separates rounding
from faults without a tolerance that somebody chose.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import ml_dtypes
import numpy as np

from bridge.verification.inputs import Rule
from bridge.verification.measure import (
    Array,
    Distance,
    Size,
    Spread,
    count_special_mismatches,
    distance,
    rows_differ,
    spread,
)

Verdict = Literal["equivalent", "different", "could not be checked"]

SOURCE_FACTOR = 4.0
"""How many times the source's own error the target may have."""
EPSILONS = 64.0
"""How many units of the output's precision the target may be off in any case."""
UNSTABLE = 1e-4
"""The error of a float32 source above which nothing can be concluded from its outputs."""
_UNSTABLE_NARROW_EPSILONS = 16.0
_NEAR_ZERO = 1e-3

ASSERT_CLOSE: Mapping[str, tuple[float, float]] = {
    "float16": (1e-3, 1e-5),
    "bfloat16": (1.6e-2, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
    "complex64": (1.3e-6, 1e-5),
    "complex128": (1e-7, 1e-7),
}
"""(rtol, atol) by dtype where there is no reference: those of `torch.testing.assert_close`."""


@dataclass(frozen=True)
class Sample:
    """One output of one draw. `batch` is the size of axis 0 of the inputs where that is dynamic."""

    draw: str
    rule: Rule
    batch: int | None
    source: Array
    target: Array
    reference: Array | None


@dataclass(frozen=True)
class Errors:
    """Distances over the draws of one rule, relative to the size of what they are held against.

    That is the float64 reference, or, for draws too large to have one, the source: the target's are
    then its distances from the source, and the tolerances have the source's own error (as measured on the
    other draws of the rule) in them once more.
    `*_l2` are Euclidean, `*_max` of the largest element. Without a reference the target's are its
    distances from the source, the source's and the tolerances are None. `stable` says whether the source
    is near enough to its own reference to judge by it.
    """

    rule: Rule
    held_against: Literal["reference", "source"]
    source_l2: float | None
    source_max: float | None
    target_l2: float
    target_max: float
    tolerance_l2: float | None
    tolerance_max: float | None
    stable: bool
    passed: bool


@dataclass(frozen=True)
class Worst:
    """The element that is farthest off: in which draw, where, and its values."""

    draw: str
    index: tuple[int, ...]
    source: str
    target: str
    reference: str | None


@dataclass(frozen=True)
class OutputResult:
    """What was found about one output. `varies` is None where too few comparable draws tell."""

    name: str
    dtype: str
    verdict: Verdict
    reasons: tuple[str, ...]
    errors: tuple[Errors, ...] = ()
    varies: bool | None = None
    worst: Worst | None = None


def compare_output(name: str, samples: Sequence[Sample]) -> OutputResult:
    """Judge one output over all draws (at least one)."""
    dtype = samples[0].source.dtype.name
    mismatch = _type_mismatches(samples)
    if mismatch:
        return OutputResult(name, dtype, "different", mismatch)
    if is_inexact(samples[0].source):
        return _compare_inexact(name, dtype, samples)
    return _compare_exact(name, dtype, samples)


def is_inexact(array: Array) -> bool:
    """Whether an array holds floating-point or complex numbers."""
    return array.dtype.kind in "fc" or array.dtype.name in ("bfloat16", "float8_e4m3fn", "float8_e5m2")


def _type_mismatches(samples: Iterable[Sample]) -> tuple[str, ...]:
    reasons = []
    for each in samples:
        if each.source.dtype != each.target.dtype:
            reasons.append(f"{each.draw}: the dtype is {each.target.dtype}, not {each.source.dtype}")
        if each.source.shape != each.target.shape:
            reasons.append(f"{each.draw}: the shape is {each.target.shape}, not {each.source.shape}")
    return tuple(reasons)


def _compare_exact(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    """Integers and booleans: equal, element by element, to the source or to its float64 reference."""
    reasons = []
    worst = None
    for each in samples:
        right = each.target == each.source
        if each.reference is not None and each.reference.shape == each.source.shape:
            right |= each.target == each.reference
        wrong = int(right.size - np.count_nonzero(right))
        if wrong:
            reasons.append(f"{each.draw}: {wrong} of {right.size} elements differ")
            first = np.unravel_index(int(np.argmin(right)), right.shape)
            worst = worst or _worst(each, tuple(int(axis) for axis in first))
    varies = rows_differ([each.source for each in samples], [each.batch for each in samples])
    return OutputResult(
        name, dtype, "different" if reasons else "equivalent", tuple(reasons), varies=varies, worst=worst
    )


@dataclass(frozen=True)
class _Measured:
    """A sample and its distances; from the source where it has no reference."""

    sample: Sample
    distance: Distance


def _compare_inexact(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    reasons = tuple(_special_mismatches(samples))
    if reasons:
        return OutputResult(name, dtype, "different", reasons)
    if all(each.reference is None for each in samples):
        return _compare_without_reference(name, dtype, samples)
    measured = []
    for each in samples:
        found = distance(each.source, each.target, _held_against(each))
        if found is None:
            reason = (
                f"{each.draw}: the source in float64 gives other shapes or special values than in {dtype}"
            )
            return OutputResult(name, dtype, "could not be checked", (reason,))
        measured.append(_Measured(each, found))
    variation = _variation(samples)
    epsilon = float(ml_dtypes.finfo(samples[0].source.dtype).eps)
    exact = _by_rule(each for each in measured if each.sample.reference is not None)
    errors = {rule: _errors(rule, group, variation, epsilon, dtype) for rule, group in exact.items()}
    judged = list(errors.values())
    for rule, group in _by_rule(each for each in measured if each.sample.reference is None).items():
        known = errors.get(rule, judged[0])
        judged.append(_distances(_errors(rule, group, variation, epsilon, dtype), known, epsilon))
    verdict, why = _judge(judged)
    varies = None
    if variation is not None:
        varies = variation.relative > max(each.tolerance_l2 or 0.0 for each in judged)
    worst = None
    if verdict == "different":
        failed = {each.rule for each in judged if each.stable and not each.passed}
        worst = _farthest(each for each in measured if each.sample.rule in failed)
    return OutputResult(name, dtype, verdict, why, tuple(judged), varies, worst)


def _held_against(sample: Sample) -> Array:
    return sample.source if sample.reference is None else sample.reference


def _variation(samples: Sequence[Sample]) -> Spread | None:
    outputs = [(_held_against(each), each.source) for each in samples]
    return spread(outputs, [each.batch for each in samples])


def _by_rule(measured: Iterable[_Measured]) -> dict[Rule, list[Distance]]:
    groups: dict[Rule, list[Distance]] = {}
    for each in measured:
        groups.setdefault(each.sample.rule, []).append(each.distance)
    return groups


def _special_mismatches(samples: Iterable[Sample]) -> Iterator[str]:
    """NaN and infinities are values: they must be in the same places, with the same sign."""
    for each in samples:
        wrong = count_special_mismatches(each.source, each.target)
        if wrong:
            yield f"{each.draw}: {wrong} of {each.source.size} elements are NaN or infinite on one side only"


_WORDS = {"reference": "error", "source": "distance from the source"}


def _judge(errors: Sequence[Errors]) -> tuple[Verdict, tuple[str, ...]]:
    failed = [each for each in errors if each.stable and not each.passed]
    if failed:
        return "different", tuple(
            f"{each.rule} inputs: the {_WORDS[each.held_against]} is {each.target_l2:.2g} (largest element "
            f"{each.target_max:.2g}), the tolerance {each.tolerance_l2:.2g} ({each.tolerance_max:.2g})"
            for each in failed
        )
    deciding: Rule = "user" if any(each.rule == "user" for each in errors) else "typical"
    unstable = [each for each in errors if not each.stable and each.rule == deciding]
    if unstable:
        return "could not be checked", tuple(
            f"{each.rule} inputs: the source itself is {each.source_l2:.2g} (largest element "
            f"{each.source_max:.2g}) off its float64 reference, too much to judge by"
            for each in unstable
        )
    return "equivalent", ()


def _errors(
    rule: Rule, group: Sequence[Distance], variation: Spread | None, epsilon: float, dtype: str
) -> Errors:
    count = sum(each.count for each in group)
    scale = Size.total(each.reference for each in group)
    if variation is not None:
        near_zero = _NEAR_ZERO * variation.rms * math.sqrt(count)
        scale = Size(max(scale.norm, near_zero), max(scale.largest, _NEAR_ZERO * variation.largest))
    source = Size.total(each.source for each in group)
    target = Size.total(each.target for each in group)
    source_l2, source_max = _ratio(source.norm, scale.norm), _ratio(source.largest, scale.largest)
    target_l2, target_max = _ratio(target.norm, scale.norm), _ratio(target.largest, scale.largest)
    tolerance_l2 = SOURCE_FACTOR * source_l2 + EPSILONS * epsilon
    tolerance_max = SOURCE_FACTOR * source_max + EPSILONS * epsilon
    return Errors(
        rule,
        "reference",
        source_l2,
        source_max,
        target_l2,
        target_max,
        tolerance_l2,
        tolerance_max,
        stable=max(source_l2, source_max) <= _unstable_limit(dtype, epsilon),
        passed=target_l2 <= tolerance_l2 and target_max <= tolerance_max,
    )


def _distances(found: Errors, measured: Errors, epsilon: float) -> Errors:
    """Distances from the source, held against what its own error on other draws allows.

    Two vectors that are within e_t and e_s of a third are within e_t + e_s of each other.
    """
    assert measured.source_l2 is not None
    assert measured.source_max is not None
    tolerance_l2 = (SOURCE_FACTOR + 1) * measured.source_l2 + EPSILONS * epsilon
    tolerance_max = (SOURCE_FACTOR + 1) * measured.source_max + EPSILONS * epsilon
    return replace(
        found,
        held_against="source",
        source_l2=measured.source_l2,
        source_max=measured.source_max,
        tolerance_l2=tolerance_l2,
        tolerance_max=tolerance_max,
        stable=measured.stable,
        passed=found.target_l2 <= tolerance_l2 and found.target_max <= tolerance_max,
    )


def _unstable_limit(dtype: str, epsilon: float) -> float:
    """1e-4 for float32 and float64, more for the narrower types, whose rounding alone exceeds that."""
    wide = dtype in ("float32", "float64", "complex64", "complex128")
    return UNSTABLE if wide else _UNSTABLE_NARROW_EPSILONS * epsilon


def _ratio(error: float, scale: float) -> float:
    if error == 0.0:
        return 0.0
    return error / scale if scale else math.inf


def _compare_without_reference(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    """Elementwise tolerances by dtype; beyond them, only a difference that no rounding explains is one."""
    rtol, atol = ASSERT_CLOSE.get(dtype, (0.0, 0.0))
    epsilon = float(ml_dtypes.finfo(samples[0].source.dtype).eps)
    limit = SOURCE_FACTOR * _unstable_limit(dtype, epsilon) + EPSILONS * epsilon
    measured = []
    for each in samples:
        found = distance(each.source, each.target, each.source, rtol=rtol, atol=atol)
        assert found is not None
        measured.append(_Measured(each, found))
    variation = _variation(samples)
    errors, reasons = [], []
    beyond = False
    for rule, group in _by_rule(measured).items():
        found_errors = _errors(rule, group, variation, epsilon, dtype)
        outside = sum(each.outside for each in group)
        far = max(found_errors.target_l2, found_errors.target_max) > limit
        errors.append(
            replace(
                found_errors,
                held_against="source",
                source_l2=None,
                source_max=None,
                tolerance_l2=None,
                tolerance_max=None,
                stable=True,
                passed=not outside and not far,
            )
        )
        if outside or far:
            beyond |= far
            reasons.append(
                f"{rule} inputs: {outside} elements are farther from the source's than rtol {rtol:g} and "
                f"atol {atol:g} (relative distance {found_errors.target_l2:.2g}), and there is no reference"
            )
    verdict: Verdict = "equivalent"
    if reasons:
        verdict = "different" if beyond else "could not be checked"
    varies = None if variation is None else variation.relative > max(rtol, EPSILONS * epsilon)
    worst = _farthest(measured) if reasons else None
    return OutputResult(name, dtype, verdict, tuple(reasons), tuple(errors), varies, worst)


def _farthest(measured: Iterable[_Measured]) -> Worst:
    """The element of the target that is farthest off, by absolute distance."""
    worst = max(measured, key=lambda each: each.distance.target.largest)
    return _worst(worst.sample, worst.distance.farthest)


def _worst(sample: Sample, index: tuple[int, ...]) -> Worst:
    fits = sample.reference is not None and sample.reference.shape == sample.source.shape
    return Worst(
        sample.draw,
        index,
        str(sample.source[index]),
        str(sample.target[index]),
        str(sample.reference[index]) if fits and sample.reference is not None else None,
    )
