"""How well two versions do on data, and how sure that is. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bridge.comparison.model import Accuracy, Interval

Array = np.ndarray[Any, np.dtype[Any]]

_Z = 1.959963984540054
"""The standard normal quantile of 97.5 %."""
_RESAMPLES = 2000
_CLEAR = 0.05
_MOST_EXACT = 2000


def assess(
    names: tuple[str, str], output: str, first: Array, second: Array, labels: Array | None
) -> Accuracy:
    """Hold the predictions of two versions against each other, and against the labels if there are any.

    Integer labels with one score for each class in the last axis of the output, or one score in all (positive
    where its sign or, for probabilities, 0.5 says so), are a classification: accuracy, with Wilson intervals
    and McNemar's exact test. Others of the output's shape are numbers: mean absolute errors, with
    intervals from resampled samples.
    """
    labels = None if labels is None else labels[: len(first)]
    apart = _apart(first, second)
    classes = _classes(first, labels), _classes(second, labels)
    if classes[0] is None or classes[1] is None:
        return _numbers(names, output, first, second, labels, apart)
    return _classified(names, output, classes[0], classes[1], labels, apart)


def _classified(
    names: tuple[str, str], output: str, first: Array, second: Array, labels: Array | None, apart: float
) -> Accuracy:
    count = first.size
    agreement = wilson(int(np.sum(first == second)), count)
    said = (
        f"both predict the same class for {_share(agreement)} of {count:,} "
        f"(95 % interval {_share(agreement, ends=True)})"
    )
    if labels is None:
        return Accuracy(count, output, apart, agreement, None, None, None, None, said)
    truth = labels.reshape(first.shape)
    right = first == truth, second == truth
    scores = tuple(wilson(int(np.sum(each)), count) for each in right)
    p_value = mcnemar(int(np.sum(right[0] & ~right[1])), int(np.sum(~right[0] & right[1])))
    one, other = (f"{name} {_share(score)}" for name, score in zip(names, scores, strict=True))
    if scores[0].value == scores[1].value:
        judged = f"both are right for {_share(scores[0])} ({_share(scores[0], ends=True)})"
    elif p_value < _CLEAR:
        judged = f"right are {one}, {other}, which is no chance (p = {p_value:.2g})"
    else:
        judged = f"right are {one}, {other}, which may be chance (p = {p_value:.2g})"
    return Accuracy(
        count, output, apart, agreement, "accuracy", scores[0], scores[1], p_value, f"{judged}; {said}"
    )


def _numbers(
    names: tuple[str, str], output: str, first: Array, second: Array, labels: Array | None, apart: float
) -> Accuracy:
    count = len(first)
    said = f"the outputs for {count:,} samples are at most {apart:.1e} apart, relative to the largest"
    if labels is None or labels.size != first.size:
        if labels is not None:
            said += f"; labels of the shape {labels.shape} do not fit the output's {first.shape}"
        return Accuracy(count, output, apart, None, None, None, None, None, said)
    truth = labels.reshape(first.shape).astype(np.float64)
    errors = [_sample_errors(each, truth) for each in (first, second)]
    scores = tuple(_resampled(each) for each in errors)
    judged = ", ".join(f"{name} {score.value:.4g}" for name, score in zip(names, scores, strict=True))
    return Accuracy(
        count,
        output,
        apart,
        None,
        "mean absolute error",
        scores[0],
        scores[1],
        None,
        f"mean absolute error: {judged} ({scores[0].low:.4g} to {scores[0].high:.4g}); {said}",
    )


def wilson(hits: int, count: int) -> Interval:
    """A share and its 95 % interval (Wilson, 1927)."""
    share = hits / count
    centre = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * math.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2))
    return Interval(share, min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half)))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value that both are right equally often (McNemar, 1947).

    It is exact, from the binomial distribution, unless so many samples changed that the normal one, corrected
    for continuity, is as good.
    """
    changed = only_first + only_second
    if changed > _MOST_EXACT:
        distance = (abs(only_first - only_second) - 1) / math.sqrt(changed)
        return math.erfc(distance / math.sqrt(2))
    tail = sum(math.comb(changed, each) for each in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / 2**changed))


def _classes(output: Array, labels: Array | None) -> Array | None:
    """The class that is predicted for every sample; None where the output is no classification."""
    if labels is not None and labels.dtype.kind not in "iub":
        return None
    if output.dtype.kind in "iub":
        return output if labels is None or output.size == labels.size else None
    scored = output.ndim >= 2 and output.shape[-1] > 1
    if scored and (labels is None or labels.size == output.size // output.shape[-1]):
        return np.asarray(np.argmax(output, -1))
    if labels is not None and labels.size == output.size and set(np.unique(labels)) <= {0, 1}:
        probabilities = bool(np.min(output) >= 0 and np.max(output) <= 1)
        return np.asarray(output > (0.5 if probabilities else 0.0)).astype(np.int64)
    return None


def _apart(first: Array, second: Array) -> float:
    """The largest difference, relative to the largest value of the first."""
    one, other = first.astype(np.float64), second.astype(np.float64)
    largest = float(np.max(np.abs(one), initial=0.0))
    difference = float(np.max(np.abs(one - other), initial=0.0))
    return difference / largest if largest else difference


def _sample_errors(output: Array, truth: Array) -> Array:
    errors = np.abs(output.astype(np.float64) - truth)
    return np.asarray(errors.reshape(len(errors), -1).mean(1))


def _resampled(errors: Array) -> Interval:
    """The mean and the percentiles of means of samples drawn again, always in the same way."""
    rng = np.random.default_rng(0)
    means = [float(np.mean(errors[rng.integers(0, len(errors), len(errors))])) for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.mean(errors)), float(low), float(high))


def _share(share: Interval, *, ends: bool = False) -> str:
    return f"{share.low:.1%} to {share.high:.1%}" if ends else f"{share.value:.1%}"


def main_output(outputs: Sequence[Array], labels: Array | None) -> int:
    """The position of the output to look at: the first that fits the labels, else the first with numbers."""
    if labels is not None:
        for position, each in enumerate(outputs):
            if _classes(each, labels) is not None or each.size == labels.size:
                return position
    floats = [position for position, each in enumerate(outputs) if each.dtype.kind == "f"]
    return floats[0] if floats else 0
