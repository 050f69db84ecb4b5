"""Running a PyTorch source for verification, with the inputs and outputs of its hub model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument, InputKind
from torch.utils import _pytree as pytree

from bridge.formats.request import ReadRequest
from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx import program as program_rewrites
from bridge_converters.torch_to_onnx.double import fp64_program
from bridge_converters.torch_to_onnx.source import load
from bridge_converters.torch_to_onnx.translate import translate
from bridge_converters.torch_to_onnx.weights import tensor_of


@dataclass(frozen=True)
class Runnable:
    """A source in evaluation mode: flat tensors in, flat tensors out, both in the hub's order and names.

    `module` is the object that runs: the user's own module where the format holds one, the exported
    program's module otherwise. Its parameters have the source's names.
    """

    program: ExportedProgram
    module: Callable[..., Any]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Run without gradients."""
        with torch.no_grad():
            return self.run(*tensors)

    def run(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Run, with gradients where they are on. Raises ValueError for a wrong number of inputs."""
        args, kwargs = self._arguments(tensors)
        results = pytree.tree_leaves(self.module(*args, **kwargs))
        return [
            result
            for result, leaf in zip(results, names.output_leaves(self.program), strict=True)
            if not isinstance(leaf, ConstantArgument)
        ]

    def double(self) -> Runnable:
        """The same in float64; floating-point inputs are converted."""
        return Runnable(self.program, fp64_program(self.program), self.input_names, self.output_names)

    def intermediates(self, *tensors: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every tensor that the program computes, by the name that the hub's `source_value` gives."""
        program = program_rewrites.copy_graph(self.program)
        program_rewrites.spell_global_pooling(program)
        program_rewrites.mark_dropouts(program)
        program_rewrites.drop_constant_outputs(program)
        decomposed = translate(program).program
        recorder = _Recorder(decomposed.graph_module)
        weights = [_weight(decomposed, spec) for spec in decomposed.graph_signature.input_specs]
        leaves = iter(self._leaves(tensors))
        with torch.no_grad():
            recorder.run(*(next(leaves) if weight is None else weight for weight in weights))
        return recorder.values

    def _arguments(self, tensors: tuple[torch.Tensor, ...]) -> tuple[Any, Any]:
        args, kwargs = pytree.tree_unflatten(self._leaves(tensors), self.program.call_spec.in_spec)
        return args, kwargs

    def _leaves(self, tensors: tuple[torch.Tensor, ...]) -> list[Any]:
        if len(tensors) != len(self.input_names):
            raise ValueError(f"{len(tensors)} inputs were given for {', '.join(self.input_names)}")
        rest = iter(tensors)
        return [
            leaf.value if isinstance(leaf, ConstantArgument) else next(rest)
            for leaf in names.input_leaves(self.program)
        ]


def load_runnable(request: ReadRequest) -> Runnable:
    """Load any PyTorch format to run it. Raises what `reader.read` raises while loading."""
    loaded = load(request)
    return Runnable(
        loaded.program,
        loaded.module,
        names.input_names(loaded.program),
        names.output_names(loaded.program),
    )


class _Recorder(fx.Interpreter):
    """Interprets a graph and keeps every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module, garbage_collect_values=False)
        self.values: dict[str, torch.Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, torch.Tensor):
            self.values[n.name] = result
        return result


def _weight(program: ExportedProgram, spec: Any) -> torch.Tensor | None:
    """The tensor of a parameter, buffer or constant input of a program's graph; None for an input."""
    return None if spec.kind is InputKind.USER_INPUT else tensor_of(program, spec.target)
