"""Name the node that a wrong weight belongs to, where the weight alone tells that something is wrong."""

from __future__ import annotations

import re
from pathlib import Path

from bridge.hub import recipe as recipes
from bridge.hub.anchors import Anchors
from bridge.hub.weights import WeightMap
from bridge.verification.localise.result import Localisation, Place
from bridge.verification.weighing import Weights

_WEIGHT = "weight"


def wrong_weight(weights: Weights, converted: Path | None) -> Localisation | None:
    """The node of the first weight that differs; None where no weight does.

    `converted` is the target's directory if bridge wrote it: its anchors say which node takes the weight.
    """
    if weights.result is not None and weights.result.differences and converted is not None:
        first = weights.result.differences[0]
        return _anchored(first.target, first.reason, WeightMap.load(converted / "weights.json"), converted)
    if weights.match is not None:
        for suspect in weights.match.suspects:
            if suspect.decides:
                return _named(suspect.target, suspect.source, suspect.reason)
    return None


def _anchored(target: str, reason: str, weight_map: WeightMap, converted: Path) -> Localisation:
    recipe = next((each.recipe for each in weight_map.tensors if each.target == target), None)
    sources = [] if recipe is None else sorted(recipes.sources(recipe))
    found = _named(target, sources[0] if sources else None, reason)
    scope = found.source.scope if found.source is not None else None
    if not (converted / "anchors.json").is_file():
        return found
    anchors = Anchors.load(converted / "anchors.json")
    taking = [each for each in anchors.anchors if scope and _parts(each.scope) == _parts(scope)]
    if not taking:
        return found
    first = taking[0]
    node = Place(first.hub, first.operator, first.module, f"{anchors.file}:{first.line}")
    counterpart = Place(first.source or first.hub, first.operator, first.scope, first.location)
    return Localisation(counterpart, node, None, "weights", notes=found.notes)


def _named(target: str, source: str | None, reason: str) -> Localisation:
    return Localisation(
        None if source is None else Place(source, _WEIGHT, _owner(source)),
        Place(target, _WEIGHT, _owner(target)),
        None,
        "weights",
        notes=(f"the weight {target}: {reason}",),
    )


def _owner(path: str) -> str:
    """The module that a weight belongs to, by its path."""
    head = re.split(r"[./](?=[^./]*$)", path)[0]
    return "" if head == path else head


def _parts(path: str) -> list[str]:
    return [part for part in re.split("[./]", path) if part]
