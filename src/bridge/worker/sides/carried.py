"""Narrow element types at the boundary of a model that bridge wrote, which takes and gives their carriers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bridge.emit.docstrings import declared_types
from bridge.hub.carriers import carrier, carry, uncarry

Array = np.ndarray[Any, np.dtype[Any]]


class Boundary:
    """The element types that the model.py of a directory declares for what it takes and gives."""

    def __init__(self, directory: Path) -> None:
        declared = declared_types((directory / "model.py").read_text(encoding="utf-8"))
        self.inputs: Mapping[str, str] = declared["Inputs"]
        self.outputs: Mapping[str, str] = declared["Outputs"]

    def carried(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """What the model takes for arrays of the declared types."""
        return {name: carry(array) for name, array in feeds.items()}

    def declared(self, outputs: Sequence[Array]) -> list[Array]:
        """Results in the declared types, as far as they are narrow ones."""
        if len(outputs) != len(self.outputs):
            return list(outputs)
        return [
            uncarry(array, dtype) if carrier(dtype) != dtype and array.dtype.name == carrier(dtype) else array
            for array, dtype in zip(outputs, self.outputs.values(), strict=True)
        ]

    def dtype(self, name: str, taken: str | None) -> str | None:
        """The declared type of an input that the model takes as `taken`."""
        declared = self.inputs.get(name)
        return declared if declared is not None and carrier(declared) != declared else taken
