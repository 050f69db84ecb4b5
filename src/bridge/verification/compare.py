"""Whether an output of the target equals the source's, as docs/verdict.md defines it. Pure functions.

Every output is judged against a reference, the source computed in float64 by its own framework. The
target may be as far from it as a small multiple of what the source itself is: that separates rounding
from faults without a tolerance that somebody chose. Where that leaves a doubt, two further runs decide:
the target in float64, which shows whether both versions are the same function, and the source in float64
with noise at every operation, which shows how far rounding alone may carry.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import ml_dtypes
import numpy as np

from bridge.verification.histogram import Histogram, Spectrum, error_spectra, histogram
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
"""How many times the source's own error the target may have; docs/calibration.md has the evidence."""
EPSILONS = 64.0
"""How many units of the output's precision the target may be off in any case."""
FUNCTION_EPSILONS = 8.0
"""How many units of float32 the two functions may be apart, computed in float64.

Constants that one side rounds to float32 and the other does not are all that may differ there.
"""
UNSTABLE = 1e-4
"""The error of a float32 source above which nothing can be concluded from its outputs."""
_UNSTABLE_NARROW_EPSILONS = 16.0
_NEAR_ZERO = 1e-3
_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)
_EXTREME: frozenset[Rule] = frozenset({"boundary", "huge"})
_REFERENCE_DTYPES = ("float64", "complex128")
"""Here the target in float64 is the target itself, and its rounding is judged like that of any other."""

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
    """One output of one draw. `batch` is the size of axis 0 of the inputs where that is dynamic.

    A closer look adds `function`, the target in float64, and `noisy`, the source in float64 with noise of
    one unit in the last place at every operation (for integer outputs: more), once for each seed.
    `epsilon` is that of the precision which a version computes products in, where it is not the output's.
    """

    draw: str
    rule: Rule
    batch: int | None
    source: Array
    target: Array
    reference: Array | None
    function: Array | None = None
    noisy: tuple[Array, ...] = ()
    epsilon: float | None = None


@dataclass(frozen=True)
class Errors:
    """Distances over the draws of one rule, relative to the size of what they are held against.

    That is the float64 reference, or, for draws too large to have one, the source: the target's are
    then its distances from the source, and the tolerances have the source's own error (as measured on the
    other draws of the rule) in them once more.
    `*_l2` are Euclidean, `*_max` of the largest element. Without a reference the target's are its
    distances from the source, the source's and the tolerances are None. `stable` says whether the source
    is near enough to its own reference to judge by it.

    A closer look adds `noise_*`, how far noise of the size of rounding carries the source, and
    `function_*`, how far the two versions are apart in float64, with the limit of that. `histogram` shows how
    the errors of single elements are distributed, relative to what `*_max` are relative to.
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
    noise_l2: float | None = None
    noise_max: float | None = None
    function_l2: float | None = None
    function_max: float | None = None
    function_limit_l2: float | None = None
    function_limit_max: float | None = None
    histogram: Histogram | None = None

    @property
    def same_function(self) -> bool:
        """Whether the two versions agree in float64; true where that is not known."""
        return not (
            _beyond(self.function_l2, self.function_limit_l2)
            or _beyond(self.function_max, self.function_limit_max)
        )


def _beyond(distance: float | None, limit: float | None) -> bool:
    return distance is not None and limit is not None and not distance <= limit


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
    """What was found about one output. `varies` is None where too few comparable draws tell.

    `notes` are what the reader should know where nothing is wrong.
    """

    name: str
    dtype: str
    verdict: Verdict
    reasons: tuple[str, ...]
    errors: tuple[Errors, ...] = ()
    varies: bool | None = None
    worst: Worst | None = None
    notes: tuple[str, ...] = ()


def compare_output(name: str, samples: Sequence[Sample], *, excused: Collection[str] = ()) -> OutputResult:
    """Judge one output over all draws, at least one of which holds ordinary numbers.

    Draws of special values (NaN, infinities) are judged by where the output has such values, and only for
    floating-point outputs. `excused` are the draws for which that is a known convention of the frameworks.
    """
    dtype = samples[0].source.dtype.name
    mismatch = _type_mismatches(samples)
    if mismatch:
        return OutputResult(name, dtype, "different", mismatch)
    ordinary = [each for each in samples if each.rule != "special"]
    if not is_inexact(samples[0].source):
        return _compare_exact(name, dtype, ordinary)
    misplaced = tuple(_special_mismatches(each for each in samples if each.draw not in excused))
    kept = [each for each in ordinary if not any(_special_mismatches([each]))]
    if not kept:
        return OutputResult(name, dtype, "different", misplaced)
    found = _compare_inexact(name, dtype, kept)
    if not misplaced:
        return found
    reasons = found.reasons if found.verdict == "different" else ()
    return replace(found, verdict="different", reasons=(*misplaced, *reasons))


def is_inexact(array: Array) -> bool:
    """Whether an array holds floating-point or complex numbers."""
    return is_inexact_name(array.dtype.name)


def is_inexact_name(dtype: str) -> bool:
    """Whether a dtype of this name holds floating-point or complex numbers."""
    return dtype.startswith(("float", "complex", "bfloat"))


def _type_mismatches(samples: Iterable[Sample]) -> tuple[str, ...]:
    reasons = []
    for each in samples:
        if each.source.dtype != each.target.dtype:
            reasons.append(f"{each.draw}: the dtype is {each.target.dtype}, not {each.source.dtype}")
        if each.source.shape != each.target.shape:
            reasons.append(f"{each.draw}: the shape is {each.target.shape}, not {each.source.shape}")
    return tuple(reasons)


def _compare_exact(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    """Integers and booleans: equal, element by element, to the source or to its float64 reference.

    An element that follows from a comparison of nearly equal numbers (an argmax, a threshold) is decided
    by rounding. The closer look tells: in float64 both versions agree on it, and noise changes at least as
    many elements as there are that differ.
    """
    reasons, notes = [], []
    worst = None
    for each in samples:
        right = each.target == each.source
        if each.reference is not None and each.reference.shape == each.source.shape:
            right |= each.target == each.reference
        wrong = int(right.size - np.count_nonzero(right))
        if not wrong:
            continue
        if _decided_by_rounding(each, right):
            notes.append(f"{each.draw}: rounding decides {wrong} of {right.size} elements; they differ")
            continue
        reasons.append(f"{each.draw}: {wrong} of {right.size} elements differ")
        first = np.unravel_index(int(np.argmin(right)), right.shape)
        worst = worst or _worst(each, tuple(int(axis) for axis in first))
    varies = rows_differ([each.source for each in samples], [each.batch for each in samples])
    verdict: Verdict = "different" if reasons else "equivalent"
    return OutputResult(name, dtype, verdict, tuple(reasons), varies=varies, worst=worst, notes=tuple(notes))


def _decided_by_rounding(sample: Sample, right: Array) -> bool:
    if sample.reference is None or sample.function is None or not sample.noisy:
        return False
    if sample.function.shape != right.shape or np.any(sample.function[~right] != sample.reference[~right]):
        return False
    undecided = np.zeros(right.shape, bool)
    for each in sample.noisy:
        undecided |= each != sample.reference
    return int(np.count_nonzero(~right)) <= int(np.count_nonzero(undecided))


@dataclass(frozen=True)
class _Measured:
    """A sample and its distances; from the source where it has no reference.

    `function` and `noise` are the distances of a closer look from the reference; None without one.
    """

    sample: Sample
    distance: Distance
    function: Size | None = None
    noise: Size | None = None

    @property
    def spectra(self) -> tuple[Spectrum, Spectrum]:
        """The errors of the source's and the target's elements."""
        return error_spectra(self.sample.source, self.sample.target, _held_against(self.sample))


def _compare_inexact(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
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
        measured.append(_Measured(each, found, _function(each), _noise(each)))
    variation = _variation(samples)
    epsilon = _epsilon(samples)
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
        failed = {each.rule for each in judged if not each.passed}
        worst = _farthest(each for each in measured if each.sample.rule in failed)
    return OutputResult(name, dtype, verdict, why, tuple(judged), varies, worst)


def _held_against(sample: Sample) -> Array:
    return sample.source if sample.reference is None else sample.reference


def _function(sample: Sample) -> Size | None:
    return None if sample.function is None else _off_reference(sample, sample.function)


def _noise(sample: Sample) -> Size | None:
    if not sample.noisy:
        return None
    sizes = [_off_reference(sample, each) for each in sample.noisy]
    return Size(max(each.norm for each in sizes), max(each.largest for each in sizes))


def _off_reference(sample: Sample, output: Array) -> Size:
    """How far an output computed in float64 is from the reference; infinitely if it is not comparable."""
    nowhere = Size(math.inf, math.inf)
    if sample.reference is None or output.shape != sample.reference.shape:
        return nowhere
    if not np.all(np.isfinite(output[np.isfinite(sample.source)])):
        return nowhere
    found = distance(sample.source, output, sample.reference)
    return nowhere if found is None else found.target


def _variation(samples: Sequence[Sample]) -> Spread | None:
    """The spread of an output over ordinary inputs: what extreme ones give says nothing of its usual size."""
    ordinary = [each for each in samples if each.rule not in _EXTREME] or samples
    outputs = [(_held_against(each), each.source) for each in ordinary]
    return spread(outputs, [each.batch for each in ordinary])


def _by_rule(measured: Iterable[_Measured]) -> dict[Rule, list[_Measured]]:
    groups: dict[Rule, list[_Measured]] = {}
    for each in measured:
        groups.setdefault(each.sample.rule, []).append(each)
    return groups


def _special_mismatches(samples: Iterable[Sample]) -> Iterator[str]:
    """NaN and infinities are values: they must be in the same places, with the same sign."""
    for each in samples:
        wrong = count_special_mismatches(each.source, each.target)
        if wrong:
            yield f"{each.draw}: {wrong} of {each.source.size} elements are NaN or infinite on one side only"


_WORDS = {"reference": "error", "source": "distance from the source"}


def _judge(errors: Sequence[Errors]) -> tuple[Verdict, tuple[str, ...]]:
    failed = [each for each in errors if not each.passed and (each.stable or not each.same_function)]
    if failed:
        return "different", tuple(_failure(each) for each in failed)
    deciding: Rule = "user" if any(each.rule == "user" for each in errors) else "typical"
    unstable = [each for each in errors if not each.stable and each.rule == deciding]
    if unstable:
        return "could not be checked", tuple(_instability(each) for each in unstable)
    return "equivalent", ()


def _failure(errors: Errors) -> str:
    if not errors.same_function:
        return (
            f"{errors.rule} inputs: computed in float64, the versions are {errors.function_l2:.2g} apart "
            f"(largest element {errors.function_max:.2g}), where at most {errors.function_limit_l2:.2g} "
            f"({errors.function_limit_max:.2g}) can be rounding"
        )
    return (
        f"{errors.rule} inputs: the {_WORDS[errors.held_against]} is {errors.target_l2:.2g} (largest element "
        f"{errors.target_max:.2g}), the tolerance {errors.tolerance_l2:.2g} ({errors.tolerance_max:.2g})"
    )


def _instability(errors: Errors) -> str:
    if errors.function_l2 is not None and errors.noise_l2 is not None:
        return (
            f"{errors.rule} inputs: rounding alone carries the source {errors.noise_l2:.2g} off (largest "
            f"element {errors.noise_max:.2g}), too much to judge by; in float64 the versions are "
            f"{errors.function_l2:.2g} apart"
        )
    return (
        f"{errors.rule} inputs: the source itself is {errors.source_l2:.2g} (largest element "
        f"{errors.source_max:.2g}) off its float64 reference, too much to judge by"
    )


def _errors(
    rule: Rule, group: Sequence[_Measured], variation: Spread | None, epsilon: float, dtype: str
) -> Errors:
    count = sum(each.distance.count for each in group)
    scale = Size.total(each.distance.reference for each in group)
    if variation is not None:
        near_zero = _NEAR_ZERO * variation.rms * math.sqrt(count)
        scale = Size(max(scale.norm, near_zero), max(scale.largest, _NEAR_ZERO * variation.largest))
    source = _relative(Size.total(each.distance.source for each in group), scale)
    target = _relative(Size.total(each.distance.target for each in group), scale)
    noise = _relative_total([each.noise for each in group], scale)
    function = _relative_total([each.function for each in group], scale)
    unstable = _unstable_limit(dtype, epsilon)
    rounding = source if noise is None else source.larger(noise.map(lambda size: min(size, unstable)))
    tolerance = rounding.map(lambda size: SOURCE_FACTOR * size + EPSILONS * epsilon)
    passed = target.within(tolerance)
    quiet = noise is None or max(noise.norm, noise.largest) <= unstable
    limit = None
    if function is not None and dtype not in _REFERENCE_DTYPES:
        limit = source.map(lambda size: size + FUNCTION_EPSILONS * _FLOAT32_EPSILON)
    found = Errors(
        rule,
        "reference",
        source.norm,
        source.largest,
        target.norm,
        target.largest,
        tolerance.norm,
        tolerance.largest,
        stable=max(source.norm, source.largest) <= unstable and (quiet or passed),
        passed=passed,
        noise_l2=None if noise is None else noise.norm,
        noise_max=None if noise is None else noise.largest,
        function_l2=None if function is None else function.norm,
        function_max=None if function is None else function.largest,
        function_limit_l2=None if limit is None else limit.norm,
        function_limit_max=None if limit is None else limit.largest,
        histogram=_histogram(group, scale.largest),
    )
    return found if found.same_function else replace(found, passed=False)


def _histogram(group: Sequence[_Measured], scale: float) -> Histogram | None:
    ours, theirs = zip(*(each.spectra for each in group), strict=True)
    held_against_source = all(each.sample.reference is None for each in group)
    source = None if held_against_source else Spectrum.total(ours)
    return histogram(source, Spectrum.total(theirs), scale)


def _relative(size: Size, scale: Size) -> Size:
    return Size(_ratio(size.norm, scale.norm), _ratio(size.largest, scale.largest))


def _relative_total(sizes: Sequence[Size | None], scale: Size) -> Size | None:
    """The size of all parts together relative to the scale; None where a part is not known."""
    known = [each for each in sizes if each is not None]
    return _relative(Size.total(known), scale) if known and len(known) == len(sizes) else None


def _distances(found: Errors, measured: Errors, epsilon: float) -> Errors:
    """Distances from the source, held against what its own error on other draws allows.

    Two vectors that are within e_t and e_s of a third are within e_t + e_s of each other.
    """
    assert measured.source_l2 is not None
    assert measured.source_max is not None
    rounding_l2 = max(measured.source_l2, measured.noise_l2 or 0.0)
    rounding_max = max(measured.source_max, measured.noise_max or 0.0)
    tolerance_l2 = (SOURCE_FACTOR + 1) * rounding_l2 + EPSILONS * epsilon
    tolerance_max = (SOURCE_FACTOR + 1) * rounding_max + EPSILONS * epsilon
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


def in_doubt(result: OutputResult) -> frozenset[Rule]:
    """The kinds of inputs at which an output needs the closer look: its errors are not plainly rounding.

    They are where the target is as near to the reference as the source, give or take the factor, and so
    near that no fault of more than EPSILONS units can hide behind an inexact source. An integer output is
    in doubt altogether if any element differs.
    """
    if not is_inexact_name(result.dtype):
        return frozenset(get_args(Rule)) if result.worst is not None else frozenset()
    epsilon = min(float(ml_dtypes.finfo(result.dtype).eps), _FLOAT32_EPSILON)
    return frozenset(each.rule for each in result.errors if not _plainly_rounding(each, epsilon))


def _plainly_rounding(errors: Errors, epsilon: float) -> bool:
    if errors.source_l2 is None or errors.source_max is None or errors.held_against == "source":
        return True
    pairs = ((errors.source_l2, errors.target_l2), (errors.source_max, errors.target_max))
    return all(
        theirs <= min(SOURCE_FACTOR * ours + FUNCTION_EPSILONS * epsilon, EPSILONS * epsilon)
        for ours, theirs in pairs
    )


def _epsilon(samples: Sequence[Sample]) -> float:
    """The unit of the last place that outputs are good for: of their type, or of a narrower one inside."""
    own = float(ml_dtypes.finfo(samples[0].source.dtype).eps)
    return max([own, *(each.epsilon for each in samples if each.epsilon is not None)])


def _unstable_limit(dtype: str, epsilon: float) -> float:
    """1e-4 for float32 and float64, more for the narrower types, whose rounding alone exceeds that."""
    wide = dtype in ("float32", "float64", "complex64", "complex128") and epsilon <= _FLOAT32_EPSILON
    return UNSTABLE if wide else _UNSTABLE_NARROW_EPSILONS * epsilon


def _ratio(error: float, scale: float) -> float:
    if error == 0.0:
        return 0.0
    return error / scale if scale else math.inf


def _compare_without_reference(name: str, dtype: str, samples: Sequence[Sample]) -> OutputResult:
    """Elementwise tolerances by dtype; beyond them, only a difference that no rounding explains is one."""
    rtol, atol = ASSERT_CLOSE.get(dtype, (0.0, 0.0))
    epsilon = _epsilon(samples)
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
        outside = sum(each.distance.outside for each in group)
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
