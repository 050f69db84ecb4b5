"""Whether an output of the target equals the source's, as docs/verdict.md defines it. Pure functions.

Every output is judged against a reference, the source computed in float64 by its own framework. The
target may be as far from it as a small multiple of what the source itself is: that separates rounding
from faults without a tolerance that somebody chose.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import ml_dtypes
import numpy as np

from bridge.verify.inputs import Rule

Array = np.ndarray[Any, np.dtype[Any]]
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
            worst = worst or _worst(each, np.logical_not(right).astype(np.float64))
    varies = _varies_exactly(samples)
    return OutputResult(
        name, dtype, "different" if reasons else "equivalent", tuple(reasons), varies=varies, worst=worst
    )


def _compare_inexact(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    reasons = list(_value_mismatches(samples))
    if reasons:
        return OutputResult(name, dtype, "different", tuple(reasons))
    referenced = [each for each in samples if each.reference is not None]
    if not referenced:
        return _compare_without_reference(name, dtype, samples)
    wide = [_widen(each) for each in referenced]
    odd = [each.draw for each, values in zip(referenced, wide, strict=True) if values is None]
    if odd:
        reason = f"{odd[0]}: the source in float64 gives other shapes or non-finite values than in {dtype}"
        return OutputResult(name, dtype, "could not be checked", (reason,))
    values = [each for each in wide if each is not None]
    plain = [_hold_against_source(each) for each in samples if each.reference is None]
    spread = _spread([*values, *plain])
    epsilon = float(ml_dtypes.finfo(samples[0].source.dtype).eps)
    errors = [
        _errors(rule, [each for each in values if each.sample.rule == rule], spread, epsilon, dtype)
        for rule in dict.fromkeys(each.rule for each in referenced)
    ]
    for rule in dict.fromkeys(each.sample.rule for each in plain):
        measured = next((each for each in errors if each.rule == rule), errors[0])
        group = [each for each in plain if each.sample.rule == rule]
        errors.append(_distances(_errors(rule, group, spread, epsilon, dtype), measured, epsilon))
    values += plain
    verdict, why = _judge(errors)
    varies = None if spread is None else spread.relative > max(each.tolerance_l2 or 0.0 for each in errors)
    worst = None
    if verdict == "different":
        failed = {each.rule for each in errors if each.stable and not each.passed}
        candidates = [each for each in values if each.sample.rule in failed]
        farthest = max(candidates, key=lambda each: float(np.max(each.target_error, initial=0.0)))
        worst = _worst(farthest.sample, farthest.target_error)
    return OutputResult(name, dtype, verdict, why, tuple(errors), varies, worst)


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


@dataclass(frozen=True)
class _Wide:
    """A sample in double precision, its non-finite elements (the same on both sides) set to zero."""

    sample: Sample
    reference: Array
    source_error: Array
    target_error: Array


def _double(array: Array) -> Array:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def _widen(sample: Sample) -> _Wide | None:
    """None where the reference does not fit the source: another shape, or other finite elements."""
    assert sample.reference is not None
    if sample.reference.shape != sample.source.shape:
        return None
    source, target, reference = (_double(each) for each in (sample.source, sample.target, sample.reference))
    finite = np.isfinite(source)
    if not np.all(np.isfinite(reference[finite])):
        return None
    with np.errstate(invalid="ignore"):
        source_error = np.where(finite, np.abs(source - reference), 0.0)
        target_error = np.where(finite, np.abs(target - reference), 0.0)
    return _Wide(sample, np.where(finite, reference, 0.0), source_error, target_error)


def _hold_against_source(sample: Sample) -> _Wide:
    held = _widen(replace(sample, reference=sample.source))
    assert held is not None
    return held


def _value_mismatches(samples: Iterable[Sample]) -> Iterable[str]:
    """NaN and infinities are values: they must be in the same places, with the same sign."""
    for each in samples:
        source, target = _double(each.source), _double(each.target)
        finite = np.isfinite(source) & np.isfinite(target)
        same = finite | (np.isnan(source) & np.isnan(target)) | (source == target)
        wrong = int(same.size - np.count_nonzero(same))
        if wrong:
            yield f"{each.draw}: {wrong} of {same.size} elements are NaN or infinite on one side only"


@dataclass(frozen=True)
class _Spread:
    """How much an output varies over the inputs: root mean square, largest element, relative to its size."""

    rms: float
    largest: float
    relative: float


def _rows(array: Array, batch: int | None) -> Array:
    """The parts of an output that belong to one input each: samples along axis 0, or the whole."""
    return array if batch is not None and array.ndim and array.shape[0] == batch else array[None]


def _spread(values: Sequence[_Wide]) -> _Spread | None:
    """The spread of the reference over all inputs; None where no two inputs give the same shape."""
    buckets: dict[tuple[int, ...], list[Array]] = defaultdict(list)
    for each in values:
        rows = _rows(each.reference, each.sample.batch)
        buckets[rows.shape[1:]].append(rows)
    squares = size = count = 0.0
    largest = 0.0
    for parts in buckets.values():
        rows = np.concatenate(parts)
        if len(rows) < 2 or rows.size == 0:
            continue
        deviation = np.abs(rows - rows.mean(axis=0))
        squares += float(np.sum(deviation**2))
        size += float(np.sum(np.abs(rows) ** 2))
        largest = max(largest, float(deviation.max()))
        count += rows.size
    if not count:
        return None
    return _Spread(math.sqrt(squares / count), largest, math.sqrt(squares / size) if size else 0.0)


def _errors(
    rule: Rule, values: Sequence[_Wide], spread: _Spread | None, epsilon: float, dtype: str
) -> Errors:
    count = sum(each.reference.size for each in values)
    near_zero_l2 = _NEAR_ZERO * spread.rms * math.sqrt(count) if spread else 0.0
    near_zero_max = _NEAR_ZERO * spread.largest if spread else 0.0
    scale_l2 = max(_norm(np.abs(each.reference) for each in values), near_zero_l2)
    scale_max = max(_largest(np.abs(each.reference) for each in values), near_zero_max)
    source_l2 = _ratio(_norm(each.source_error for each in values), scale_l2)
    source_max = _ratio(_largest(each.source_error for each in values), scale_max)
    target_l2 = _ratio(_norm(each.target_error for each in values), scale_l2)
    target_max = _ratio(_largest(each.target_error for each in values), scale_max)
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


def _norm(arrays: Iterable[Array]) -> float:
    return math.sqrt(math.fsum(float(np.sum(each**2)) for each in arrays))


def _largest(arrays: Iterable[Array]) -> float:
    return max((float(np.max(each, initial=0.0)) for each in arrays), default=0.0)


def _ratio(error: float, scale: float) -> float:
    if error == 0.0:
        return 0.0
    return error / scale if scale else math.inf


def _compare_without_reference(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    """Elementwise tolerances by dtype; beyond them, only a difference that no rounding explains is one."""
    rtol, atol = ASSERT_CLOSE.get(dtype, (0.0, 0.0))
    values = [_hold_against_source(each) for each in samples]
    spread = _spread(values)
    epsilon = float(ml_dtypes.finfo(samples[0].source.dtype).eps)
    errors = []
    reasons = []
    limit = SOURCE_FACTOR * _unstable_limit(dtype, epsilon) + EPSILONS * epsilon
    beyond = False
    for rule in dict.fromkeys(each.rule for each in samples):
        group = [each for each in values if each.sample.rule == rule]
        distance = _errors(rule, group, spread, epsilon, dtype)
        outside = sum(
            int(np.count_nonzero(each.target_error > atol + rtol * np.abs(each.reference))) for each in group
        )
        errors.append(
            replace(
                distance,
                held_against="source",
                source_l2=None,
                source_max=None,
                tolerance_l2=None,
                tolerance_max=None,
                stable=True,
                passed=not outside,
            )
        )
        if outside:
            beyond |= max(distance.target_l2, distance.target_max) > limit
            reasons.append(
                f"{rule} inputs: {outside} elements are farther from the source's than rtol {rtol:g} and "
                f"atol {atol:g} (relative distance {distance.target_l2:.2g}); there is no float64 reference"
            )
    verdict: Verdict = "equivalent"
    worst = None
    if reasons:
        verdict = "different" if beyond else "could not be checked"
        farthest = max(values, key=lambda each: float(np.max(each.target_error, initial=0.0)))
        worst = _worst(farthest.sample, farthest.target_error)
    varies = None if spread is None else spread.relative > max(rtol, EPSILONS * epsilon)
    return OutputResult(name, dtype, verdict, tuple(reasons), tuple(errors), varies, worst)


def _varies_exactly(samples: Sequence[Sample]) -> bool | None:
    buckets: dict[tuple[int, ...], list[Array]] = defaultdict(list)
    for each in samples:
        rows = _rows(each.source, each.batch)
        buckets[rows.shape[1:]].append(rows)
    compared = [np.concatenate(parts) for parts in buckets.values()]
    compared = [rows for rows in compared if len(rows) > 1 and rows.size]
    return any(bool(np.any(rows != rows[:1])) for rows in compared) if compared else None


def _worst(sample: Sample, error: Array) -> Worst:
    index = np.unravel_index(int(np.argmax(error)), error.shape)
    return Worst(
        sample.draw,
        tuple(int(axis) for axis in index),
        str(sample.source[index]),
        str(sample.target[index]),
        None if sample.reference is None else str(sample.reference[index]),
    )
