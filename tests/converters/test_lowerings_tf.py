"""The TensorFlow lowerings against the shared table of operator cases, eagerly and in a graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.onnx_to_tf._table import TABLE
from operator_cases import TF_CASES as CASES
from operator_cases import Case
from operator_cases.calls import assert_same, call, signature_faults
from operator_cases.case import OPSET, Array
from operator_cases.channels import channels_last, to_channels_first
from operator_cases.control import MODELS

from bridge.hub.carriers import uncarry

LOWERINGS = {f"{each.domain}:{each.op_type}-{each.since}": each for each in TABLE if each.domain != "bridge"}


def bind(case: Case) -> tuple[Any, bool]:
    """The call of a case's lowering, with its data as the lowering's layout stores it."""
    lowering = TABLE.find(case.op, case.domain, version=case.version)
    assert lowering is not None
    spatial = lowering.layout == "channels_last"
    case = channels_last(case) if spatial else case
    return call(lowering, case, tf.convert_to_tensor), spatial


def to_numpy(results: list[Any], spatial: bool) -> list[Array]:
    arrays = [np.asarray(each.numpy()) for each in results]
    arrays = [uncarry(each, "object") if each.dtype == object else each for each in arrays]
    return [to_channels_first(each) for each in arrays] if spatial else arrays


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_gives_what_the_standard_says(case: Case) -> None:
    arguments, spatial = bind(case)
    expected = case.answer()
    assert_same(to_numpy(arguments.run(), spatial), expected, case.tolerance)
    specs = [
        tf.TensorSpec([None, *each.shape[1:]] if i == 0 and each.ndim > 1 else each.shape, each.dtype)
        for i, each in enumerate(arguments.tensors())
    ]
    function = tf.function(lambda *tensors: arguments.run(tensors), input_signature=specs, autograph=False)
    assert_same(to_numpy(function(*arguments.tensors()), spatial), expected, case.tolerance)


@pytest.mark.parametrize("name", sorted(LOWERINGS))
def test_signature_is_the_schema(name: str) -> None:
    assert signature_faults(TABLE, LOWERINGS[name]) == []


def test_every_lowering_has_a_case() -> None:
    tried = {TABLE.find(each.op, each.domain, version=each.version) for each in CASES}
    tried |= {TABLE.find(op, version=OPSET) for each in MODELS for op in each.operators}
    assert [name for name, each in LOWERINGS.items() if each not in tried] == []
