"""The side of a module that is no file: one that a Python factory built."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx.capture import capture
from bridge_converters.torch_to_onnx.double import default_dtype
from bridge_converters.torch_to_onnx.inputs import Examples, forward_parameters
from bridge_converters.torch_to_onnx.load import Runnable
from bridge_converters.torch_to_onnx.shapes import dynamic_batch
from torch import nn

from bridge.errors import BridgeError, InputError
from bridge.worker.sides.torch_arrays import flatten, to_array, to_tensor
from bridge.worker.sides.torch_gradients import Cotangents
from bridge.worker.sides.torch_placement import Placement
from bridge.worker.sides.torch_source import TorchSide

Array = np.ndarray[Any, np.dtype[Any]]
_Sizes = tuple[tuple[str, str, tuple[int, ...]], ...]


class TorchModuleSide:
    """See docs/worker-protocol.md for what a loaded model answers.

    The module itself is run, in evaluation mode. Everything else computes on programs that torch.export makes
    of it with the inputs of the request, once for all inputs that differ in their batch only.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None) -> None:
        """`dtype` is the precision of `run`, as in `TorchSide`. Raises InputError for `forward(*args)`."""
        self._module = module.eval()
        self._placement = Placement()
        self._running = self._placement.module(self._module)
        self._dtype = dtype
        parameters = forward_parameters(module.forward)
        if any(each.kind is inspect.Parameter.VAR_POSITIONAL for each in parameters):
            raise InputError(
                f"{type(module).__name__}.forward takes any number of inputs",
                hint="give a factory of a module whose forward names its inputs",
            )
        self._parameters = [
            each.name for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        self._keyword_only = {each.name for each in parameters if each.kind is inspect.Parameter.KEYWORD_ONLY}
        self.inputs = [
            {"name": each.name, "dtype": None, "shape": None, "limit": None}
            for each in parameters
            if each.name in self._parameters and each.default is inspect.Parameter.empty
        ]
        self.outputs = None
        self.what = self._placement.words(f"module {type(module).__name__} under PyTorch {torch.__version__}")
        self.notes: list[str] = []
        self._exported: dict[_Sizes, TorchSide | str] = {}
        self._trained: TorchSide | None = None
        self._double: nn.Module | None = None

    def weights(self) -> dict[str, Array]:
        """Parameters and buffers, tied ones under every name."""
        tensors = {
            **dict(self._module.named_buffers(remove_duplicate=False)),
            **dict(self._module.named_parameters(remove_duplicate=False)),
        }
        return {path: to_array(each) for path, each in tensors.items()}

    def buffers(self) -> list[str]:
        """The weights that are no parameters."""
        return list(dict(self._module.named_buffers(remove_duplicate=False)))

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._dtype is not None:
            return self._program(feeds).run(feeds)
        tensors = {name: self._placement.tensor(to_tensor(array)) for name, array in feeds.items()}
        with self._placement.computing():
            return self._run(self._running, tensors)

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of what `run` runs, on the tensors that it makes of the inputs."""
        from bridge.worker.sides.torch_timing import time_torch

        if self._dtype is not None:
            return self._program(feeds).timing(feeds, training, compiled)
        args, kwargs = self._arguments(
            {name: self._placement.tensor(to_tensor(array)) for name, array in feeds.items()}
        )
        return time_torch(self._running, args, kwargs, training=training, compiled=compiled)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        """On the exported program; by a copy of the module in float64 where torch.export cannot take it."""
        program = self._side(feeds)
        if isinstance(program, TorchSide):
            return program.run_fp64(feeds)
        if self._double is None:
            self._double = copy.deepcopy(self._module).double()
        tensors = {name: to_tensor(array) for name, array in feeds.items()}
        wide = {name: each.double() if each.is_floating_point() else each for name, each in tensors.items()}
        with default_dtype(torch.float64):
            outputs = self._run(self._double, wide)
        if any(each.dtype.kind == "f" and each.dtype != np.float64 for each in outputs):
            raise NotImplementedError(f"its code computes in float32, and it has no program: {program}")
        return outputs

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        return self._program(feeds).run_noisy(feeds, unit, seed)

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None, *, own: bool = False
    ) -> list[tuple[Any, ...]]:
        return self._program(feeds).intermediates(feeds, cotangents, own=own)

    def extract(
        self, feeds: Mapping[str, Array], wanted: str, given: Collection[str]
    ) -> tuple[list[str], dict[str, Array]]:
        return self._program(feeds).extract(feeds, wanted, given)

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        side = self._program(feeds)
        if self._trained is not None and side is not self._trained:
            side.assign(self._trained.state())
        self._trained = side
        return side.vjp(feeds, cotangents, training)

    def state(self) -> dict[str, Array]:
        return self._trainable().state()

    def assign(self, tensors: Mapping[str, Array]) -> None:
        self._trainable().assign(tensors)

    def _trainable(self) -> TorchSide:
        if self._trained is None:
            made = [each for each in self._exported.values() if isinstance(each, TorchSide)]
            if not made:
                raise NotImplementedError("its float64 form is made with the first inputs that it runs on")
            self._trained = made[0]
        return self._trained

    def _program(self, feeds: Mapping[str, Array]) -> TorchSide:
        side = self._side(feeds)
        if isinstance(side, str):
            raise NotImplementedError(f"torch.export cannot take the module: {side}")
        return side

    def _side(self, feeds: Mapping[str, Array]) -> TorchSide | str:
        """The program for inputs of these sizes, or why there is none."""
        sizes = _sizes(feeds, from_axis=1)
        exact = _sizes(feeds, from_axis=0)
        found = self._exported.get(sizes, self._exported.get(exact))
        if found is None:
            args, kwargs = self._arguments({name: self._own(array) for name, array in feeds.items()})
            try:
                program = capture(self._module, Examples(args, kwargs)).program
            except BridgeError as error:
                found = self._exported[exact] = error.message
            else:
                runnable = Runnable(
                    program, self._module, names.input_names(program), names.output_names(program)
                )
                found = TorchSide(runnable, self._dtype)
                self._exported[sizes if dynamic_batch(program) else exact] = found
        return found

    def _own(self, array: Array) -> torch.Tensor:
        """An input to export the module with: it is of the module's own precision, whatever `run` is in."""
        tensor = to_tensor(array)
        return tensor.float() if tensor.dtype == self._dtype else tensor

    def _run(self, module: nn.Module, tensors: Mapping[str, torch.Tensor]) -> list[Array]:
        args, kwargs = self._arguments(tensors)
        with torch.no_grad():
            return flatten(module(*args, **kwargs))

    def _arguments(self, tensors: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional arguments up to the first that is not given, the rest by name."""
        rest = dict(tensors)
        args = []
        for name in self._parameters:
            if name not in rest or name in self._keyword_only:
                break
            args.append(rest.pop(name))
        return tuple(args), rest


def _sizes(feeds: Mapping[str, Array], *, from_axis: int) -> _Sizes:
    return tuple((name, array.dtype.name, array.shape[from_axis:]) for name, array in feeds.items())
