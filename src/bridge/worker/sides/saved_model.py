"""The side of a SavedModel that `bridge convert --to tf` wrote: its reloaded serving signature."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from bridge.errors import InputError

Array = np.ndarray[Any, np.dtype[Any]]

_SIGNATURE = "serving_default"


def load(request: Mapping[str, Any]) -> SavedModelSide:
    """Load the SavedModel of the directory `path`. Raises InputError where it has no serving signature."""
    return SavedModelSide(request["path"])


class SavedModelSide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, path: str) -> None:
        self._loaded = tf.saved_model.load(path)
        if _SIGNATURE not in self._loaded.signatures:
            raise InputError(
                f"the SavedModel has no signature {_SIGNATURE!r}",
                hint="convert the model again",
                where=path,
            )
        self._signature = self._loaded.signatures[_SIGNATURE]
        specs = self._signature.structured_input_signature[1]
        self.inputs = [
            {
                "name": name,
                "dtype": spec.dtype.name,
                "shape": None if spec.shape.rank is None else spec.shape.as_list(),
            }
            for name, spec in specs.items()
        ]
        self.outputs = list(self._signature.structured_outputs)
        self.what = f"reloaded SavedModel under TensorFlow {tf.__version__}"
        self.notes: list[str] = []

    def weights(self) -> None:
        """The variables of a reloaded SavedModel have no paths; model.safetensors beside it has."""

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        results = self._signature(**{name: tf.constant(array) for name, array in feeds.items()})
        return [results[name].numpy() for name in self.outputs]

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        raise NotImplementedError("a SavedModel that bridge wrote has no float64 form")
