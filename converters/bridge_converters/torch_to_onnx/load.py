"""Running a PyTorch source for verification, with the inputs and outputs of its hub model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.utils import _pytree as pytree

from bridge.formats.request import ReadRequest
from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx.axes import Bounds
from bridge_converters.torch_to_onnx.double import cast_program
from bridge_converters.torch_to_onnx.source import load


@dataclass(frozen=True)
class Runnable:
    """A source in evaluation mode: flat tensors in, flat tensors out, both in the hub's order and names.

    `module` is the object that runs: the user's own module where the format holds one, the exported
    program's module otherwise. Its parameters have the source's names. `axes` are the names or sizes of
    torch's size symbols, `bounds` the ends of the ranges of the inputs' dynamic axes, by input and axis.
    """

    program: ExportedProgram
    module: Callable[..., Any]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    axes: Mapping[str, str | int] = field(default_factory=dict)
    bounds: Mapping[int, Mapping[int, Bounds]] = field(default_factory=dict)

    def shape(self, value: torch.Tensor) -> list[str | int]:
        """The shape of a fake tensor of the program, with the names of dynamic axes."""
        return [
            size if isinstance(size, int) else self.axes.get(str(size), str(size)) for size in value.shape
        ]

    def __call__(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Run without gradients."""
        with torch.no_grad():
            return self.run(*tensors)

    def run(self, *tensors: torch.Tensor) -> list[torch.Tensor]:
        """Run, with gradients where they are on. Raises ValueError for a wrong number of inputs."""
        args, kwargs = self.arguments(tensors)
        results = pytree.tree_leaves(self.module(*args, **kwargs))
        return [
            result
            for result, leaf in zip(results, names.output_leaves(self.program), strict=True)
            if not isinstance(leaf, ConstantArgument)
        ]

    def double(self) -> Runnable:
        """The same in float64; floating-point inputs are converted."""
        return self.cast(torch.float64)

    def cast(self, dtype: torch.dtype) -> Runnable:
        """The same in another precision (see `double.cast_program`); floating-point inputs are converted."""
        return replace(self, module=cast_program(self.program, dtype))

    def leaves(self, tensors: Sequence[torch.Tensor]) -> list[Any]:
        """The program's arguments, flat: the tensors given and the constants that it was exported with.

        Raises ValueError for a wrong number of tensors.
        """
        if len(tensors) != len(self.input_names):
            raise ValueError(f"{len(tensors)} inputs were given for {', '.join(self.input_names)}")
        rest = iter(tensors)
        return [
            leaf.value if isinstance(leaf, ConstantArgument) else next(rest)
            for leaf in names.input_leaves(self.program)
        ]

    def arguments(self, tensors: Sequence[torch.Tensor]) -> tuple[Any, Any]:
        """Positional and keyword arguments of the program with these tensors."""
        args, kwargs = pytree.tree_unflatten(self.leaves(tensors), self.program.call_spec.in_spec)
        return args, kwargs


def load_runnable(request: ReadRequest, *, as_is: bool = False) -> Runnable:
    """Load any PyTorch format to run it. Raises what `reader.read` raises while loading.

    A program that was exported in training mode runs in evaluation mode, unless it is to run `as_is`. The
    fast path of `nn.TransformerEncoder`, which gives zeros where its input is padding, is off in this
    process from then on.
    """
    torch.backends.mha.set_fastpath_enabled(False)
    loaded = load(request, as_is=as_is)
    return Runnable(
        loaded.program,
        loaded.module,
        names.input_names(loaded.program),
        names.output_names(loaded.program),
        loaded.axes,
        loaded.bounds,
    )
