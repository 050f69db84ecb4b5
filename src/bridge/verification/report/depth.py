"""How far the values inside both versions are apart, from the inputs to the outputs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DepthPoint:
    """A value inside the target that has a counterpart in the source.

    `position` counts the target's values in the order of their computation, from 0. `name`, `operator`,
    `module` and `location` (a line of code) are the target's, `source` is the counterpart's name.
    `function` is the relative distance of both computed in float64; `source_error` and `target_error` are
    those of each side in its own precision from itself in float64. A distance that was not measured is None.
    """

    position: int
    name: str
    operator: str
    module: str | None
    location: str | None
    source: str | None
    function: float | None
    source_error: float | None = None
    target_error: float | None = None


@dataclass(frozen=True)
class Depth:
    """The values of one set of inputs, `inputs` by name; `values` counts all of the target's.

    Those without a counterpart in the source are not among the `points`. `first_wrong` is the position of
    the value that the localisation names.
    """

    inputs: str
    values: int
    points: tuple[DepthPoint, ...]
    first_wrong: int | None = None
    notes: tuple[str, ...] = ()
