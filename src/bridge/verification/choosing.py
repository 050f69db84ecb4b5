"""Choose the sets of inputs that both versions are run with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from bridge.verification import inputs as drawing
from bridge.verification.checks import Checks
from bridge.verification.fitting import common_sizes, settle_layouts, vocabularies
from bridge.verification.inputs import Draw, InputPlan
from bridge.verification.loaded import Loaded
from bridge.verification.pairing import Correspondence
from bridge.verification.running import Runner, outcome
from bridge.verification.sizes import Shapes, check_batches, checked_shapes, parse_shapes
from bridge.verification.user_inputs import apply_specs, descriptions, split, user_draws
from bridge.worker.side import Run

_FIRST_OF_TRAINING = 1000
"""Draws for training have numbers from here on, so that they are other ones."""


@dataclass
class Choice:
    """The draws, the plans that they were drawn by (none for the user's own), and notes about them."""

    draws: list[Draw] = field(default_factory=list)
    plans: Sequence[InputPlan] = ()
    sizes: Shapes = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def batches(self, count: int, checks: Checks) -> list[Draw]:
        """As many sets of typical inputs of equal shapes, or the user's in turn if there are only those."""
        if not self.plans:
            first = self.draws[0]
            alike = [each for each in self.draws if _shapes(each) == _shapes(first)]
            return [alike[step % len(alike)] for step in range(count)]
        typical = next(each for each in self.draws if each.rule == "typical")
        batch = typical.batch if checks.batches is None else checks.batches[0]
        return [
            drawing.draw(
                self.plans,
                seed=checks.seed,
                index=_FIRST_OF_TRAINING + step,
                rule="typical",
                batch=batch,
                sizes=self.sizes,
            )
            for step in range(count)
        ]


def choose_inputs(loaded: Loaded, checks: Checks, name: str) -> tuple[Correspondence, Choice]:
    """Which inputs belong together, the user's sets of them, and those that are drawn.

    `name` sets the files of trial runs apart. There are no sets where the inputs of both models cannot be
    matched. Raises InputError for inputs that do not fit the models.
    """
    specs, sets = split(checks.inputs, seed=checks.seed)
    asked = apply_specs(loaded.source.inputs, descriptions(checks.inputs) if specs else [])
    correspondence = loaded.correspond_inputs(checks, asked)
    choice = Choice()
    if correspondence.mismatch is not None:
        return correspondence, choice
    trials = _Trials(loaded, name)
    asked, correspondence = settle_layouts(asked, loaded.target, correspondence, trials.runs)
    choice.draws += user_draws(sets, asked)
    if checks.draw if checks.draw is not None else specs or not sets:
        fitted, notes = common_sizes(asked, loaded.target, correspondence)
        plans, more = vocabularies(
            drawing.plan(fitted, precision=checks.dtype),
            lambda plans, trial: trials.runs("source", plans, correspondence, trial),
        )
        shapes = checked_shapes(plans, parse_shapes(checks.shapes))
        if checks.batches is not None:
            check_batches(plans, checks.batches)
        choice.draws += drawing.draws(
            plans, seed=checks.seed, batches=checks.batches, boundaries=True, sizes=shapes
        )
        choice.plans, choice.sizes = plans, shapes[0] if shapes else {}
        choice.notes += [*notes, *more]
    return correspondence, choice


@dataclass(frozen=True)
class _Trials:
    """Runs of one side to find out what it takes."""

    loaded: Loaded
    name: str

    def runs(
        self, role: Literal["source", "target"], plans: Sequence[InputPlan], found: Correspondence, trial: str
    ) -> bool:
        """Whether a side runs inputs that are drawn by the plans."""
        name = f"{self.name}.{trial}"
        runner = Runner(self.loaded.source_side, self.loaded.target_side, found, name)
        draw = drawing.draw(plans, seed=0, index=0, rule="typical", batch=drawing.DEFAULT_BATCHES[0])
        if role == "source":
            side, file = self.loaded.source_side, runner.source_file(draw)
        else:
            side, file = self.loaded.target_side, runner.target_file(draw)
        return isinstance(outcome(side, side.submit_run(file, name), name), Run)


def _shapes(draw: Draw) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, array.shape) for name, array in draw.arrays.items()]
