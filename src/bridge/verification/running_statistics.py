"""Whether BatchNormalization moves its statistics alike on both sides in training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from bridge.hub import recipe as recipes
from bridge.verification.answers import Refusal
from bridge.verification.distances import largest_rms, relative_error
from bridge.verification.gradients import Finding
from bridge.verification.training_runs import Both, Files, TrainingRuns
from bridge.verification.weight_pairs import WeightPairs
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]

STATISTIC_TOLERANCE = 1e-4
"""The relative distance that what one step adds may have: 1 - momentum may come from one in float32."""
_KEPT_TOLERANCE = 1e-6
_PROPORTIONAL = 1e-7


@dataclass(frozen=True)
class TrainedTensor:
    """One tensor of the target, after the last step, or a statistic after one step."""

    name: str
    kind: Literal["parameter", "statistic"]
    verdict: Finding
    error: float | None = None
    reason: str = ""


@dataclass
class Statistics:
    """What one step without learning leaves of the statistics on both sides.

    `conventions` are, by tensor, differences that are known and were found to be exactly that.
    """

    runs: TrainingRuns
    pairs: WeightPairs
    tensors: list[TrainedTensor] = field(default_factory=list)
    conventions: dict[str, str] = field(default_factory=dict)

    def compare(self, before: Both, after: Both, first: Files) -> None:
        """Hold the states before and after one step, on the batch in `first`, against each other."""
        unequal = []
        for name in self.pairs.recipes:
            old, new = (self.pairs.expected(name, each[0].state) for each in (before, after))
            if old is None or new is None or name not in after[1].state:
                continue
            found_old, found = before[1].state[name], after[1].state[name]
            if np.array_equal(old, new) and np.array_equal(found_old, found):
                continue
            error = change_error(old, new, found, 0.0)
            if error <= STATISTIC_TOLERANCE:
                self.tensors.append(TrainedTensor(name, "statistic", "equal", error))
            elif np.array_equal(found_old, found):
                reason = "the source updates it in training, the target does not"
                self.tensors.append(TrainedTensor(name, "statistic", "different", error, reason))
            elif np.array_equal(old, new):
                reason = "the target updates it in training, the source does not"
                self.tensors.append(TrainedTensor(name, "statistic", "different", error, reason))
            else:
                unequal.append(name)
        if unequal:
            self._recognise(unequal, after, first)

    def _recognise(self, unequal: Sequence[str], after: Both, first: Files) -> None:
        """Tell the variance with n - 1 from anything else, by a step from statistics that are zero.

        An update is keep * old + contribution. From zero, the contribution is what is left; what is then
        missing is keep * old. The second must be equal, the first up to one factor n / (n - 1).
        """
        sources = {name for each in unequal for name in recipes.sources(self.pairs.recipes[each])}
        zeros = (self.runs.file(self.runs.source, "zeros"), self.runs.file(self.runs.target, "zeros"))
        held = [each for name in sources for each in self.pairs.source_names(name) if each in after[0].state]
        write_tensors(str(zeros[0]), {name: np.zeros_like(after[0].state[name]) for name in held})
        write_tensors(str(zeros[1]), {name: np.zeros_like(after[1].state[name]) for name in unequal})
        settled = self.runs.settle(
            self.runs.submit("zeros", first, self.pairs, rate=0.0, training=True, starts=zeros)
        )
        sizes = {array.shape[0] for array in self.runs.batches[0].values() if array.ndim}
        for name in unequal:
            reason = "the frameworks update it differently"
            if isinstance(settled, Refusal):
                self.tensors.append(TrainedTensor(name, "statistic", "different", None, settled.reason))
                continue
            ours, theirs = self.pairs.expected(name, settled[0].state), settled[1].state[name]
            whole = self.pairs.expected(name, after[0].state)
            assert ours is not None
            assert whole is not None
            kept_error = relative_error(whole - ours, after[1].state[name] - theirs, 0.0)
            count = _sample_count(ours, theirs)
            if kept_error > _KEPT_TOLERANCE:
                reason = f"the share of the old value that is kept is off by {kept_error:.2g} (momentum)"
            elif count is not None and any(abs(count) % size == 0 for size in sizes):
                one, other = ("source", "target") if count > 0 else ("target", "source")
                self.conventions[name] = (
                    f"{name}: the {one} divides the variance by n - 1, the {other} by n = {abs(count)}"
                )
                continue
            self.tensors.append(TrainedTensor(name, "statistic", "different", kept_error, reason))


def folds_statistics(pairs: WeightPairs, before: Both, after: Both) -> bool:
    """Whether a statistic that the source updates is part of what the target only holds computed."""
    held = {each for name in pairs.fixed for each in pairs.source_names(name)}
    return not held.isdisjoint(_changed(before[0].state, after[0].state))


def _changed(before: Mapping[str, Array], after: Mapping[str, Array]) -> set[str]:
    return {name for name in after if name in before and not np.array_equal(before[name], after[name])}


def change_error(old: Array, new: Array, found: Array, scale: float) -> float:
    """How far a tensor is from where it should be, relative to how far it should have moved."""
    if new.shape != found.shape:
        return math.inf
    rounding = 1e-7 * largest_rms([old])
    return relative_error(new - old, found - old, max(scale, rounding / 1e-6))


def _sample_count(source: Array, target: Array) -> int | None:
    """n where the source is n / (n - 1) times the target, -n where the target is that times the source.

    None where neither is so for all elements.
    """
    size = float(np.vdot(target, target))
    if not size:
        return None
    factor = float(np.vdot(source, target)) / size
    if factor <= 0 or relative_error(source, factor * target, 0.0) > _PROPORTIONAL:
        return None
    larger = max(factor, 1 / factor)
    if larger - 1 < _PROPORTIONAL:
        return None
    count = larger / (larger - 1)
    nearest = round(count)
    if nearest < 2 or abs(count - nearest) > max(1e-3, 2e-6 * count**2):
        return None
    return nearest if factor > 1 else -nearest
