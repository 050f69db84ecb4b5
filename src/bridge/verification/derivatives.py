"""Whether a side's gradient is the derivative of its own outputs.

A framework's gradient of an operator may be wrong, or stopped on purpose. Where the gradients of two
versions differ, a central difference of each version's own outputs in float64 tells which one is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from bridge.verification.answers import Refusal, answer
from bridge.worker.side import Gradients, Side
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]

DIRECTIONS = 2
"""In how many random directions an input is moved."""
STEP = 2.0**-10
"""How far, as a part of an element's size."""
RIGHT, WRONG = 0.01, 0.05
"""How far a derivative along a direction may be from the central difference, and where it is another."""
_STOPS = frozenset({"detach", "stopgradient"})


@dataclass(frozen=True)
class Slope:
    """The central difference along a direction and what the gradient says it is."""

    difference: float
    gradient: float

    @property
    def finding(self) -> Literal["right", "wrong", "unclear"]:
        error = abs(self.difference - self.gradient)
        scale = max(abs(self.difference), abs(self.gradient))
        if not np.isfinite(error):
            return "unclear"
        return "right" if error <= RIGHT * scale else "wrong" if error > WRONG * scale else "unclear"


def moved(array: Array, seed: int) -> list[tuple[Array, Array]]:
    """Pairs of arrays on both sides of one, each apart along a random direction, in its own precision."""
    rng = np.random.default_rng(seed)
    size = np.maximum(np.abs(array), np.sqrt(np.mean(np.square(array, dtype=np.float64))) or 1.0)
    pairs = []
    for _ in range(DIRECTIONS):
        change = STEP * size * rng.choice([-1.0, 1.0], array.shape)
        pairs.append(((array + change).astype(array.dtype), (array - change).astype(array.dtype)))
    return pairs


def slope(
    outputs: tuple[Sequence[Array], Sequence[Array]],
    inputs: tuple[Array, Array],
    gradient: Array,
    cotangents: Mapping[int, Array],
) -> Slope:
    """What outputs at two inputs, weighted with cotangents by position, say of a gradient between them."""
    after, before = outputs
    difference = sum(
        float(np.sum(weight * (after[position] - before[position])))
        for position, weight in cotangents.items()
    )
    apart = inputs[0].astype(np.float64) - inputs[1].astype(np.float64)
    return Slope(difference, float(np.sum(gradient * apart)))


def gradients_at(
    side: Side, feeds: Mapping[str, Array], cotangents: Mapping[int, Array], name: str
) -> Gradients | None:
    """Gradients, and the outputs of the very computation that is differentiated; None where it has none."""
    inputs, drawn = (side.scratch / f"{name}.{each}.safetensors" for each in ("in", "cotangents"))
    write_tensors(str(inputs), feeds)
    write_tensors(str(drawn), {str(position): array for position, array in cotangents.items()})
    found = answer(side.gradients, side.submit_gradients(inputs, drawn, name), name)
    return found if isinstance(found, Gradients) else None


def stops_gradients(side: Side, feeds: Mapping[str, Array], name: str) -> bool:
    """Whether a side shows an operation that keeps gradients from flowing on purpose."""
    inputs, values = (side.scratch / f"{name}.{each}.safetensors" for each in ("in", "values"))
    write_tensors(str(inputs), feeds)

    def records(number: int, _: str) -> Any:
        return side.result(number)["records"]

    found = answer(records, side.submit("intermediates", inputs=str(inputs), values=str(values)), name)
    if isinstance(found, Refusal):
        return False
    operators = (str(each.get("operator", "")).lower().replace("_", "") for each in found)
    return any(not _STOPS.isdisjoint(operator.split(".")) for operator in operators)
