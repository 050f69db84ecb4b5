"""Whether the target's weights are the source's, moved by the recipes of weights.json, bit for bit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.carriers import carry
from bridge.hub.recipe import Recipe
from bridge.hub.weights import WeightMap

Array = np.ndarray[Any, np.dtype[Any]]

_PIECE = 2**22


@dataclass(frozen=True)
class WeightDifference:
    """One target tensor that is not what its recipe makes of the source's tensors."""

    target: str
    reason: str


@dataclass(frozen=True)
class WeightsResult:
    """What was compared.

    `elements` counts the equal ones, `constants` the target tensors that no trained tensor enters,
    `unmapped` are target tensors without a record, `unused` source tensors that no recipe reads.
    """

    compared: int
    elements: int
    constants: int
    differences: tuple[WeightDifference, ...]
    unmapped: tuple[str, ...]
    unused: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.differences and not self.unmapped


def is_of(weight_map: WeightMap, source: Collection[str]) -> bool:
    """Whether a map reads any tensor of a source, by one of its names; true of a map without recipes."""
    wanted = {
        name
        for each in weight_map.tensors
        if each.recipe is not None
        for name in recipes.sources(each.recipe)
    }
    aliases = {alias for name in wanted for alias in weight_map.aliases.get(name, ())}
    return not wanted or not (wanted | aliases).isdisjoint(source)


def compare_weights(
    weight_map: WeightMap, source: Mapping[str, Array], target: Mapping[str, Array]
) -> WeightsResult:
    """Run every recipe on the source's tensors and hold the result against the target's.

    A tied tensor of the source may be there under any of its names.
    """
    known = dict(source)
    for name, aliases in weight_map.aliases.items():
        held = next((each for each in (name, *aliases) if each in source), None)
        if held is not None:
            known.setdefault(name, source[held])
    differences = []
    elements = compared = 0
    used: set[str] = set()
    for each in weight_map.tensors:
        if each.recipe is None:
            continue
        compared += 1
        used.update(recipes.sources(each.recipe))
        reason = _difference(each.target, each.recipe, known, target)
        if reason is not None:
            differences.append(WeightDifference(each.target, reason))
        else:
            elements += target[each.target].size
    mapped = {each.target for each in weight_map.tensors}
    tied = {alias for name in used for alias in weight_map.aliases.get(name, ())}
    return WeightsResult(
        compared=compared,
        elements=elements,
        constants=len(weight_map.tensors) - compared,
        differences=tuple(differences),
        unmapped=tuple(sorted(set(target) - mapped)),
        unused=tuple(sorted(set(source) - used - tied)),
    )


def _difference(
    name: str, recipe: Recipe, source: Mapping[str, Array], target: Mapping[str, Array]
) -> str | None:
    if name not in target:
        return "the target has no such tensor"
    missing = _missing(recipes.sources(recipe), source)
    if missing:
        return f"the source has no tensor {missing[0]!r}"
    expected = carry(recipes.run(recipe, source))
    found = target[name]
    if expected.dtype != found.dtype:
        return f"the dtype is {found.dtype}, not {expected.dtype}"
    if expected.shape != found.shape:
        return f"the shape is {found.shape}, not {expected.shape}"
    wrong = count_different_bits(expected, found)
    return f"{wrong} of {found.size} elements differ" if wrong else None


def _missing(names: Iterable[str], tensors: Mapping[str, Array]) -> list[str]:
    return [name for name in names if name not in tensors]


def count_different_bits(first: Array, second: Array) -> int:
    """How many elements of two arrays of one shape and dtype have different bits (NaN payloads included)."""
    ours, theirs = _raw(first), _raw(second)
    return sum(
        int(np.count_nonzero(np.any(ours[at : at + _PIECE] != theirs[at : at + _PIECE], axis=1)))
        for at in range(0, len(ours), _PIECE)
    )


def _raw(array: Array) -> Array:
    """The bytes of an array, a row for each element."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).reshape(flat.size, flat.dtype.itemsize)
