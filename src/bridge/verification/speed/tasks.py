"""Which rows are measured, and the files of their inputs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path

from bridge.errors import InputError
from bridge.verification import inputs as drawing
from bridge.verification.choosing import Choice
from bridge.verification.inputs import Draw, InputPlan
from bridge.verification.pairing import Correspondence
from bridge.verification.sizes import check_batches
from bridge.verification.speed.blocks import Task
from bridge.verification.speed.result import Mode, Variant
from bridge.verification.speed.settings import DEFAULT_BATCHES, SpeedSettings
from bridge.worker.standalone import write_tensors

_FIRST_DRAW = 2_000
"""Draws that are timed have numbers from here on, so that they are other ones."""
_MOST_SHAPES = 3


def make_tasks(
    choice: Choice, correspondence: Correspondence, settings: SpeedSettings, directory: Path, *, seed: int
) -> list[Task]:
    """The rows: inference and training steps, plain and compiled, at every batch size in ascending order.

    What a process keeps of a row that it has run counts as memory of the next, so the cheaper ones come
    first. Raises InputError for batch sizes that the inputs cannot have.
    """
    modes: list[Mode] = ["inference", *(["training step"] if settings.training else [])]  # type: ignore[list-item]
    variants: list[Variant] = ["plain", *(["compiled"] if settings.compiled else [])]  # type: ignore[list-item]
    inputs = []
    for position, (batch, draw) in enumerate(_draws(choice, settings, seed)):
        files = {
            "source": directory / f"speed{position}.source.safetensors",
            "target": directory / f"speed{position}.target.safetensors",
        }
        write_tensors(str(files["source"]), draw.arrays)
        write_tensors(str(files["target"]), correspondence.feeds(draw.arrays))
        inputs.append((batch, files))
    return [
        Task(mode, variant, batch, {"source": files["source"], "target": files["target"]})
        for mode, variant, (batch, files) in product(modes, variants, inputs)
    ]


def _draws(choice: Choice, settings: SpeedSettings, seed: int) -> list[tuple[int | None, Draw]]:
    """Inputs to time with, and the sizes of their batches."""
    if not choice.plans:
        return _of_the_user(choice.draws, settings)
    if not any(each.dynamic_batch for each in choice.plans):
        if settings.batches is not None:
            check_batches(choice.plans, settings.batches)
        batch = _fixed_batch(choice.plans)
        return [(batch, _drawn(choice, seed, None))]
    batches = sorted(set(settings.batches or DEFAULT_BATCHES))
    return [(batch, _drawn(choice, seed, batch)) for batch in batches]


def _drawn(choice: Choice, seed: int, batch: int | None) -> Draw:
    return drawing.draw(
        choice.plans,
        seed=seed,
        index=_FIRST_DRAW + (batch or 0),
        rule="typical",
        batch=drawing.DEFAULT_BATCHES[0] if batch is None else batch,
        sizes=choice.sizes,
    )


def _fixed_batch(plans: Sequence[InputPlan]) -> int | None:
    """The size of axis 0 where all inputs have the same."""
    sizes = {each.shape[0] if each.shape else None for each in plans}
    size = sizes.pop() if len(sizes) == 1 else None
    return size if isinstance(size, int) else None


def _of_the_user(draws: Sequence[Draw], settings: SpeedSettings) -> list[tuple[int | None, Draw]]:
    """One set of every size that the user has given."""
    found: dict[tuple[tuple[int, ...], ...], tuple[int | None, Draw]] = {}
    for draw in draws:
        shapes = tuple(array.shape for array in draw.arrays.values())
        sizes = {shape[0] for shape in shapes if shape}
        batch = sizes.pop() if len(sizes) == 1 else None
        if settings.batches is None or batch in settings.batches:
            found.setdefault(shapes, (batch, draw))
    if not found:
        asked = ", ".join(map(str, settings.batches or ()))
        raise InputError(
            f"none of the given inputs has a batch of {asked}",
            hint="leave --speed-batch out, or give such inputs",
        )
    return sorted(found.values(), key=lambda each: each[1].size)[:_MOST_SHAPES]
