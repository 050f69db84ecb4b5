"""A program in another precision; in float64 it is the reference that others are held against."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from bridge_converters.torch_to_onnx.batch_statistics import BatchStatistics

_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DTYPE_CHECK = torch.ops.aten._assert_tensor_metadata.default

Substitutes = Mapping[torch.dtype, torch.dtype]
"""Which dtype stands for which, weights, constants, inputs and dtypes in the graph alike."""


class CastModule(nn.Module):
    """A program's module that computes in another precision: floating-point inputs are converted.

    Parameters and buffers have the program's names below `module`, so gradients and optimizer steps work
    as on the original. `train()` switches batch normalization to the statistics of the batch, and has it
    update its running ones; dropout stays as it is in the program, inactive.
    """

    def __init__(self, module: fx.GraphModule, substitutes: Substitutes, default: torch.dtype) -> None:
        super().__init__()
        self.module = module
        self._substitutes = substitutes
        self._default = default
        self._statistics: BatchStatistics | None = None
        self.training = False

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run on arguments of the program's structure."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, self._convert, (args, kwargs))
        with default_dtype(self._default):
            return self.module(*args, **kwargs)

    def train(self, mode: bool = True) -> CastModule:
        """Raises NotImplementedError where the program does not say how running statistics are updated."""
        if mode != self.training:
            self._statistics = self._statistics or BatchStatistics(self.module)
            self._statistics.use(batch=mode)
            self.training = mode
        return self

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parameters and buffers by the program's paths, tied ones under every path."""
        return {
            **dict(self.module.named_buffers(remove_duplicate=False)),
            **dict(self.module.named_parameters(remove_duplicate=False)),
        }

    def _convert(self, tensor: torch.Tensor) -> torch.Tensor:
        return convert(tensor, self._substitutes)


def fp64_program(program: ExportedProgram) -> CastModule:
    """The same computation in float64: weights, constants and every dtype written in the graph.

    `nn.Module.double()` alone breaks where a forward creates float32 tensors itself; in an exported
    program each such dtype is an argument of a node. The program is left as it is.
    """
    return cast_program(program, torch.float64)


def cast_program(program: ExportedProgram, dtype: torch.dtype) -> CastModule:
    """The same computation in `dtype` throughout; complex numbers stay as they are unless it is float64.

    Numbers in the graph that `dtype` cannot hold become its largest ones, as code that asks for the dtype's
    limits would have them: masks are filled with the lowest number of float32.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    substitutes = substitutes_by(dtype)
    _copy_inner_graphs(module)
    cast_graphs(module, substitutes, {})
    if dtype is not torch.float64:
        _limit_numbers(module, torch.finfo(dtype).max)
    return CastModule(module, substitutes, dtype)


def _copy_inner_graphs(module: fx.GraphModule) -> None:
    """Give a program's module graphs of its own for branches and regions, which all its modules share."""
    for name, child in list(module.named_children()):
        if isinstance(child, fx.GraphModule):
            own = fx.GraphModule(child, copy.deepcopy(child.graph))
            _copy_inner_graphs(own)
            setattr(module, name, own)


def substitutes_by(dtype: torch.dtype) -> Substitutes:
    """What `dtype` stands for: every floating-point type, and complex64 becomes complex128 for float64."""
    found = {each: dtype for each in _FLOATS if each is not dtype}
    if dtype is torch.float64:
        found[torch.complex64] = torch.complex128
    return found


def cast_graphs(module: fx.GraphModule, substitutes: Substitutes, copies: dict[object, torch.Tensor]) -> None:
    """Convert the tensors that a graph's modules own and the dtypes that their nodes name, in place.

    Tensors are replaced by copies, tied ones by the same copy; `copies` are those made so far.
    """
    for each in module.modules():
        _cast_tensors(each, substitutes, copies)
        if isinstance(each, fx.GraphModule):
            _cast_dtypes(each, substitutes)


def convert(tensor: torch.Tensor, substitutes: Substitutes) -> torch.Tensor:
    """A tensor in the dtype that stands for its own."""
    return tensor.to(substitutes.get(tensor.dtype, tensor.dtype))


def _cast_tensors(module: nn.Module, substitutes: Substitutes, copies: dict[object, torch.Tensor]) -> None:
    def copy(tensor: torch.Tensor) -> torch.Tensor:
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
        if key not in copies:
            cast = convert(tensor.detach(), substitutes).clone()
            copies[key] = (
                nn.Parameter(cast, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else cast
            )
        return copies[key]

    owned: list[dict[str, Any]] = [module._parameters, module._buffers, vars(module)]
    for tensors in owned:
        for name, tensor in list(tensors.items()):
            if isinstance(tensor, torch.Tensor):
                tensors[name] = copy(tensor)


def _cast_dtypes(module: fx.GraphModule, substitutes: Substitutes) -> None:
    def cast(value: Any) -> Any:
        return substitutes.get(value, value) if isinstance(value, torch.dtype) else value

    for node in list(module.graph.nodes):
        if node.target is _DTYPE_CHECK:
            module.graph.erase_node(node)
            continue
        node.args = map_aggregate(node.args, cast)
        node.kwargs = map_aggregate(node.kwargs, cast)
    module.recompile()


def _limit_numbers(module: fx.GraphModule, largest: float) -> None:
    def limit(value: Any) -> Any:
        beyond = isinstance(value, float) and math.isfinite(value) and abs(value) > largest
        return math.copysign(largest, value) if beyond else value

    for each in module.modules():
        if isinstance(each, fx.GraphModule):
            for node in each.graph.nodes:
                node.args = map_aggregate(node.args, limit)
                node.kwargs = map_aggregate(node.kwargs, limit)
            each.recompile()


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Let floating-point tensors that are made without a dtype have this one."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
