"""From the timed blocks of several pairs of processes to a ratio and its interval.

The processes of a model run at different speeds by luck alone (the layout of their memory, the core they
were put on), by a few percent, and blocks of one process are disturbed by whatever else the machine does.
So a ratio has two sources of error:

- *Within a pair of processes* blocks alternate, A B B A or B A A B, so that a drift cancels. Every such round
  gives one logarithm of the ratio. Their trimmed mean counts, with the standard error of Yuen (1974), widened
  where successive rounds are alike (AR(1)).
- *Between pairs* the ratios spread by an unknown standard deviation t. They are combined as in a
  random-effects meta-analysis: normal around the common ratio, the prior of t half-Cauchy with the scale
  PROCESS_SPREAD, that of the ratio flat. The interval is the posterior's, integrated over a grid of t
  (Gelman 2006, Roever 2020). Few pairs then give a wide interval, but not a boundless one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.verification.speed.result import Estimate

Array = np.ndarray[Any, np.dtype[Any]]

PROCESS_SPREAD = 0.03
"""How far equal processes are typically apart, relatively: the scale of the prior, which data override."""
COVERAGE = 0.95
_TRIMMED = 0.2
_LEAST_ERROR = 2e-4
_PRIOR_FREEDOM = 4
_FEWEST_FOR_CORRELATION = 8
_LARGEST_CORRELATION = 0.8
_NORMAL_MAD = 1.4826
_GRID = np.concatenate([[0.0], np.geomspace(5e-4, 2.0, 120)])


@dataclass(frozen=True)
class Located:
    """The centre of some values, with its standard error and its degrees of freedom."""

    value: float
    error: float
    freedom: int


@dataclass(frozen=True)
class Round:
    """Two blocks of each side, in logarithms of the seconds of a call, in the order of time."""

    source: tuple[float, float]
    target: tuple[float, float]

    @property
    def log_ratio(self) -> float:
        """Target through source."""
        return (sum(self.target) - sum(self.source)) / 2


def locate(values: Sequence[float]) -> Located:
    """The trimmed mean of values in the order of time. A single value has an infinite error."""
    array = np.asarray(values, np.float64)
    count = len(array)
    cut = math.floor(_TRIMMED * count)
    ordered = np.sort(array)
    kept = ordered[cut : count - cut]
    freedom = len(kept) - 1
    if freedom < 1:
        return Located(float(np.mean(kept)), math.inf, 0)
    winsorised = np.clip(array, kept[0], kept[-1])
    deviation = float(np.std(winsorised, ddof=1))
    error = deviation / ((1 - 2 * cut / count) * math.sqrt(count)) * _correlated(winsorised)
    return Located(float(np.mean(kept)), error, freedom)


def _correlated(values: Array) -> float:
    """How much wider the error of a mean is because successive values are alike."""
    centred = values - np.mean(values)
    power = float(centred @ centred)
    if len(values) < _FEWEST_FOR_CORRELATION or power == 0:
        return 1.0
    correlation = float(centred[1:] @ centred[:-1]) / power
    correlation = min(max(correlation, 0.0), _LARGEST_CORRELATION)
    return math.sqrt((1 + correlation) / (1 - correlation))


def block_spread(rounds: Sequence[Round]) -> float:
    """How far blocks of one version, measured a moment apart, differ: a robust standard deviation."""
    apart = [each[1] - each[0] for one in rounds for each in (one.source, one.target)]
    if not apart:
        return 0.0
    return _NORMAL_MAD * float(np.median(np.abs(apart))) / math.sqrt(2)


def ratio(processes: Sequence[Sequence[Round]]) -> tuple[Estimate, tuple[float, ...]]:
    """Target through source over all pairs of processes, and the ratio of each pair.

    Every pair has at least one round.
    """
    found = [locate([each.log_ratio for each in rounds]) for rounds in processes]
    # Of a single round no error is known; that of a block in it is, by the second block of the same side.
    everything = [each for rounds in processes for each in rounds]
    spreads = [each[1] - each[0] for one in everything for each in (one.source, one.target)]
    within = math.sqrt(float(np.mean(np.square(spreads))) / 2)
    settled = [
        _steadied(each, within / math.sqrt(len(rounds)))
        for each, rounds in zip(found, processes, strict=True)
    ]
    estimate = combine(settled)
    return (
        Estimate(*(math.exp(each) for each in (estimate.value, estimate.low, estimate.high))),
        tuple(math.exp(each.value) for each in found),
    )


def _steadied(located: Located, expected: float) -> Located:
    """An error of few values, drawn towards what the blocks let expect, and widened for the doubt in it."""
    if located.freedom == 0:
        variance = expected**2
    else:
        weight = located.freedom / (located.freedom + _PRIOR_FREEDOM)
        variance = weight * located.error**2 + (1 - weight) * expected**2
    freedom = located.freedom + _PRIOR_FREEDOM
    return Located(located.value, math.sqrt(variance * freedom / (freedom - 2)), freedom)


def combine(located: Sequence[Located]) -> Estimate:
    """The common value of several processes and its 95 % interval."""
    values = np.array([each.value for each in located])
    variances = np.maximum([each.error for each in located], _LEAST_ERROR) ** 2
    totals = variances[None, :] + _GRID[:, None] ** 2
    precision = 1 / np.sum(1 / totals, axis=1)
    means = precision * np.sum(values / totals, axis=1)
    likelihood = -0.5 * np.sum(
        np.log(totals) + (values - means[:, None]) ** 2 / totals, axis=1
    ) + 0.5 * np.log(precision)
    prior = 1 / (1 + (_GRID / PROCESS_SPREAD) ** 2)
    widths = np.gradient(_GRID)
    weights = np.exp(likelihood - likelihood.max()) * prior * widths
    weights /= np.sum(weights)
    deviations = np.sqrt(precision)
    tail = (1 - COVERAGE) / 2
    return Estimate(
        float(weights @ means),
        _quantile(tail, weights, means, deviations),
        _quantile(1 - tail, weights, means, deviations),
    )


def _quantile(probability: float, weights: Array, means: Array, deviations: Array) -> float:
    """A quantile of a mixture of normal distributions, by bisection."""
    low = float(np.min(means - 10 * deviations))
    high = float(np.max(means + 10 * deviations))
    for _ in range(60):
        middle = (low + high) / 2
        arguments = (middle - means) / (deviations * math.sqrt(2))
        below = 0.5 * sum(
            float(weight) * (1 + math.erf(float(each)))
            for weight, each in zip(weights, arguments, strict=True)
        )
        low, high = (middle, high) if below < probability else (low, middle)
    return (low + high) / 2


def typical(processes: Sequence[Sequence[float]]) -> Estimate:
    """The common level of logarithms that several processes gave, with its interval."""
    found = [locate(each) for each in processes]
    spread = float(np.mean([np.std(each) for each in processes]))
    estimate = combine(
        [_steadied(each, spread / math.sqrt(len(logs))) for each, logs in zip(found, processes, strict=True)]
    )
    return Estimate(*(math.exp(each) for each in (estimate.value, estimate.low, estimate.high)))
