"""What one verification is asked to check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.user_inputs import UserInputs


@dataclass(frozen=True)
class Checks:
    """Which inputs to run, and what to compare beside outputs and weights.

    `inputs` are the user's arrays, files of them, a generator `pkg.mod:name`, or specifications where a
    model does not say what it takes. Unless there are arrays alone, or if `draw`, inputs are drawn from the
    `seed`, in the sizes `batches` where axis 0 is dynamic and `shapes` (as of `--shapes`) where other
    axes are. `map_inputs` and `map_outputs` say which belong together (the grammar of
    `bridge.verification.mapping.parse_map`). `dtype` is the type of floating-point inputs where the
    models were loaded to compute in another than their own, `precision` the narrowest type that a version
    may compute products in where that is not the type of its outputs (`tf32`, `bfloat16`, `float16`).
    `gradients` compares those of inputs and parameters, `training` that many steps of it. Where the
    versions differ, `localise` looks for the first wrong node, and `repro` is a directory to write a
    minimal reproduction to. `depth` compares the values inside both versions wherever they have
    counterparts, also where nothing differs. `speed` says how to measure speed and memory, if they are to
    be.
    """

    inputs: UserInputs | None = None
    draw: bool | None = None
    seed: int = 0
    batches: Sequence[int] | None = None
    shapes: Sequence[str] = ()
    map_inputs: str = ""
    map_outputs: str = ""
    dtype: str | None = None
    precision: str | None = None
    gradients: bool = False
    training: int = 0
    localise: bool = True
    repro: Path | None = None
    depth: bool = False
    speed: SpeedSettings | None = None
