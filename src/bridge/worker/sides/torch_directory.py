"""The side of a directory that `bridge convert --to torch` wrote: `load()` of its `model.py`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from bridge.emit.imported import load_emitted
from bridge.errors import InputError
from bridge.hub.anchors import Anchor, Anchors
from bridge.worker.sides import torch_gradients
from bridge.worker.sides.carried import Boundary
from bridge.worker.sides.torch_arrays import dtype_asked, flatten, tensors_in, to_array, to_tensor
from bridge.worker.sides.torch_gradients import Cotangents
from bridge.worker.sides.torch_placement import Placement

if TYPE_CHECKING:
    from bridge.worker.sides.torch_emitted import Emitted
    from bridge.worker.sides.torch_module import TorchModuleSide

Array = np.ndarray[Any, np.dtype[Any]]


def load(request: Mapping[str, Any]) -> TorchDirectorySide:
    """Import `model.py` from the directory `path` and load its weights.

    A `dtype` in the request ("float16", "bfloat16") is the precision that `run` computes in.
    """
    return TorchDirectorySide(Path(request["path"]), dtype_asked(request.get("dtype")))


class TorchDirectorySide:
    """See docs/worker-protocol.md for what a loaded model answers.

    Other precisions than the model's own run the code of model.py with the dtypes in it replaced.
    """

    def __init__(self, directory: Path, dtype: torch.dtype | None = None) -> None:
        self._directory = directory
        self._placement = Placement()
        self._model: nn.Module = load_emitted(directory).eval()
        self._running = self._placement.module(self._model)
        self._boundary = Boundary(directory)
        self._narrow = None if dtype is None else _emitted(directory, dtype)
        if self._narrow is not None:
            self._narrow.model = self._placement.module(self._narrow.model)
        self._double: Emitted | None = None
        self._trained: Emitted | None = None
        self._anchored: dict[bool, Emitted] = {}
        self._module_side: TorchModuleSide | None = None
        parameters = inspect.signature(self._model.forward).parameters.values()
        self._names = [each.name for each in parameters if each.default is inspect.Parameter.empty]
        self.inputs = [
            {"name": name, "dtype": self._boundary.dtype(name, None), "shape": None, "limit": None}
            for name in self._names
        ]
        self.outputs = None
        in_dtype = "" if dtype is None else f" in {str(dtype).removeprefix('torch.')}"
        self.what = self._placement.words(f"model.py{in_dtype} under PyTorch {torch.__version__}")
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        return {name: to_array(tensor) for name, tensor in self._model.state_dict().items()}

    def buffers(self) -> list[str]:
        """The weights that are no parameters."""
        return list(dict(self._model.named_buffers(remove_duplicate=False)))

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        with torch.inference_mode():
            with self._placement.computing():
                outputs = (self._narrow or self._running)(*self._placed(feeds))
            return self._boundary.declared(flatten(outputs))

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of what `run` runs, on the tensors that it makes of the inputs."""
        from bridge.worker.sides.torch_timing import time_torch

        forward = self._running if self._narrow is None else self._narrow.__call__
        return time_torch(forward, self._placed(feeds), {}, training=training, compiled=compiled)

    def _placed(self, feeds: Mapping[str, Array]) -> list[torch.Tensor]:
        return [self._placement.tensor(each) for each in self._tensors(feeds)]

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._double is None:
            self._double = _emitted(self._directory, torch.float64)
        with torch.inference_mode():
            return self._boundary.declared(flatten(self._double(*self._tensors(feeds))))

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        if self._module_side is None:
            from bridge.worker.sides.torch_module import TorchModuleSide

            self._module_side = TorchModuleSide(self._model)
        carried = self._boundary.carried(feeds)
        return self._boundary.declared(self._module_side.run_noisy(carried, unit, seed))

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None, *, own: bool = False
    ) -> list[tuple[Any, ...]]:
        """The anchored values, under their names in the hub graph and with its order of axes.

        Raises NotImplementedError where the directory has no anchors.
        """
        if own not in self._anchored:
            try:
                anchors = Anchors.load(self._directory / "anchors.json")
            except InputError as error:
                raise NotImplementedError(f"its values have no names: {error.message}") from error
            self._anchored[own] = _emitted(self._directory, None if own else torch.float64, anchors)
        model = self._anchored[own]
        if cotangents is None:
            with torch.no_grad():
                _, values = model.recorded(*self._tensors(feeds))
            return [(_record(anchor), _in_hub_order(anchor, to_array(value))) for anchor, value in values]
        with torch.enable_grad():
            leaves = torch_gradients.differentiable(self._boundary.carried(feeds))
            given = [torch_gradients.usable(leaves[name]) for name in self._names]
            with torch_gradients.Attached():
                outputs, values = model.recorded(*given)
            _, gradients = torch_gradients.pull_back(
                list(tensors_in(outputs)), cotangents, [value for _, value in values]
            )
        return [
            (
                _record(anchor),
                _in_hub_order(anchor, to_array(value)),
                None if gradient is None else _in_hub_order(anchor, gradient),
            )
            for (anchor, value), gradient in zip(values, gradients, strict=True)
        ]

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        emitted = self._in_training()
        weights = dict(emitted.model.named_parameters(remove_duplicate=False))
        with _without_dropout(emitted.model) if training else _unchanged():
            emitted.model.train(training)
            try:
                return torch_gradients.vjp(
                    lambda leaves: list(tensors_in(emitted(*(leaves[name] for name in self._names)))),
                    self._boundary.carried({name: feeds[name] for name in self._names}),
                    weights,
                    cotangents,
                )
            finally:
                emitted.model.eval()

    def state(self) -> dict[str, Array]:
        return {path: to_array(each).copy() for path, each in self._in_training().model.state_dict().items()}

    def assign(self, tensors: Mapping[str, Array]) -> None:
        torch_gradients.assign(self._in_training().model.state_dict(), tensors)

    def _in_training(self) -> Emitted:
        """A float64 form of its own, which training may change."""
        if self._trained is None:
            self._trained = _emitted(self._directory, torch.float64)
        return self._trained

    def _tensors(self, feeds: Mapping[str, Array]) -> list[torch.Tensor]:
        carried = self._boundary.carried(feeds)
        return [to_tensor(carried[name]) for name in self._names]


def _emitted(directory: Path, dtype: torch.dtype | None, anchors: Anchors | None = None) -> Emitted:
    # Imported where it is needed: most verifications only run the model as it is.
    from bridge.worker.sides.torch_emitted import Emitted

    return Emitted(directory, dtype, anchors)


@contextmanager
def _unchanged() -> Iterator[None]:
    yield


@contextmanager
def _without_dropout(model: nn.Module) -> Iterator[None]:
    """Let every kind of dropout drop nothing; the probabilities are as before afterwards."""
    changed: list[tuple[nn.Module, str, float]] = []
    for each in model.modules():
        if isinstance(each, nn.modules.dropout._DropoutNd):
            changed.append((each, "p", each.p))
        elif isinstance(each, nn.RNNBase | nn.MultiheadAttention):
            changed.append((each, "dropout", each.dropout))
    for each, attribute, _ in changed:
        setattr(each, attribute, 0.0)
    try:
        yield
    finally:
        for each, attribute, probability in changed:
            setattr(each, attribute, probability)


def _record(anchor: Anchor) -> dict[str, Any]:
    return {
        "name": anchor.hub,
        "operator": anchor.operator,
        "scope": anchor.scope,
        "location": f"model.py:{anchor.line}",
        "inputs": list(anchor.inputs),
        "source": anchor.source,
    }


def _in_hub_order(anchor: Anchor, stored: Array) -> Array:
    """Stored axis i is hub axis `permutation[i]`."""
    return stored if anchor.permutation is None else stored.transpose(np.argsort(anchor.permutation))
