"""Whether both versions train alike: the same losses and the same weights after the same steps, in float64.

The loss and the optimizer are the workers' (docs/worker-protocol.md), so that no framework's own rule
takes part. Conventions in which the frameworks are known to differ are recognised by what they compute, and
listed instead of judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.weights import WeightMap
from bridge.verification.answers import Refusal, answer
from bridge.verification.compare import Verdict
from bridge.verification.distances import is_floating, largest_rms, relative_error
from bridge.verification.gradients import AMPLIFICATION, Finding, source_cotangents, target_cotangents
from bridge.verification.pairing import Correspondence
from bridge.verification.weight_pairs import WeightPairs, pair_tensors
from bridge.worker.side import Side, Trained
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 20
MOMENTUM = 0.9
LOSS_TOLERANCE = 1e-8
"""The relative difference that the losses of a step may have."""
CHANGE_TOLERANCE = 1e-6
"""The relative Euclidean distance that the changes of one tensor may have."""
STATISTIC_TOLERANCE = 1e-4
"""The same for what one step adds to a statistic: 1 - momentum may come from a momentum in float32."""
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
_KEPT_TOLERANCE = 1e-6
_PROPORTIONAL = 1e-7
_ROUNDING = 2.0**-51
_NUDGES = 2
_FEWEST_STEPS = 2


@dataclass(frozen=True)
class TrainedTensor:
    """One tensor of the target, after the last step, or a statistic after one step."""

    name: str
    kind: Literal["parameter", "statistic"]
    verdict: Finding
    error: float | None = None
    reason: str = ""


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
    targets = _targets(len(batches), compared, seed)
    pairs = WeightPairs({}, frozenset(), frozenset()) if weights is None else pair_tensors(weights)
    return _Training(source, target, batches, targets, correspondence, weights, pairs, complete, name).run()


def _unchecked(*notes: str, **found: Any) -> TrainingResult:
    return TrainingResult("could not be checked", notes=notes, **found)


def _targets(steps: int, outputs: Sequence[Array], seed: int) -> list[list[Array | None]]:
    """Normal numbers of each output's own size, for every step; None for outputs that are not floating."""
    rng = np.random.default_rng(seed)
    sizes = [
        (largest_rms([each.astype(np.float64)]) or 1.0) if is_floating(each) else None for each in outputs
    ]
    return [
        [
            None if size is None else np.asarray(size * rng.standard_normal(each.shape))
            for each, size in zip(outputs, sizes, strict=True)
        ]
        for _ in range(steps)
    ]


@dataclass
class _Training:
    source: Side
    target: Side
    batches: Sequence[Mapping[str, Array]]
    targets: Sequence[Sequence[Array | None]]
    correspondence: Correspondence
    weights: WeightMap | None
    pairs: WeightPairs
    complete: bool
    name: str
    notes: list[str] = field(default_factory=list)
    conventions: dict[str, str] = field(default_factory=dict)
    statistics: list[TrainedTensor] = field(default_factory=list)

    def run(self) -> TrainingResult:
        files = self._write(self.batches, "batches")
        first = self._write(self.batches[:1], "first")
        still = self._both("still", first, rate=0.0, training=False)
        trial = self._both("statistics", first, rate=0.0, training=True)
        before = self._settled(still)
        if isinstance(before, Refusal):
            return _unchecked(before.reason)
        self._fix(before)
        after = self._settled(trial)
        training = not isinstance(after, Refusal)
        if isinstance(after, Refusal):
            self.notes.append(f"both versions are trained in inference mode: {after.reason}")
        elif self._folded(before, after):
            training = False
            self.notes.append(
                "both versions are trained in inference mode: the target has no statistics of its own for "
                "BatchNormalization"
            )
        else:
            self._check_statistics(before, after, first)
        return self._descend(before, files, training=training)

    def _write(self, batches: Sequence[Mapping[str, Array]], name: str) -> tuple[Path, Path]:
        source: dict[str, Array] = {}
        target: dict[str, Array] = {}
        for step, feeds in enumerate(batches):
            for tensors, inputs, targets in (
                (source, feeds, source_cotangents(self.correspondence, self.targets[step])),
                (
                    target,
                    self.correspondence.feeds(feeds),
                    target_cotangents(self.correspondence, self.targets[step]),
                ),
            ):
                tensors.update({f"input:{step}:{name}": array for name, array in inputs.items()})
                tensors.update({f"target:{step}:{position}": each for position, each in targets.items()})
        files = (self._file(self.source, name), self._file(self.target, name))
        write_tensors(str(files[0]), source)
        write_tensors(str(files[1]), target)
        return files

    def _file(self, side: Side, name: str) -> Path:
        return side.scratch / f"{self.name}.{name}.safetensors"

    def _both(
        self,
        name: str,
        files: tuple[Path, Path],
        *,
        rate: float,
        training: bool,
        starts: tuple[Path | None, Path | None] = (None, None),
    ) -> tuple[int, int, str]:
        """Queue one training on both sides."""
        name = f"{self.name}.{name}"
        fixed = self._fixed_names()
        numbers = [
            side.submit_train(
                files[which],
                name,
                rate=rate,
                momentum=MOMENTUM,
                training=training,
                start=starts[which],
                fixed=fixed[which],
            )
            for which, side in enumerate((self.source, self.target))
        ]
        return numbers[0], numbers[1], name

    def _fixed_names(self) -> tuple[list[str], list[str]]:
        """The weights that are not trained, by each side's names."""
        return (
            sorted(each for path in self.pairs.fixed for each in self.pairs.source_names(path)),
            sorted(self.pairs.fixed_target),
        )

    def _settled(self, request: tuple[int, int, str]) -> tuple[Trained, Trained] | Refusal:
        ours, theirs, name = request
        source = answer(self.source.trained, ours, name)
        target = answer(self.target.trained, theirs, name)
        if isinstance(source, Refusal):
            return Refusal(f"the source cannot be trained: {source.reason}")
        if isinstance(target, Refusal):
            return Refusal(f"the target cannot be trained: {target.reason}")
        return source, target

    def _fix(self, before: tuple[Trained, Trained]) -> None:
        """Leave as it is what only one side is known to train, where the map may have gaps."""
        if self.weights is None or self.complete:
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

    def _folded(self, before: tuple[Trained, Trained], after: tuple[Trained, Trained]) -> bool:
        """Whether a statistic that the source updates is part of what the target only holds computed."""
        held = {each for name in self.pairs.fixed for each in self.pairs.source_names(name)}
        changed = _changed(before[0].state, after[0].state)
        return not held.isdisjoint(changed)

    def _check_statistics(
        self, before: tuple[Trained, Trained], after: tuple[Trained, Trained], first: tuple[Path, Path]
    ) -> None:
        """Hold what one step without learning leaves on both sides against each other."""
        unequal = []
        for name in self.pairs.recipes:
            old, new = (self.pairs.expected(name, each[0].state) for each in (before, after))
            if old is None or new is None or name not in after[1].state:
                continue
            found_old, found = before[1].state[name], after[1].state[name]
            if np.array_equal(old, new) and np.array_equal(found_old, found):
                continue
            error = _change_error(old, new, found, 0.0)
            if error <= STATISTIC_TOLERANCE:
                self.statistics.append(TrainedTensor(name, "statistic", "equal", error))
            elif np.array_equal(found_old, found):
                reason = "the source updates it in training, the target does not"
                self.statistics.append(TrainedTensor(name, "statistic", "different", error, reason))
            elif np.array_equal(old, new):
                reason = "the target updates it in training, the source does not"
                self.statistics.append(TrainedTensor(name, "statistic", "different", error, reason))
            else:
                unequal.append(name)
        if unequal:
            self._recognise(unequal, after, first)

    def _recognise(
        self, unequal: Sequence[str], after: tuple[Trained, Trained], first: tuple[Path, Path]
    ) -> None:
        """Tell the variance with n - 1 from anything else, by a step from statistics that are zero.

        An update is keep * old + contribution. From zero, the contribution is what is left; what is then
        missing is keep * old. The second must be equal, the first up to one factor n / (n - 1).
        """
        sources = {name for each in unequal for name in recipes.sources(self.pairs.recipes[each])}
        zeros = (self._file(self.source, "zeros"), self._file(self.target, "zeros"))
        held = [each for name in sources for each in self.pairs.source_names(name) if each in after[0].state]
        write_tensors(str(zeros[0]), {name: np.zeros_like(after[0].state[name]) for name in held})
        write_tensors(str(zeros[1]), {name: np.zeros_like(after[1].state[name]) for name in unequal})
        settled = self._settled(self._both("zeros", first, rate=0.0, training=True, starts=zeros))
        sizes = {array.shape[0] for array in self.batches[0].values() if array.ndim}
        for name in unequal:
            reason = "the frameworks update it differently"
            if isinstance(settled, Refusal):
                self.statistics.append(TrainedTensor(name, "statistic", "different", None, settled.reason))
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
            self.statistics.append(TrainedTensor(name, "statistic", "different", kept_error, reason))

    def _descend(
        self, before: tuple[Trained, Trained], files: tuple[Path, Path], *, training: bool
    ) -> TrainingResult:
        loss, norm = float(before[0].losses[0]), float(before[0].gradient_norms[0])
        fixed = tuple(sorted(self.pairs.fixed))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return self._result(_unchecked("the first loss of the source or its gradient is not finite"))
        if norm == 0.0:
            return self._result(_unchecked("no weight that both sides train has a gradient", fixed=fixed))
        rate = FRACTION * loss / norm**2
        for trial in range(_TRIALS):
            settled = self._settled(self._both(f"steps{trial}", files, rate=rate, training=training))
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
            nudged = self._nudged(before[0], files, rate, _nudge(source, target), training=training)
            if nudged:
                return self._compare(before, source, target, rate, training=training, nudged=nudged)
        return found

    def _nudged(
        self, before: Trained, files: tuple[Path, Path], rate: float, nudge: float, *, training: bool
    ) -> list[Trained]:
        """The source trained from weights that are off by `nudge`, several times; none where it cannot be."""
        numbers = []
        for seed in range(_NUDGES):
            rng = np.random.default_rng(seed)
            start = self._file(self.source, f"nudged{seed}")
            state = {
                path: array * (1 + nudge * rng.uniform(-1, 1, array.shape))
                for path, array in before.state.items()
                if is_floating(array)
            }
            write_tensors(str(start), state)
            numbers.append(
                self.source.submit_train(
                    files[0],
                    f"{self.name}.nudged{seed}",
                    rate=rate,
                    momentum=MOMENTUM,
                    training=training,
                    start=start,
                    fixed=self._fixed_names()[0],
                )
            )
        answers = [
            answer(self.source.trained, number, f"{self.name}.nudged{seed}")
            for seed, number in enumerate(numbers)
        ]
        return [each for each in answers if isinstance(each, Trained)]

    def _result(self, result: TrainingResult) -> TrainingResult:
        return replace(result, notes=(*result.notes, *self.notes))

    def _compare(
        self,
        before: tuple[Trained, Trained],
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
            verdict = "different" if self.weights is not None else "could not be checked"
            if self.weights is None:
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
        before: tuple[Trained, Trained],
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
                carried = max(carried, _change_error(old, new, moved, scale))
            error = _change_error(old, new, target.state[name], scale)
            untrained = (
                np.array_equal(old, new),
                np.array_equal(before[1].state[name], target.state[name]),
            )
            results.append(_judged(name, error, tolerance + CARRIED_FACTOR * carried, carried, untrained))
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
    """One weight after the last step. `carried` is how far rounding alone carries the source's."""
    if untrained == (True, False):
        reason = "the target trains it, the source does not"
    elif untrained == (False, True):
        reason = "the source trains it, the target does not"
    elif carried > UNSTABLE:
        reason = f"rounding alone moves the source's by {carried:.2g}"
        return TrainedTensor(name, "parameter", "not comparable", error, reason)
    else:
        reason = f"its change in training is off by {error:.2g}, the tolerance is {tolerance:.2g}"
    if error <= tolerance:
        return TrainedTensor(name, "parameter", "equal", error)
    return TrainedTensor(name, "parameter", "different", error, reason)


def _changed(before: Mapping[str, Array], after: Mapping[str, Array]) -> set[str]:
    return {name for name in after if name in before and not np.array_equal(before[name], after[name])}


def _change_error(old: Array, new: Array, found: Array, scale: float) -> float:
    """How far a tensor is from where it should be, relative to how far it should have moved."""
    if new.shape != found.shape:
        return math.inf
    rounding = 1e-7 * largest_rms([old])
    return relative_error(new - old, found - old, max(scale, rounding / 1e-6))


def _errors(source: Array, target: Array) -> Array:
    """The relative differences of two series; infinite where either is not finite."""
    size = np.maximum(np.abs(source), 1e-3 * np.max(np.abs(source[np.isfinite(source)]), initial=0.0))
    with np.errstate(invalid="ignore"):
        errors = np.abs(target - source)
    errors = np.divide(errors, size, out=np.zeros_like(errors), where=size > 0)
    return np.where(np.isfinite(source) & np.isfinite(target), errors, math.inf)


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
