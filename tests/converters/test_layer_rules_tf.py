"""The Keras layer rules: what they answer, and that the layers compute what the nodes do."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from bridge_converters.onnx_to_tf._table import TABLE
from operator_cases.calls import assert_same
from operator_cases.layers import LAYER_CASES, LayerCase, call_inputs, layer_of, tensors_of, view_of, written


def is_spatial(each: LayerCase) -> bool:
    lowering = TABLE.find(each.case.op, version=each.case.version)
    assert lowering is not None
    return lowering.layout == "channels_last"


@pytest.mark.parametrize("each", LAYER_CASES, ids=lambda each: each.name)
def test_answers_and_computes(each: LayerCase) -> None:
    spatial = is_spatial(each)
    view = view_of(each, "channels_last" if spatial else "channels_first")
    layer = layer_of(TABLE, view)
    assert (layer and written(layer)) == each.tf
    if layer is None:
        return
    module = eval(written(layer), {"keras": keras})
    assert isinstance(module, keras.layers.Layer)
    values = tensors_of(each, view, layer)
    if values:
        assert layer.build_shape is not None
        module.build(layer.build_shape)
    variables = {each.path.split("/")[-1]: each for each in module.weights}
    assert set(variables) == set(values)
    for slot, value in values.items():
        assert getattr(module, slot) is variables[slot]
        variables[slot].assign(value)
    inputs = call_inputs(each, layer)
    if spatial:
        inputs = [np.moveaxis(x, 1, -1) if x.ndim > 2 else x for x in inputs]
    result = np.asarray(module(*inputs))
    if spatial and result.ndim > 2:
        result = np.moveaxis(result, -1, 1)
    assert_same([result], each.case.answer())


def test_batch_norm_off_the_last_axis() -> None:
    each = next(
        each
        for each in LAYER_CASES
        if each.case.op == "BatchNormalization" and np.ndim(each.case.inputs[0]) == 4
    )
    layer = layer_of(TABLE, view_of(each, "channels_first"))
    assert layer is not None
    assert layer.kwargs["axis"] == 1
    assert layer.build_shape == (None, 3, 5, 4)


def test_batch_norm_says_how_training_differs() -> None:
    each = next(each for each in LAYER_CASES if each.case.op == "BatchNormalization")
    layer = layer_of(TABLE, view_of(each, "channels_last"))
    assert layer is not None
    assert {slot for slot, tensor in layer.tensors.items() if tensor.note} == {"moving_variance"}
