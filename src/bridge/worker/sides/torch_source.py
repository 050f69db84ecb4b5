"""The side of a PyTorch file of any format: the object it holds, run by PyTorch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from bridge_converters.torch_to_onnx.double import CastModule, substitutes_by
from bridge_converters.torch_to_onnx.interpret import Computed, Interpreted
from bridge_converters.torch_to_onnx.limits import id_limits
from bridge_converters.torch_to_onnx.load import Runnable, load_runnable
from bridge_converters.torch_to_onnx.shapes import input_values
from bridge_converters.torch_to_onnx.weights import identity
from torch import fx, nn

from bridge.formats.request import ReadRequest
from bridge.worker.sides import torch_gradients
from bridge.worker.sides.torch_arrays import dtype_asked, to_array, to_tensor
from bridge.worker.sides.torch_gradients import Cotangents
from bridge.worker.sides.torch_placement import Placement

Array = np.ndarray[Any, np.dtype[Any]]


def load(request: Mapping[str, Any]) -> TorchSide:
    """Load the model of a ReadRequest (as JSON). Raises what the PyTorch reader raises while loading.

    A `dtype` in the request ("float16", "bfloat16") is the precision that `run` computes in. With `as_is`, a
    program that was exported in training mode stays in it: what is judged is what the file does.
    """
    rest = dict(request)
    dtype = dtype_asked(rest.pop("dtype", None))
    as_is = bool(rest.pop("as_is", False))
    return TorchSide(load_runnable(ReadRequest.from_json(rest), as_is=as_is), dtype)


class TorchSide:
    """See docs/worker-protocol.md for what a loaded model answers.

    Everything but `run` computes on the exported program in float64.
    """

    def __init__(self, runnable: Runnable, dtype: torch.dtype | None = None) -> None:
        self._runnable = runnable
        self._dtype = dtype
        self._placement = Placement()
        self._placed: Runnable | None = None
        self._double: Runnable | None = None
        self._trained: Runnable | None = None
        self._noisy: dict[tuple[tuple[int, ...], ...], Interpreted] = {}
        self._traced: dict[bool, Interpreted] = {}
        limits = id_limits(runnable.program)
        self.inputs = [
            {
                "name": name,
                "dtype": str(value.dtype).removeprefix("torch."),
                "shape": runnable.shape(value),
                "limit": limits.get(position),
                "bounds": [[axis, *ends] for axis, ends in runnable.bounds.get(position, {}).items()],
            }
            for position, (name, value) in enumerate(
                zip(runnable.input_names, input_values(runnable.program), strict=True)
            )
        ]
        self.outputs = list(runnable.output_names)
        ran = "exported program" if isinstance(runnable.module, fx.GraphModule) else "module"
        self.what = f"{ran} under PyTorch {torch.__version__}"
        if dtype is not None:
            self.what = f"exported program in {_name(dtype)} under PyTorch {torch.__version__}"
        self.what = self._placement.words(self.what)
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        """Parameters and buffers, tied ones under every name, and a program's constants."""
        return {path: to_array(each) for path, each in self._tensors().items()}

    def buffers(self) -> list[str]:
        """The weights that are no parameters."""
        parameters = set(self._runnable.program.graph_signature.parameters)
        if isinstance(self._runnable.module, nn.Module):
            parameters.update(dict(self._runnable.module.named_parameters(remove_duplicate=False)))
        return [path for path in self._tensors() if path not in parameters]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        runnable = self._as_run()
        tensors = [self._placement.tensor(to_tensor(feeds[name])) for name in runnable.input_names]
        with self._placement.computing():
            return _arrays(runnable(*tensors))

    def _as_run(self) -> Runnable:
        """The object on the device and in the precision that `run` computes in."""
        if self._placed is None:
            self._placed = self._placement.runnable(self._runnable, self._dtype)
        return self._placed

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of what `run` runs, on the tensors that it makes of the inputs."""
        from bridge.worker.sides.torch_timing import time_torch

        runnable = self._as_run()
        tensors = [self._placement.tensor(to_tensor(feeds[name])) for name in runnable.input_names]
        args, kwargs = runnable.arguments(tensors)
        return time_torch(runnable.module, args, kwargs, training=training, compiled=compiled)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self._run(self._in_double(), feeds)

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        with torch.no_grad():
            return [to_array(each) for each in self._noised(feeds).rounded(self._leaves(feeds), unit, seed)]

    def _noised(self, feeds: Mapping[str, Array]) -> Interpreted:
        """The program in operators that round once; a recurrent one for the sizes at hand."""
        from bridge_converters.torch_to_onnx.decompose import (
            at_sizes,
            has_recurrences,
            into_single_roundings,
        )

        program = self._runnable.program
        sized = has_recurrences(program)
        shapes = tuple(feeds[name].shape for name in self._runnable.input_names) if sized else ()
        if shapes not in self._noisy:
            if sized:
                tensors = [to_tensor(feeds[name]) for name in self._runnable.input_names]
                program = at_sizes(program, *self._runnable.arguments(tensors))
            self._noisy[shapes] = self._interpreted(into_single_roundings(program))
        return self._noisy[shapes]

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None, *, own: bool = False
    ) -> list[tuple[Any, ...]]:
        """Every tensor that the program computes, by the name that the hub's `source_value` gives."""
        interpreted = self._trace(own)
        if cotangents is None:
            with torch.no_grad():
                _, computed = interpreted.recorded(self._leaves(feeds))
            return [(_record(each), to_array(each.value)) for each in computed]
        with torch.enable_grad():
            leaves = torch_gradients.differentiable(feeds)
            outputs, computed = interpreted.recorded(
                self._runnable.leaves([leaves[name] for name in self._runnable.input_names])
            )
            _, gradients = torch_gradients.pull_back(outputs, cotangents, [each.value for each in computed])
        return [
            (_record(each), to_array(each.value), gradient)
            for each, gradient in zip(computed, gradients, strict=True)
        ]

    def extract(
        self, feeds: Mapping[str, Array], wanted: str, given: Collection[str]
    ) -> tuple[list[str], dict[str, Array]]:
        with torch.no_grad():
            lines, tensors = self._trace(own=True).extract(self._leaves(feeds), wanted, given)
        return lines, {name: to_array(each) for name, each in tensors.items()}

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        runnable = self._in_training()
        module = _cast_module(runnable)
        module.train(training)
        try:
            return torch_gradients.vjp(
                lambda leaves: runnable.run(*(leaves[name] for name in runnable.input_names)),
                {name: feeds[name] for name in runnable.input_names},
                self._state(),
                cotangents,
            )
        finally:
            module.train(False)

    def state(self) -> dict[str, Array]:
        return {path: to_array(each).copy() for path, each in self._state().items()}

    def assign(self, tensors: Mapping[str, Array]) -> None:
        torch_gradients.assign(self._state(), tensors)

    def _tensors(self) -> dict[str, torch.Tensor]:
        program = self._runnable.program
        tensors: dict[str, Any] = {**program.constants, **program.state_dict}
        if isinstance(self._runnable.module, nn.Module):
            tensors.update(self._runnable.module.named_buffers(remove_duplicate=False))
            tensors.update(self._runnable.module.named_parameters(remove_duplicate=False))
        return {path: each for path, each in tensors.items() if isinstance(each, torch.Tensor)}

    def _in_double(self) -> Runnable:
        if self._double is None:
            self._double = self._runnable.double()
        return self._double

    def _in_training(self) -> Runnable:
        """A float64 form of its own, which training may change."""
        if self._trained is None:
            self._trained = self._runnable.double()
        return self._trained

    def _state(self) -> dict[str, torch.Tensor]:
        """The tensors of the trained form, also under paths that only the source's module has for them."""
        own = _cast_module(self._in_training()).tensors()
        originals = self._tensors()
        by_memory = {identity(each): path for path, each in originals.items() if path in own}
        state = {}
        for path, tensor in originals.items():
            twin = path if path in own else by_memory.get(identity(tensor))
            if twin is not None:
                state[path] = own[twin]
        return state

    def _interpreted(self, program: Any) -> Interpreted:
        return Interpreted(
            program,
            self._runnable.input_names,
            _cast_module(self._in_double()).tensors(),
            substitutes_by(torch.float64),
            torch.float64,
        )

    def _trace(self, own: bool) -> Interpreted:
        if own not in self._traced:
            from bridge_converters.torch_to_onnx.decompose import as_the_hub_names_it

            program = as_the_hub_names_it(self._runnable.program)
            self._traced[own] = self._as_written(program) if own else self._interpreted(program)
        return self._traced[own]

    def _as_written(self, program: Any) -> Interpreted:
        """A program in the precision that it was exported with."""
        return Interpreted(program, self._runnable.input_names, {}, {}, torch.get_default_dtype())

    def _leaves(self, feeds: Mapping[str, Array]) -> Sequence[Any]:
        return self._runnable.leaves([to_tensor(feeds[name]) for name in self._runnable.input_names])

    def _run(self, runnable: Runnable, feeds: Mapping[str, Array]) -> list[Array]:
        return _arrays(runnable(*(to_tensor(feeds[name]) for name in runnable.input_names)))


def _arrays(results: Sequence[Any]) -> list[Array]:
    return [to_array(each if isinstance(each, torch.Tensor) else torch.tensor(each)) for each in results]


def _cast_module(runnable: Runnable) -> CastModule:
    assert isinstance(runnable.module, CastModule)
    return runnable.module


def _record(computed: Computed) -> dict[str, Any]:
    return {
        "name": computed.name,
        "operator": computed.operator,
        "scope": computed.scope,
        "location": computed.location,
        "inputs": list(computed.inputs),
    }


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
