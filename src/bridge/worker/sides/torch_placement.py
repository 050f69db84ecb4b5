"""Where a PyTorch side runs its model: copies on the worker's device, inputs moved there, autocast around."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch
from bridge_converters.torch_to_onnx.double import cast_program
from bridge_converters.torch_to_onnx.load import Runnable
from torch import fx, nn
from torch.export.passes import move_to_device_pass

from bridge.worker import device

Module = TypeVar("Module", bound=nn.Module)


class Placement:
    """The worker's device, as its environment names it.

    Everything but `run` and what is timed stays on the CPU, so what is placed is a copy.
    Raises EnvironmentFailure where PyTorch does not have the device.
    """

    def __init__(self) -> None:
        self.device: torch.device = device.torch_device(torch)

    @property
    def elsewhere(self) -> bool:
        """Whether the device is another one than the CPU."""
        return self.device.type != "cpu"

    def module(self, module: Module) -> Module:
        """The module itself on the CPU, a copy of it elsewhere."""
        return copy.deepcopy(module).to(self.device) if self.elsewhere else module

    def runnable(self, runnable: Runnable, dtype: torch.dtype | None = None) -> Runnable:
        """What runs a source on the device, perhaps in another precision."""
        if not self.elsewhere:
            return runnable if dtype is None else runnable.cast(dtype)
        module = runnable.module
        if dtype is None and isinstance(module, nn.Module) and not isinstance(module, fx.GraphModule):
            return replace(runnable, module=self.module(module))
        # A program also says on which device it makes tensors of its own.
        program = move_to_device_pass(copy.deepcopy(runnable.program), str(self.device))
        return replace(runnable, module=program.module() if dtype is None else cast_program(program, dtype))

    def tensor(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self.device) if self.elsewhere else tensor

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run inside it: with autocast, if that was asked for."""
        with device.torch_precision(torch):
            yield

    def words(self, what: str) -> str:
        """What a side says it runs, with the device and the precision on it."""
        return what + device.words()
