"""The gradients of the PyTorch lowerings in float64, by PyTorch's own check, over the shared cases."""

from __future__ import annotations

from collections import defaultdict

import pytest
import torch
from bridge_converters.onnx_to_torch._table import TABLE
from operator_cases.calls import Call, call
from operator_cases.case import Case
from operator_cases.gradients import (
    IN_FLOAT32,
    NOT_DIFFERENTIABLE,
    gradient_cases,
    reason_against,
    smooth,
    step,
)

CASES = gradient_cases()


def bind(case: Case) -> Call:
    lowering = TABLE.find(case.op, case.domain, version=case.version)
    assert lowering is not None
    return call(lowering, case, lambda array: torch.from_numpy(array.copy()))


class Function:
    """The outputs of a case's lowering as a function of its floating-point tensors, in one precision."""

    def __init__(self, case: Case) -> None:
        self._call = bind(case)
        self.dtype = torch.float32 if case.op in IN_FLOAT32 else torch.float64
        self.tensors = self._call.tensors()
        positions = [index for index, tensor in enumerate(self._call.is_tensor) if tensor]
        self.free = [
            index
            for index, (position, tensor) in enumerate(zip(positions, self.tensors, strict=True))
            if tensor.dtype == self.dtype and tensor.numel() and reason_against(case, position) is None
        ]
        self.positions = [positions[index] for index in self.free]

    def __call__(self, *free: torch.Tensor) -> tuple[torch.Tensor, ...]:
        tensors = list(self.tensors)
        for index, tensor in zip(self.free, free, strict=True):
            tensors[index] = tensor
        return tuple(each for each in self._call.run(tensors) if each.dtype == self.dtype and each.numel())

    def inputs(self) -> list[torch.Tensor]:
        return [self.tensors[index].clone().requires_grad_() for index in self.free]


def function_of(case: Case) -> Function | None:
    """The case's function at inputs where its outputs are finite; None if there are none."""
    for each in smooth(case):
        function = Function(each)
        outputs = function(*function.inputs()) if function.free else ()
        if outputs and all(bool(output.isfinite().all()) for output in outputs):
            return function
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_gradcheck(case: Case) -> None:
    function = function_of(case)
    if function is None:
        pytest.skip("no finite outputs of this precision")
    assert torch.autograd.gradcheck(
        function,
        function.inputs(),
        eps=step(case),
        atol=1e-5 if function.dtype == torch.float64 else 1e-3,
        fast_mode=True,
        check_undefined_grad=False,
    )


def test_every_floating_point_input_has_a_gradient_or_a_reason() -> None:
    reached: defaultdict[tuple[str, int], bool] = defaultdict(bool)
    for case in CASES:
        function = function_of(case)
        if function is None:
            continue
        inputs = function.inputs()
        outputs = [each for each in function(*inputs) if each.requires_grad]
        total = sum(
            (each * torch.linspace(1.0, 2.0, each.numel()).reshape(each.shape)).sum() for each in outputs
        )
        gradients = torch.autograd.grad(total, inputs, allow_unused=True) if outputs else [None] * len(inputs)
        for position, gradient in zip(function.positions, gradients, strict=True):
            reached[case.op, position] |= gradient is not None and bool((gradient != 0).any())
    assert [key for key, found in reached.items() if not found] == []


def test_the_reasons_are_about_operators_that_there_are() -> None:
    known = {each.op_type for each in TABLE}
    assert [key for key in NOT_DIFFERENTIABLE if key[0] not in known] == []
