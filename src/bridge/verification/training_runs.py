"""The trainings that the workers of both sides are asked for: their files, requests and answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bridge.verification.answers import Refusal, answer
from bridge.verification.distances import is_floating, largest_rms
from bridge.verification.gradients import source_cotangents, target_cotangents
from bridge.verification.pairing import Correspondence
from bridge.verification.weight_pairs import WeightPairs
from bridge.worker.side import Side, Trained
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]
Files = tuple[Path, Path]
"""A file of the source's worker and one of the target's."""
Both = tuple[Trained, Trained]
"""What the source and the target answered."""

MOMENTUM = 0.9
_NUDGES = 2


def draw_targets(steps: int, outputs: Sequence[Array], seed: int) -> list[list[Array | None]]:
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


@dataclass(frozen=True)
class TrainingRuns:
    """Both sides, and what they are trained on. `name` sets the files apart from those of other runs.

    `targets` are those of the loss, for every batch in the order of the paired outputs.
    """

    source: Side
    target: Side
    correspondence: Correspondence
    batches: Sequence[Mapping[str, Array]]
    targets: Sequence[Sequence[Array | None]]
    name: str

    def write(self, steps: int, name: str) -> Files:
        """Write the first batches for both sides."""
        source: dict[str, Array] = {}
        target: dict[str, Array] = {}
        for step, feeds in enumerate(self.batches[:steps]):
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
        files = (self.file(self.source, name), self.file(self.target, name))
        write_tensors(str(files[0]), source)
        write_tensors(str(files[1]), target)
        return files

    def file(self, side: Side, name: str) -> Path:
        """A file of this training for a worker."""
        return side.scratch / f"{self.name}.{name}.safetensors"

    def submit(
        self,
        name: str,
        files: Files,
        pairs: WeightPairs,
        *,
        rate: float,
        training: bool,
        starts: tuple[Path | None, Path | None] = (None, None),
    ) -> tuple[int, int, str]:
        """Queue one training on both sides."""
        name = f"{self.name}.{name}"
        fixed = pairs.fixed_names()
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

    def settle(self, request: tuple[int, int, str]) -> Both | Refusal:
        """Wait for what `submit` queued."""
        ours, theirs, name = request
        source = answer(self.source.trained, ours, name)
        target = answer(self.target.trained, theirs, name)
        if isinstance(source, Refusal):
            return Refusal(f"the source cannot be trained: {source.reason}")
        if isinstance(target, Refusal):
            return Refusal(f"the target cannot be trained: {target.reason}")
        return source, target

    def nudged(
        self, before: Trained, files: Files, pairs: WeightPairs, *, rate: float, nudge: float, training: bool
    ) -> list[Trained]:
        """The source trained from weights that are off by `nudge`, several times; none where it cannot be."""
        numbers = []
        for seed in range(_NUDGES):
            rng = np.random.default_rng(seed)
            start = self.file(self.source, f"nudged{seed}")
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
                    fixed=pairs.fixed_names()[0],
                )
            )
        answers = [
            answer(self.source.trained, number, f"{self.name}.nudged{seed}")
            for seed, number in enumerate(numbers)
        ]
        return [each for each in answers if isinstance(each, Trained)]
