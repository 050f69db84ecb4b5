"""Which weights train alike on both sides, and which follow another path under the same rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.recipe import Recipe
from bridge.hub.weights import WeightMap

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class WeightPairs:
    """Which tensors are the same on both sides, and which are to be left as they are.

    `recipes` are those that only move elements, by the target's tensor. `fixed` are the source's
    names of everything else that enters a target's tensor, `fixed_target` the target's.
    """

    recipes: Mapping[str, Recipe]
    fixed: frozenset[str]
    fixed_target: frozenset[str]
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def source_names(self, name: str) -> tuple[str, ...]:
        return (name, *self.aliases.get(name, ()))

    def fixed_names(self) -> tuple[list[str], list[str]]:
        """The weights that are not trained, by each side's names."""
        return (
            sorted(each for path in self.fixed for each in self.source_names(path)),
            sorted(self.fixed_target),
        )

    def expected(self, target: str, state: Mapping[str, Array]) -> Array | None:
        """The target's tensor that the source's state makes; None where the source does not tell."""
        held = {}
        for name in recipes.sources(self.recipes[target]):
            known = next((each for each in self.source_names(name) if each in state), None)
            if known is None:
                return None
            held[name] = state[known]
        return recipes.run(self.recipes[target], held)


def pair_tensors(weight_map: WeightMap) -> WeightPairs:
    """Split a map into tensors that train alike and those that do not.

    What the target computes from the source's tensors (a folded BatchNormalization, a sum of two biases)
    follows another path under the same rule; so does a tensor of which one side has a copy more. Where one
    recipe is of that kind, every tensor that its tensors go into or come from is.
    """
    apart = {
        each.target for each in weight_map.tensors if each.recipe and not recipes.only_moves(each.recipe)
    }
    readers: dict[str, list[str]] = {}
    plain = {each.target: each.recipe for each in weight_map.tensors if each.recipe is not None}
    for target, recipe in plain.items():
        for name in set(recipes.sources(recipe)):
            readers.setdefault(name, []).append(target)
    for targets in readers.values():
        whole = [each for each in targets if not _takes_parts(plain[each])]
        if whole and len(targets) > 1:
            apart.update(targets)
    fixed: set[str] = set()
    waiting = list(apart)
    while waiting:
        for name in set(recipes.sources(plain[waiting.pop()])) - fixed:
            fixed.add(name)
            more = set(readers[name]) - apart
            apart |= more
            waiting += more
    return WeightPairs(
        {target: recipe for target, recipe in plain.items() if target not in apart},
        frozenset(fixed),
        frozenset(apart),
        dict(weight_map.aliases),
    )


def _takes_parts(recipe: Recipe) -> bool:
    match recipe:
        case recipes.Step(op, inputs, _):
            return op in ("slice", "take") or any(_takes_parts(each) for each in inputs)
    return False
