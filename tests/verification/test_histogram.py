"""Counting the errors of elements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bridge.verification.compare import Sample, compare_output
from bridge.verification.histogram import Spectrum, error_spectra, histogram

_ERRORS = arrays.arrays(
    np.float64, st.integers(1, 40), elements=st.floats(0, 1e300, allow_subnormal=False, allow_nan=False)
)


@given(_ERRORS, st.floats(1e-3, 1e3))
def test_every_error_is_in_one_bin(errors: np.ndarray, scale: float) -> None:
    found = histogram(None, Spectrum.of(errors), scale)
    assert found is not None
    assert sum(found.target) + found.target_exact == errors.size
    assert found.target_exact == np.count_nonzero(errors == 0)
    assert len(found.target) <= 48
    if found.target:
        largest = float(errors.max()) / scale
        assert found.edges[-2] <= largest * (1 + 1e-12)
        assert largest < found.edges[-1] * (1 + 1e-12)
        expected, _ = np.histogram(errors[errors > 0] / scale, np.asarray(found.edges))
        assert abs(int(expected[1:].sum()) - sum(found.target[1:])) <= 2


@given(_ERRORS, _ERRORS)
def test_parts_add_up(first: np.ndarray, second: np.ndarray) -> None:
    together = Spectrum.total([Spectrum.of(first), Spectrum.of(second)])
    assert together == Spectrum.of(np.concatenate([first, second]))


def test_what_is_infinite_on_purpose_is_not_counted() -> None:
    exact = np.array([1.0, np.inf, np.nan, 2.0])
    ours, theirs = error_spectra(exact + 1e-3, exact.copy(), exact)
    assert ours.exact + sum(ours.octaves.values()) == 2
    assert (theirs.exact, sum(theirs.octaves.values())) == (2, 0)


def test_nothing_is_no_histogram() -> None:
    empty = Spectrum.of(np.empty(0))
    assert histogram(None, empty, 1.0) is None
    assert histogram(None, Spectrum.of(np.ones(3)), 0.0) is None
    exact = histogram(None, Spectrum.of(np.zeros(3)), 1.0)
    assert exact is not None
    assert (exact.target, exact.target_exact) == ((), 3)


@pytest.mark.parametrize("complex_numbers", [False, True])
def test_outputs_have_histograms_by_kind_of_inputs(complex_numbers: bool) -> None:
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((20, 5)) + (1j * rng.standard_normal((20, 5)) if complex_numbers else 0)
    dtype = np.complex64 if complex_numbers else np.float32
    source = exact.astype(dtype)
    target = source.copy()
    target[3, 2] += 0.5
    result = compare_output("y", [Sample("0", "typical", 20, source, target, exact)])
    found = result.errors[0].histogram
    assert found is not None
    assert sum(found.target) + found.target_exact == exact.size
    assert found.target[-1] == 1
    assert found.source[-1] == 0
    worst = result.errors[0].target_max
    assert found.edges[-2] <= worst < found.edges[-1]
