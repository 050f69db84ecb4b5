"""Whether an emitted PyTorch model works on an accelerator, found out without one.

PyTorch's fake tensors have a device, shapes and dtypes, and no data. An operation that mixes devices, as
one on positions made on the CPU would, raises with them as it does with real ones. The device is one of
PyTorch's for backends written in Python, since a build for the CPU knows no CUDA at all.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

from bridge.emit.imported import load_emitted
from scripts.onnx_suite import engines
from scripts.onnx_suite.modes import Converted, Departure

_NAME = "stand_in"


class OnAccelerator:
    """Every output is where weights and inputs are."""

    def __init__(self) -> None:
        _setup_privateuseone_for_python_backend(_NAME)

    def __call__(self, converted: Converted) -> str:
        module = load_emitted(converted.directory)
        assert isinstance(module, nn.Module)
        mode = FakeTensorMode()
        with mode:
            _move(module, mode)
        inputs, _ = next(iter(converted.case.data_sets()))
        arguments = [_fake(each, mode) for each in engines.torch_arguments(inputs)]
        try:
            with mode, torch.no_grad():
                outputs = module(*arguments)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            return f"up to what depends on data: {error}"
        except NotImplementedError as error:
            if _NAME not in str(error) and "PrivateUse1" not in str(error):
                raise
            return "up to what the stand-in for an accelerator lacks"
        for index, each in enumerate(_tensors(outputs)):
            if each.device.type != _NAME:
                raise Departure(f"tensor {index} of the outputs is on {each.device}")
        return ""


def _move(module: nn.Module, mode: FakeTensorMode) -> None:
    """Put fakes in the place of parameters and buffers."""
    for each in module.modules():
        for name, parameter in list(each.named_parameters(recurse=False)):
            each.register_parameter(name, nn.Parameter(_fake(parameter, mode), parameter.requires_grad))
        for name, buffer in list(each.named_buffers(recurse=False)):
            each.register_buffer(name, _fake(buffer, mode), name not in each._non_persistent_buffers_set)


def _fake(value: Any, mode: FakeTensorMode) -> Any:
    """A tensor on the accelerator without data, also in lists; nothing else is changed."""
    if isinstance(value, Tensor):
        empty = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        return FakeTensor(mode, empty, torch.device(_NAME, 0))
    if isinstance(value, list | tuple):
        return [_fake(each, mode) for each in value]
    return value


def _tensors(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, list | tuple):
        return [tensor for each in outputs for tensor in _tensors(each)]
    return []
