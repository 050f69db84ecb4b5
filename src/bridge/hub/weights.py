"""The weight map: for every tensor of the target, which source tensors it came from and how.

weights.json, version 1. `docs/weights-map.md` is the schema in prose; a change of meaning is a new version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from bridge.errors import InputError
from bridge.hub import recipe as recipes
from bridge.hub.metadata import WeightKind
from bridge.hub.recipe import Array, Recipe
from bridge.hub.versioned import read_record, write_record

FORMAT = "bridge.weights"
VERSION = 1

RecipeKind = Literal["bijective", "lossy"]


@dataclass(frozen=True)
class TensorMap:
    """One tensor of the target.

    `recipe` is None for a constant that no trained tensor of the source enters. `recipe_kind` is `lossy`
    where the recipe computes (it cannot be inverted), or where both frameworks hold the same values but
    train them differently; `note` says which.
    """

    target: str
    shape: tuple[int, ...]
    dtype: str
    kind: WeightKind
    trainable: bool
    recipe: Recipe | None
    recipe_kind: RecipeKind = "bijective"
    note: str | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "kind": self.kind,
            "trainable": self.trainable,
            "recipe": None if self.recipe is None else recipes.to_json(self.recipe),
            "recipe_kind": self.recipe_kind,
            "note": self.note,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> TensorMap:
        return cls(
            target=record["target"],
            shape=tuple(record["shape"]),
            dtype=record["dtype"],
            kind=record["kind"],
            trainable=record["trainable"],
            recipe=None if record["recipe"] is None else recipes.from_json(record["recipe"]),
            recipe_kind=record["recipe_kind"],
            note=record["note"],
        )


@dataclass(frozen=True)
class WeightMap:
    """All tensors of a converted model.

    `aliases` are the further names of tied source tensors, by the name that recipes use; `unused` are
    the source tensors that no output depends on.
    """

    source_framework: str
    target_framework: str
    tensors: tuple[TensorMap, ...]
    aliases: Mapping[str, tuple[str, ...]]
    unused: tuple[str, ...] = ()

    def apply(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The target's tensors from a source checkpoint; constants of the graph are left out.

        Raises InputError listing every source tensor that is missing.
        """
        wanted = {
            name for each in self.tensors if each.recipe is not None for name in recipes.sources(each.recipe)
        }
        missing = sorted(wanted - set(tensors))
        if missing:
            raise InputError(
                f"{len(missing)} tensor(s) of the map are not in the checkpoint: {', '.join(missing[:10])}",
                hint="give the checkpoint of the model that was converted, or convert again",
            )
        return {
            each.target: np.asarray(recipes.run(each.recipe, tensors), order="C")
            for each in self.tensors
            if each.recipe is not None
        }

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "source_framework": self.source_framework,
            "target_framework": self.target_framework,
            "tensors": [each.to_json() for each in self.tensors],
            "aliases": {name: list(aliases) for name, aliases in sorted(self.aliases.items())},
            "unused": list(self.unused),
        }

    def save(self, path: Path) -> None:
        write_record(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> WeightMap:
        """Read a weights.json. Raises InputError if it is none, or of a version this bridge does not know."""
        record = read_record(path, format=FORMAT, version=VERSION, what="a weight map")
        return cls(
            source_framework=record["source_framework"],
            target_framework=record["target_framework"],
            tensors=tuple(TensorMap.from_json(each) for each in record["tensors"]),
            aliases={name: tuple(aliases) for name, aliases in record["aliases"].items()},
            unused=tuple(record["unused"]),
        )
