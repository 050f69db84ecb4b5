"""A program in double precision: the reference that both versions of a model are measured against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

_WIDER: Mapping[torch.dtype, torch.dtype] = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}
_DTYPE_CHECK = torch.ops.aten._assert_tensor_metadata.default


class DoubleModule(nn.Module):
    """A program's module that computes in float64: floating-point inputs are converted, outputs are float64.

    Parameters and buffers have the program's names, so gradients and optimizer steps work as on the
    original.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run on arguments of the program's structure."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, _widen, (args, kwargs))
        with _default_dtype(torch.float64):
            return self.module(*args, **kwargs)


def fp64_program(program: ExportedProgram) -> DoubleModule:
    """The same computation in float64: weights, constants and every dtype written in the graph.

    `nn.Module.double()` alone breaks where a forward creates float32 tensors itself; in an exported
    program each such dtype is an argument of a node. The program is left as it is.
    """
    module = program.module(check_guards=False)
    assert isinstance(module, fx.GraphModule)
    copies: dict[object, torch.Tensor] = {}
    for each in module.modules():
        _widen_tensors(each, copies)
        if isinstance(each, fx.GraphModule):
            _widen_dtypes(each)
    return DoubleModule(module)


def _widen_tensors(module: nn.Module, copies: dict[object, torch.Tensor]) -> None:
    """Replace a module's own parameters, buffers and other tensors by copies; tied tensors stay tied."""

    def copy(tensor: torch.Tensor) -> torch.Tensor:
        key = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
        if key not in copies:
            wide = _widen(tensor.detach()).clone()
            copies[key] = (
                nn.Parameter(wide, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else wide
            )
        return copies[key]

    owned: list[dict[str, Any]] = [module._parameters, module._buffers, vars(module)]
    for tensors in owned:
        for name, tensor in list(tensors.items()):
            if isinstance(tensor, torch.Tensor):
                tensors[name] = copy(tensor)


def _widen_dtypes(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.target is _DTYPE_CHECK:
            module.graph.erase_node(node)
            continue
        node.args = map_aggregate(node.args, _widen_dtype)
        node.kwargs = map_aggregate(node.kwargs, _widen_dtype)
    module.recompile()


def _widen_dtype(value: Any) -> Any:
    return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value


def _widen(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to(_WIDER.get(tensor.dtype, tensor.dtype))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
