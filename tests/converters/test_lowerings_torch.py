"""The PyTorch lowerings against the shared table of operator cases."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
import torch
from bridge_converters.onnx_to_torch._table import TABLE
from operator_cases import CASES, Case
from operator_cases.calls import assert_same, call, signature_faults
from operator_cases.case import OPSET, Array
from operator_cases.control import MODELS

LOWERINGS = {f"{each.domain}:{each.op_type}-{each.since}": each for each in TABLE if each.domain != "bridge"}


def to_torch(array: Array) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def to_numpy(tensor: torch.Tensor) -> Array:
    if tensor.dtype == torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_gives_what_the_standard_says(case: Case) -> None:
    lowering = TABLE.find(case.op, case.domain, version=case.version)
    assert lowering is not None
    arguments = call(lowering, case, to_torch)
    results = arguments.run()
    assert_same([to_numpy(each) for each in results], case.answer(), case.tolerance)


class _Node(torch.nn.Module):
    def __init__(self, arguments: Any) -> None:
        super().__init__()
        self._arguments = arguments

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self._arguments.run(tensors))


NOT_EXPORTABLE = {
    "MaxRoiPool": "the largest region decides how many elements are looked at",
    "NonMaxSuppression": "as many steps as boxes are chosen",
    "Range": "a length that depends on values",
}


@pytest.mark.parametrize("op", sorted({each.op for each in CASES}))
def test_torch_export_traces_it(op: str) -> None:
    if op in NOT_EXPORTABLE:
        pytest.xfail(NOT_EXPORTABLE[op])
    case = next(each for each in CASES if each.op == op and not each.computed)
    lowering = TABLE.find(op, case.domain, version=case.version)
    assert lowering is not None
    arguments = call(lowering, case, to_torch)
    program = torch.export.export(_Node(arguments), tuple(arguments.tensors()))
    assert_same(
        [to_numpy(each) for each in program.module()(*arguments.tensors())], case.answer(), case.tolerance
    )


@pytest.mark.parametrize("name", sorted(LOWERINGS))
def test_signature_is_the_schema(name: str) -> None:
    assert signature_faults(TABLE, LOWERINGS[name]) == []


def test_every_lowering_has_a_case() -> None:
    tried = {TABLE.find(each.op, each.domain, version=each.version) for each in CASES}
    tried |= {TABLE.find(op, version=OPSET) for each in MODELS for op in each.operators}
    assert [name for name, each in LOWERINGS.items() if each not in tried] == []
