"""Every operator of the standard becomes PyTorch, is rewritten, or is refused with a reason."""

from __future__ import annotations

from bridge_converters._refusals import TORCH
from bridge_converters.onnx_to_torch._table import TABLE
from operator_cases import completeness


def test_every_operator_is_expressed_or_refused() -> None:
    assert completeness.missing(TABLE, TORCH) == []


def test_refusals_are_of_operators_that_exist_and_have_no_lowering() -> None:
    assert completeness.idle_refusals(TABLE, TORCH) == []


def test_lowerings_are_of_operators_that_exist() -> None:
    assert completeness.unknown_lowerings(TABLE) == []
