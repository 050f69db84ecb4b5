from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.verification import measure
from bridge.verification.compare import (
    EPSILONS,
    SOURCE_FACTOR,
    OutputResult,
    Sample,
    compare_output,
    in_doubt,
)
from bridge.verification.inputs import Rule

Array = np.ndarray[Any, np.dtype[Any]]
EPS32 = float(np.finfo(np.float32).eps)


def sample(
    source: Array,
    target: Array,
    reference: Array | None,
    *,
    rule: Rule = "typical",
    batch: int | None = 4,
    draw: str = "0",
) -> Sample:
    return Sample(draw, rule, batch, source, target, reference)


def exact(seed: int = 0, shape: tuple[int, ...] = (4, 6)) -> Array:
    return np.random.default_rng(seed).standard_normal(shape)


def rounded(reference: Array, seed: int = 1) -> Array:
    """A float32 computation of the reference: each element off by about one unit in the last place."""
    noise = np.random.default_rng(seed).uniform(-1, 1, reference.shape) * EPS32
    return (reference * (1 + noise)).astype(np.float32)


def judge(source: Array, target: Array, reference: Array | None, **options: Any) -> OutputResult:
    return compare_output("y", [sample(source, target, reference, **options)])


def test_the_errors_are_those_of_the_definition() -> None:
    reference = exact()
    source, target = rounded(reference, 1), rounded(reference, 2)
    (errors,) = judge(source, target, reference).errors
    distance = source.astype(np.float64) - reference
    assert errors.source_l2 == pytest.approx(np.linalg.norm(distance) / np.linalg.norm(reference))
    assert errors.source_max == pytest.approx(np.abs(distance).max() / np.abs(reference).max())
    assert errors.source_l2 is not None
    assert errors.tolerance_l2 == pytest.approx(SOURCE_FACTOR * errors.source_l2 + EPSILONS * EPS32)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-6, 1.0, 1e20]))
def test_rounding_passes_at_every_scale(seed: int, scale: float) -> None:
    reference = exact(seed) * scale
    result = judge(rounded(reference, seed), rounded(reference, seed + 1), reference)
    assert result.verdict == "equivalent"
    assert result.varies is True


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1e-6, 1.0, 1e20]))
def test_a_relative_difference_of_1e_4_fails_at_every_scale(seed: int, scale: float) -> None:
    reference = exact(seed) * scale
    wrong = (rounded(reference, seed) * (1 + 1e-4)).astype(np.float32)
    assert judge(rounded(reference, seed), wrong, reference).verdict == "different"


def test_one_wrong_element_among_many_is_found_by_the_largest_element() -> None:
    reference = exact(shape=(4, 50_000))
    target = rounded(reference)
    target[2, 123] += np.float32(1e-4)
    result = judge(rounded(reference), target, reference)
    (errors,) = result.errors
    assert errors.tolerance_l2 is not None
    assert errors.target_l2 <= errors.tolerance_l2
    assert result.verdict == "different"
    assert result.worst is not None
    assert result.worst.index == (2, 123)


def test_a_source_that_is_unstable_cannot_be_judged_by() -> None:
    reference = exact()
    source = (reference * (1 + 3e-4)).astype(np.float32)
    result = judge(source, source, reference)
    assert result.verdict == "could not be checked"
    assert "0.0003" in result.reasons[0]


def test_an_unstable_source_at_an_unusual_scale_does_not_decide() -> None:
    reference = exact()
    bad = (reference * (1 + 3e-4)).astype(np.float32)
    good = rounded(reference)
    result = compare_output(
        "y", [sample(good, good, reference), sample(bad, bad, reference, rule="large", draw="1")]
    )
    assert result.verdict == "equivalent"
    assert [each.stable for each in result.errors] == [True, False]


def test_every_scale_is_judged_by_itself() -> None:
    """A fault that shows at small inputs only is not hidden by the large outputs of other inputs."""
    large, small = exact(1) * 10, exact(2) * 0.01
    wrong = (small * (1 + 1e-3)).astype(np.float32)
    result = compare_output(
        "y",
        [
            sample(rounded(large), rounded(large, 5), large),
            sample(rounded(small), wrong, small, rule="small", draw="1"),
        ],
    )
    assert result.verdict == "different"
    assert result.reasons[0].startswith("small inputs")


def test_outputs_near_zero_are_scaled_by_the_spread_of_the_output() -> None:
    """Cancellation leaves noise of 1e-8 where other inputs give outputs around 1."""
    ordinary = exact(1)
    nearly_zero = exact(2) * 1e-9
    noise = (nearly_zero + exact(3) * 2e-9).astype(np.float32)
    other_noise = (nearly_zero + exact(4) * 2e-9).astype(np.float32)
    alone = judge(noise, other_noise, nearly_zero)
    assert alone.verdict == "could not be checked"
    both = compare_output(
        "y",
        [
            sample(rounded(ordinary), rounded(ordinary, 5), ordinary),
            sample(noise, other_noise, nearly_zero, rule="small", draw="1"),
        ],
    )
    assert both.verdict == "equivalent"
    assert both.errors[1].stable


def test_zeros_must_stay_zeros() -> None:
    zeros = np.zeros((4, 3), np.float32)
    assert judge(zeros, zeros, zeros.astype(np.float64)).verdict == "equivalent"
    result = judge(zeros, zeros + np.float32(1e-30), zeros.astype(np.float64))
    assert result.verdict == "different"
    assert math.isinf(result.errors[0].target_l2)


def test_a_constant_output_is_flagged() -> None:
    reference = np.broadcast_to(exact(shape=(1, 6)), (4, 6))
    result = judge(rounded(reference, 1), rounded(reference, 2), reference)
    assert result.verdict == "equivalent"
    assert result.varies is False


def test_an_output_without_a_batch_varies_between_draws() -> None:
    draws = [
        sample(rounded(exact(i, ())), rounded(exact(i, ())), exact(i, ()), draw=str(i)) for i in range(3)
    ]
    assert compare_output("y", draws).varies is True
    assert compare_output("y", draws[:1]).varies is None


@pytest.mark.parametrize("special", [np.nan, np.inf, -np.inf])
def test_special_values_are_values(special: float) -> None:
    reference = exact()
    source, target = rounded(reference, 1), rounded(reference, 2)
    source[1, 2] = special
    in_float64 = reference.copy()
    in_float64[1, 2] = special
    assert judge(source, target, in_float64).verdict == "different"
    target[1, 2] = special
    assert judge(source, target, in_float64).verdict == "equivalent"
    target[1, 2] = 0.0 if np.isnan(special) else -special
    assert judge(source, target, in_float64).verdict == "different"


def test_an_overflow_of_the_source_alone_is_its_value() -> None:
    reference = exact()
    reference[0, 0] = 1e300
    with np.errstate(over="ignore"):
        source = reference.astype(np.float32)
    assert judge(source, source.copy(), reference).verdict == "equivalent"
    wrong = source * np.float32(1 + 1e-4)
    assert judge(source, wrong, reference).verdict == "different"
    finite = source.copy()
    finite[0, 0] = np.finfo(np.float32).max
    assert judge(source, finite, reference).verdict == "different"


def test_outputs_are_measured_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = exact(shape=(4, 5, 7))
    source, target = rounded(reference, 1), rounded(reference, 2)
    target[3, 1, 4] += np.float32(1e-3)
    source[2, 0, 0] = target[2, 0, 0] = reference[2, 0, 0] = np.inf
    whole = judge(source, target, reference)
    monkeypatch.setattr(measure, "_PIECE", 6)
    pieces = judge(source, target, reference)
    assert pieces.worst == whole.worst
    assert pieces.worst is not None
    assert pieces.worst.index == (3, 1, 4)
    assert pieces.errors[0].source_l2 == pytest.approx(whole.errors[0].source_l2)
    assert pieces.errors[0].target_max == pytest.approx(whole.errors[0].target_max)
    assert pieces.varies is whole.varies is True
    target[0, 0, 0] = np.nan
    assert "1 of 140 elements" in judge(source, target, reference).reasons[0]


def test_the_largest_and_smallest_numbers_are_measured() -> None:
    for scale in (1e200, 1e-200):
        reference = exact() * scale
        assert judge(reference, reference * (1 + 1e-15), reference).verdict == "equivalent"
        assert judge(reference, reference * (1 + 1e-12), reference).verdict == "different"


def test_a_reference_that_overflows_where_the_source_does_not_cannot_judge() -> None:
    reference = exact()
    source = rounded(reference)
    reference[0, 0] = np.nan
    assert judge(source, source, reference).verdict == "could not be checked"


def test_shape_and_dtype_are_part_of_an_output() -> None:
    reference = exact()
    source = rounded(reference)
    assert "shape" in judge(source, source[:, :5], reference).reasons[0]
    assert "shape" in judge(source, source[:, :, None], reference).reasons[0]
    wide = judge(source, source.astype(np.float64), reference)
    assert wide.verdict == "different"
    assert "float64, not float32" in wide.reasons[0]


def test_empty_outputs_are_equal() -> None:
    empty = np.zeros((4, 0), np.float32)
    assert judge(empty, empty, empty.astype(np.float64)).verdict == "equivalent"


@pytest.mark.parametrize("dtype", ["int64", "bool", "uint8"])
def test_integers_and_booleans_are_exact(dtype: str) -> None:
    source = np.array([[0, 1], [1, 1]]).astype(dtype)
    assert judge(source, source.copy(), None, batch=2).verdict == "equivalent"
    wrong = source.copy()
    wrong[1, 0] = 0
    result = judge(source, wrong, source, batch=2)
    assert result.verdict == "different"
    assert result.worst is not None
    assert result.worst.index == (1, 0)
    assert result.varies is True


def test_an_index_may_be_that_of_the_reference() -> None:
    """Where the source rounds a near tie to another winner than float64, both are right."""
    source, reference = np.array([1, 4, 2]), np.array([1, 5, 2])
    assert judge(source, np.array([1, 5, 2]), reference).verdict == "equivalent"
    assert judge(source, np.array([1, 4, 2]), reference).verdict == "equivalent"
    assert judge(source, np.array([1, 3, 2]), reference).verdict == "different"


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_types_have_tolerances_of_their_precision(dtype: Any) -> None:
    reference = exact(shape=(4, 100))
    source = reference.astype(dtype)
    eps = float(ml_dtypes.finfo(dtype).eps)
    near = (reference * (1 + eps)).astype(dtype)
    assert judge(source, near, reference).verdict == "equivalent"
    assert judge(source, (reference * (1 + 100 * eps)).astype(dtype), reference).verdict == "different"


def test_complex_outputs() -> None:
    reference = exact(1) + 1j * exact(2)
    source = reference.astype(np.complex64)
    assert judge(source, source.copy(), reference).verdict == "equivalent"
    assert judge(source, source.conj(), reference).verdict == "different"


def test_without_a_reference_the_tolerances_are_those_of_assert_close() -> None:
    source = rounded(exact())
    assert judge(source, source * np.float32(1 + 1e-6), None).verdict == "equivalent"
    unclear = judge(source, source * np.float32(1 + 5e-5), None)
    assert unclear.verdict == "could not be checked"
    assert "there is no reference" in unclear.reasons[0]
    assert judge(source, source * np.float32(1.01), None).verdict == "different"


def test_a_draw_without_a_reference_is_held_against_the_source() -> None:
    """Its tolerance is what the other draws show of the source's error, once more than for the target."""
    first, second = exact(1), exact(2)
    known = sample(rounded(first, 1), rounded(first, 2), first)
    source = rounded(second, 3)

    def judged(target: Array) -> OutputResult:
        return compare_output("y", [known, sample(source, target, None, draw="1")])

    right = judged(rounded(second, 4))
    assert right.verdict == "equivalent"
    with_reference, without = right.errors
    assert (with_reference.held_against, without.held_against) == ("reference", "source")
    assert with_reference.source_l2 is not None
    assert without.tolerance_l2 == pytest.approx(5 * with_reference.source_l2 + EPSILONS * EPS32)
    wrong = judged((source * (1 + 1e-4)).astype(np.float32))
    assert wrong.verdict == "different"
    assert "distance from the source" in wrong.reasons[0]
    assert wrong.worst is not None
    assert wrong.worst.draw == "1"


def test_without_a_reference_special_values_still_count() -> None:
    source = rounded(exact())
    source[0, 0] = np.nan
    assert judge(source, source.copy(), None).verdict == "equivalent"
    assert judge(source, np.nan_to_num(source), None).verdict == "different"


def test_special_values_do_not_hide_what_other_inputs_tell() -> None:
    """A pair that only the closer look clears is in doubt although its special draw is not yet excused."""
    reference = exact(seed=3)
    far = (reference * (1 + 3e-5)).astype(np.float32)
    lost = reference.astype(np.float32)
    lost[0, 0] = np.nan
    kept = reference.astype(np.float32)
    samples = [
        sample(rounded(reference), far, reference, rule="boundary"),
        sample(lost, kept, None, rule="special", draw="1"),
    ]
    first = compare_output("y", samples)
    assert first.verdict == "different"
    assert "NaN" in first.reasons[0]
    assert in_doubt(first) == {"boundary"}
    excused = compare_output("y", samples, excused={"1"})
    assert len(excused.reasons) == 1
    closer = replace(samples[0], function=reference.copy(), noisy=(reference * (1 + 2e-5),))
    assert compare_output("y", [closer, samples[1]], excused={"1"}).verdict == "equivalent"


def test_another_function_is_found_behind_an_inexact_source() -> None:
    reference = exact(seed=5)
    inexact = (reference * (1 + 2e-5)).astype(np.float32)
    other = reference * (1 + 5e-5)
    plain = sample(inexact, other.astype(np.float32), reference)
    assert compare_output("y", [plain]).verdict == "equivalent"
    assert in_doubt(compare_output("y", [plain])) == {"typical"}
    found = compare_output("y", [replace(plain, function=other)])
    assert found.verdict == "different"
    assert "computed in float64" in found.reasons[0]


def test_integers_that_rounding_decides_are_no_difference() -> None:
    reference = np.array([[0, 1, 2, 3]])
    other = np.array([[0, 1, 2, 1]])
    plain = sample(reference, other, reference)
    assert compare_output("y", [plain]).verdict == "different"
    assert in_doubt(compare_output("y", [plain]))
    closer = replace(plain, function=reference, noisy=(reference, np.array([[0, 1, 2, 0]])))
    result = compare_output("y", [closer])
    assert result.verdict == "equivalent"
    assert "rounding decides 1 of 4" in result.notes[0]
    assert compare_output("y", [replace(closer, noisy=(reference,))]).verdict == "different"
    assert compare_output("y", [replace(closer, function=other)]).verdict == "different"
