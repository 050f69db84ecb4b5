"""How the errors of an output's elements are distributed, counted without keeping any of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from bridge.verification.measure import Array, pieces

_MOST_BINS = 48
"""A factor of 2 ** 48 between the smallest and the largest bin; what is smaller joins the smallest."""


@dataclass(frozen=True)
class Histogram:
    """Errors of elements, relative to the largest element of what they are held against.

    Bin i counts the errors from `least` * 2 ** i to below twice that, the first bin also those that are
    smaller. Elements without any error are counted in `source_exact` and `target_exact` alone. `source` is
    empty where the target is held against the source itself. Elements that are NaN or infinite on purpose
    are not counted.
    """

    least: float
    source: tuple[int, ...]
    target: tuple[int, ...]
    source_exact: int
    target_exact: int

    @property
    def edges(self) -> tuple[float, ...]:
        """The ends of all bins, one more than there are bins."""
        return tuple(self.least * 2.0**power for power in range(len(self.target) + 1))


@dataclass(frozen=True)
class Spectrum:
    """How many absolute errors lie in each octave: from 2 ** k to below 2 ** (k + 1)."""

    octaves: Counter[int]
    exact: int

    @classmethod
    def of(cls, errors: Array) -> Spectrum:
        """Of errors that are finite and not negative."""
        _, exponents = np.frexp(errors[errors > 0])
        values, counts = np.unique(exponents, return_counts=True)
        octaves = Counter({int(value) - 1: int(count) for value, count in zip(values, counts, strict=True)})
        return cls(octaves, int(errors.size - exponents.size))

    @classmethod
    def total(cls, parts: Iterable[Spectrum]) -> Spectrum:
        """Of several arrays together."""
        octaves: Counter[int] = Counter()
        exact = 0
        for part in parts:
            octaves.update(part.octaves)
            exact += part.exact
        return cls(octaves, exact)

    def counts(self, first: int, bins: int) -> tuple[int, ...]:
        """The number of errors in as many octaves, from `first` on; what is below is in the first."""
        found = [self.octaves[octave] for octave in range(first, first + bins)]
        if found:
            found[0] += sum(count for octave, count in self.octaves.items() if octave < first)
        return tuple(found)


def error_spectra(source: Array, target: Array, reference: Array) -> tuple[Spectrum, Spectrum]:
    """The errors of the source and of the target, over the elements that are finite everywhere."""
    found: list[tuple[Spectrum, Spectrum]] = []
    for ours, theirs, exact in pieces(source, target, reference):
        finite = np.isfinite(ours) & np.isfinite(theirs) & np.isfinite(exact)
        ours, theirs, exact = ours[finite], theirs[finite], exact[finite]
        found.append((Spectrum.of(np.abs(ours - exact)), Spectrum.of(np.abs(theirs - exact))))
    return Spectrum.total(each[0] for each in found), Spectrum.total(each[1] for each in found)


def histogram(source: Spectrum | None, target: Spectrum, scale: float) -> Histogram | None:
    """Both spectra in common bins, relative to `scale`; None where that is zero or nothing was counted."""
    spectra = [target] if source is None else [source, target]
    octaves = {octave for each in spectra for octave in each.octaves}
    exact = (0 if source is None else source.exact, target.exact)
    if not scale > 0 or not math.isfinite(scale) or not (octaves or any(exact)):
        return None
    if not octaves:
        return Histogram(0.0, (), (), *exact)
    last = max(octaves)
    first = max(min(octaves), last - _MOST_BINS + 1)
    bins = last - first + 1
    ours = () if source is None else source.counts(first, bins)
    return Histogram(math.ldexp(1.0, first) / scale, ours, target.counts(first, bins), *exact)
