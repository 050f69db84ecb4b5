"""Whether both versions train alike: the same losses and the same weights after the same steps, in float64.

The loss and the optimizer are the workers' (docs/worker-protocol.md), so that no framework's own rule
takes part. Conventions in which the frameworks are known to differ are recognised by what they compute, and
listed instead of judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.weights import WeightMap
from bridge.verification.answers import Refusal
from bridge.verification.compare import Verdict
from bridge.verification.distances import is_floating, largest_rms
from bridge.verification.gradients import AMPLIFICATION
from bridge.verification.pairing import Correspondence
from bridge.verification.running_statistics import Statistics, TrainedTensor, change_error, folds_statistics
from bridge.verification.training_runs import MOMENTUM, Both, Files, TrainingRuns, draw_targets
from bridge.verification.weight_pairs import WeightPairs, pair_tensors
from bridge.worker.side import Side, Trained

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 20
LOSS_TOLERANCE = 1e-8
"""The relative difference that the losses of a step may have."""
CHANGE_TOLERANCE = 1e-6
"""The relative Euclidean distance that the changes of one tensor may have."""
ROUNDED_CONSTANTS = 2.0**-20
"""How far the first losses may be apart because one side keeps its constants in float32."""
UNSTABLE = 1e-6
"""How far rounding alone may carry the source's losses, or changes, and still tell something."""
CARRIED_FACTOR = 100.0
"""How many times farther than that the target may be."""
FRACTION = 0.01
"""The fraction of the first loss that the first step takes away, if the loss were linear."""
_TRIALS = 4
_DIVERGED = 10.0
_ROUNDING = 2.0**-51
_FEWEST_STEPS = 2
_NOTHING_BUT_ROUNDING = 0.1


@dataclass(frozen=True)
class TrainingResult:
    """What was found. `training` says whether BatchNormalization used the statistics of each batch.

    `loss_error` is the relative difference of the losses of the step where it is farthest from what is
    tolerated, among the `judged_steps` before rounding alone carries the source too far. `conventions` are
    differences that are known and were found to be exactly that. `fixed` are the source's tensors that were
    not trained on either side, because the target stores them computed or they have no known counterpart.
    """

    verdict: Verdict
    steps: int = 0
    judged_steps: int = 0
    rate: float = 0.0
    momentum: float = MOMENTUM
    training: bool = True
    source_losses: tuple[float, ...] = ()
    target_losses: tuple[float, ...] = ()
    loss_error: float | None = None
    loss_tolerance: float = LOSS_TOLERANCE
    tensors: tuple[TrainedTensor, ...] = ()
    conventions: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict == "equivalent"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not equivalent."""
        if self.verdict == "could not be checked":
            return self.notes
        found = [
            f"{each.kind} {each.name}: {each.reason}" for each in self.tensors if each.verdict == "different"
        ]
        if self.loss_error is not None and self.verdict == "different" and not _within(self):
            found.insert(
                0,
                f"the losses of {self.judged_steps} training steps are up to {self.loss_error:.2g} apart, "
                f"the tolerance is {self.loss_tolerance:.2g}",
            )
        return tuple(found)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def _within(result: TrainingResult) -> bool:
    return result.loss_error is not None and result.loss_error <= result.loss_tolerance


def check_training(
    source: Side,
    target: Side,
    *,
    batches: Sequence[Mapping[str, Array]],
    correspondence: Correspondence,
    outputs: Sequence[Array],
    weights: WeightMap | None,
    complete: bool = True,
    seed: int = 0,
    name: str = "training",
) -> TrainingResult:
    """Train both versions on the same `batches` (inputs by the source's names, equal shapes) and compare.

    The arguments are those of `gradients.check_gradients`; `outputs` are the source's for the first batch,
    from whose shapes and sizes the targets of the loss are drawn. Without `weights` only the losses are
    compared, and a difference of those decides nothing.

    The learning rate is the one whose first step would take away FRACTION of the source's first loss if the
    loss were linear, divided by 10 while the source diverges; both sides use the same.
    """
    compared = correspondence.source_outputs(outputs)
    if not any(is_floating(each) for each in compared):
        return _unchecked("no output is of floating-point numbers")
    targets = draw_targets(len(batches), compared, seed)
    runs = TrainingRuns(source, target, correspondence, batches, targets, name)
    pairs = WeightPairs({}, frozenset(), frozenset()) if weights is None else pair_tensors(weights)
    return _Training(runs, pairs, mapped=weights is not None, complete=complete).run()


def _unchecked(*notes: str, **found: Any) -> TrainingResult:
    return TrainingResult("could not be checked", notes=notes, **found)


@dataclass
class _Training:
    """One comparison. `mapped` says whether it is known which weight is which."""

    runs: TrainingRuns
    pairs: WeightPairs
    mapped: bool
    complete: bool
    notes: list[str] = field(default_factory=list)
    conventions: dict[str, str] = field(default_factory=dict)
    statistics: list[TrainedTensor] = field(default_factory=list)

    def run(self) -> TrainingResult:
        files = self.runs.write(len(self.runs.batches), "batches")
        first = self.runs.write(1, "first")
        still = self.runs.submit("still", first, self.pairs, rate=0.0, training=False)
        trial = self.runs.submit("statistics", first, self.pairs, rate=0.0, training=True)
        before = self.runs.settle(still)
        if isinstance(before, Refusal):
            return _unchecked(before.reason)
        self._fix(before)
        after = self.runs.settle(trial)
        if isinstance(after, Refusal):
            self.notes.append(f"both versions are trained in inference mode: {after.reason}")
            return self._descend(before, before[0], files, training=False)
        if folds_statistics(self.pairs, before, after):
            self.notes.append(
                "both versions are trained in inference mode: the target has no statistics of its own for "
                "BatchNormalization"
            )
            return self._descend(before, before[0], files, training=False)
        statistics = Statistics(self.runs, self.pairs)
        statistics.compare(before, after, first)
        self.statistics, self.conventions = statistics.tensors, statistics.conventions
        return self._descend(before, after[0], files, training=True)

    def _fix(self, before: Both) -> None:
        """Leave as it is what only one side is known to train, where the map may have gaps."""
        if not self.mapped or self.complete:
            return
        paired = set(self.pairs.recipes)
        read = {name for recipe in self.pairs.recipes.values() for name in recipes.sources(recipe)}
        known = {each for name in read for each in self.pairs.source_names(name)}
        source, target = before
        fixed = set(source.trained) - known
        fixed_target = set(target.trained) - paired
        for name, recipe in self.pairs.recipes.items():
            made_of = {each for one in recipes.sources(recipe) for each in self.pairs.source_names(one)}
            if name in target.buffers:
                fixed |= made_of & set(source.trained)
            if name in target.trained and not made_of.isdisjoint(source.buffers):
                fixed_target.add(name)
        self.pairs = WeightPairs(
            self.pairs.recipes,
            self.pairs.fixed | fixed,
            self.pairs.fixed_target | fixed_target,
            self.pairs.aliases,
        )

    def _descend(self, before: Both, first: Trained, files: Files, *, training: bool) -> TrainingResult:
        """Train both; `first` is the source's first step in this mode, which decides the learning rate."""
        loss, norm = float(first.losses[0]), float(first.gradient_norms[0])
        fixed = tuple(sorted(self.pairs.fixed))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._result(_unchecked("the first loss of the source or its gradient is not finite"))
        if norm == 0.0:
            return self._result(_unchecked("no weight that both sides train has a gradient", fixed=fixed))
        rate = FRACTION * loss / norm**2
        for trial in range(_TRIALS):
            settled = self.runs.settle(
                self.runs.submit(f"steps{trial}", files, self.pairs, rate=rate, training=training)
            )
            if isinstance(settled, Refusal):
                return self._result(_unchecked(settled.reason))
            source, target = settled
            if bool(np.all(np.abs(source.losses) <= _DIVERGED * max(loss, float(source.losses[0])))):
                break
            rate /= 10
        else:
            return self._result(_unchecked("the source diverges at every learning rate that was tried"))
        found = self._compare(before, source, target, rate, training=training)
        if found.verdict == "different":
            nudged = self.runs.nudged(
                before[0], files, self.pairs, rate=rate, nudge=_nudge(source, target), training=training
            )
            if nudged:
                return self._compare(before, source, target, rate, training=training, nudged=nudged)
        return found

    def _result(self, result: TrainingResult) -> TrainingResult:
        return replace(result, notes=(*result.notes, *self.notes))

    def _compare(
        self,
        before: Both,
        source: Trained,
        target: Trained,
        rate: float,
        *,
        training: bool,
        nudged: Sequence[Trained] = (),
    ) -> TrainingResult:
        margin = AMPLIFICATION * min(_first_error(source, target), ROUNDED_CONSTANTS)
        carried = np.zeros(len(source.losses))
        for each in nudged:
            carried = np.maximum(carried, np.maximum.accumulate(_errors(source.losses, each.losses)))
        judged = int(np.count_nonzero(carried <= UNSTABLE))
        errors = _errors(source.losses, target.losses)
        tolerances = LOSS_TOLERANCE + margin + CARRIED_FACTOR * carried
        worst = int(np.argmax(errors[:judged] / tolerances[:judged])) if judged else 0
        tensors = [
            *self.statistics,
            *self._parameters(before, source, target, CHANGE_TOLERANCE + margin, nudged),
        ]
        notes = ["Dropout is disabled on both sides", *self.notes]
        if judged < len(errors):
            notes.append(
                f"rounding alone carries the source's losses apart: {judged} of {len(errors)} training steps "
                "are judged"
            )
        verdict: Verdict = "equivalent"
        if any(each.verdict == "different" for each in tensors):
            verdict = "different"
        elif judged < _FEWEST_STEPS:
            verdict = "could not be checked"
            notes.insert(0, "the training of the source is too unstable to judge by")
        elif errors[worst] > tolerances[worst]:
            verdict = "different" if self.mapped else "could not be checked"
            if not self.mapped:
                notes.insert(
                    0,
                    f"the losses are {errors[worst]:.2g} apart, and it is not known which weight is which: "
                    "they may be the same function of other weights",
                )
        return TrainingResult(
            verdict,
            len(errors),
            judged,
            rate,
            MOMENTUM,
            training,
            tuple(float(each) for each in source.losses),
            tuple(float(each) for each in target.losses),
            float(errors[worst]),
            float(tolerances[worst]),
            tuple(tensors),
            tuple(self.conventions.values()),
            tuple(sorted(self.pairs.fixed)),
            tuple(notes),
        )

    def _parameters(
        self,
        before: Both,
        source: Trained,
        target: Trained,
        tolerance: float,
        nudged: Sequence[Trained],
    ) -> list[TrainedTensor]:
        """The weights after the last step; statistics are judged by their first."""
        statistics = {each.name for each in self.statistics} | set(self.conventions)
        changes: dict[str, tuple[Array, Array]] = {}
        for name in self.pairs.recipes:
            old, new = (self.pairs.expected(name, each.state) for each in (before[0], source))
            if old is None or new is None or name not in target.state or name in statistics:
                continue
            if not (np.array_equal(old, new) and np.array_equal(before[1].state[name], target.state[name])):
                changes[name] = (old, new)
        scale = largest_rms([new - old for old, new in changes.values()])
        results = []
        for name, (old, new) in changes.items():
            carried = 0.0
            for each in nudged:
                moved = self.pairs.expected(name, each.state)
                assert moved is not None
                carried = max(carried, change_error(old, new, moved, scale))
            error = change_error(old, new, target.state[name], scale)
            untrained = (
                np.array_equal(old, new),
                np.array_equal(before[1].state[name], target.state[name]),
            )
            results.append(_judged(name, error, tolerance, carried, untrained))
        return results


def _first_error(source: Trained, target: Trained) -> float:
    """How far the first losses and gradients are apart, before any update."""
    return max(
        float(_errors(source.losses[:1], target.losses[:1])[0]),
        float(_errors(source.gradient_norms[:1], target.gradient_norms[:1])[0]),
    )


def _nudge(source: Trained, target: Trained) -> float:
    """How far off the weights are to start to show what training makes of it.

    By rounding, or by as much as both sides are apart before the first update where constants in float32
    explain that: PyTorch's derivative of hardsigmoid holds 1/6 in float32 even in float64.
    """
    apart = _first_error(source, target)
    return max(_ROUNDING, apart) if apart <= ROUNDED_CONSTANTS else _ROUNDING


def _judged(
    name: str, error: float, tolerance: float, carried: float, untrained: tuple[bool, bool]
) -> TrainedTensor:
    """One weight after the last step. `carried` is how far rounding alone carries the source's.

    `untrained` says of each side whether the weight is still what it was, to the bit.
    """
    if untrained[0] != untrained[1] and carried < _NOTHING_BUT_ROUNDING:
        if error <= tolerance:
            return TrainedTensor(name, "parameter", "equal", error)
        one, other = ("target", "source") if untrained[0] else ("source", "target")
        reason = f"the {one} trains it, the {other} does not"
        return TrainedTensor(name, "parameter", "different", error, reason)
    tolerance += CARRIED_FACTOR * carried
    if error <= tolerance:
        return TrainedTensor(name, "parameter", "equal", error)
    if carried > UNSTABLE:
        reason = f"rounding alone moves the source's by {carried:.2g}"
        return TrainedTensor(name, "parameter", "not comparable", error, reason)
    reason = f"its change in training is off by {error:.2g}, the tolerance is {tolerance:.2g}"
    return TrainedTensor(name, "parameter", "different", error, reason)


def _errors(source: Array, target: Array) -> Array:
    """The relative differences of two series; infinite where either is not finite."""
    size = np.maximum(np.abs(source), 1e-3 * np.max(np.abs(source[np.isfinite(source)]), initial=0.0))
    with np.errstate(invalid="ignore"):
        errors = np.abs(target - source)
    errors = np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    return np.where(np.isfinite(source) & np.isfinite(target), errors, math.inf)
