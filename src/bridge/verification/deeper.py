"""Gradients and training of two loaded versions."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.verification.checks import Checks
from bridge.verification.choosing import Choice
from bridge.verification.gradients import GradientsResult, check_gradients
from bridge.verification.judging import Ran
from bridge.verification.loaded import Loaded
from bridge.verification.pairing import Correspondence
from bridge.verification.training import TrainingResult, check_training
from bridge.verification.weighing import Weights
from bridge.worker.side import Run

_TOLD_BY = ("typical", "user")


def ordinary_run(ran: Sequence[Ran]) -> Ran | None:
    """The smallest run of typical inputs or of the user's that both sides answered."""
    told = [each for each in ran if each.draw.rule in _TOLD_BY and isinstance(each.target, Run)]
    return min(told, key=lambda each: each.draw.size, default=None)


def compare_gradients(
    loaded: Loaded,
    checks: Checks,
    correspondence: Correspondence,
    ran: Sequence[Ran],
    weights: Weights,
    name: str,
) -> GradientsResult:
    """The gradients of inputs and parameters, at typical inputs or the user's."""
    chosen = ordinary_run(ran)
    if chosen is None:
        return GradientsResult("could not be checked", notes=("no inputs ran on both sides",))
    return check_gradients(
        loaded.source_side,
        loaded.target_side,
        feeds=chosen.draw.arrays,
        correspondence=correspondence,
        outputs=chosen.source.outputs,
        weights=weights.map,
        source_weights=weights.source,
        complete=weights.complete,
        seed=checks.seed,
        name=f"{name}.gradients",
    )


def compare_training(
    loaded: Loaded,
    checks: Checks,
    correspondence: Correspondence,
    choice: Choice,
    ran: Sequence[Ran],
    weights: Weights,
    name: str,
) -> TrainingResult:
    """Training steps on typical inputs or the user's."""
    batches = [each.arrays for each in choice.batches(checks.training, checks)]
    shapes = {key: array.shape for key, array in batches[0].items()}
    outputs = next(
        (
            each.source.outputs
            for each in ran
            if {key: array.shape for key, array in each.draw.arrays.items()} == shapes
        ),
        None,
    )
    if outputs is None:
        return TrainingResult("could not be checked", notes=("no inputs of one size ran on both sides",))
    return check_training(
        loaded.source_side,
        loaded.target_side,
        batches=batches,
        correspondence=correspondence,
        outputs=outputs,
        weights=weights.map,
        complete=weights.complete,
        seed=checks.seed,
        name=f"{name}.training",
    )
