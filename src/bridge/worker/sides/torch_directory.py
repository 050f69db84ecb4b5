"""The side of a directory that `bridge convert --to torch` wrote: `load()` of its `model.py`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bridge.emit.imported import load_emitted
from bridge.worker.sides.torch_arrays import flatten, to_array, to_tensor

Array = np.ndarray[Any, np.dtype[Any]]


def load(request: Mapping[str, Any]) -> TorchDirectorySide:
    """Import `model.py` from the directory `path` and load its weights."""
    return TorchDirectorySide(Path(request["path"]))


class TorchDirectorySide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, directory: Path) -> None:
        self._model: torch.nn.Module = load_emitted(directory).eval()
        parameters = inspect.signature(self._model.forward).parameters.values()
        self._names = [each.name for each in parameters if each.default is inspect.Parameter.empty]
        self.inputs = [{"name": name, "dtype": None, "shape": None} for name in self._names]
        self.outputs = None
        self.what = f"model.py under PyTorch {torch.__version__}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        return {name: to_array(tensor) for name, tensor in self._model.state_dict().items()}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        with torch.inference_mode():
            return flatten(self._model(*(to_tensor(feeds[name]) for name in self._names)))

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        raise NotImplementedError("model.py has no float64 form; model.pt2 has: name that as the source")
