"""The PyTorch layer rules: what they answer, and that the layers compute what the nodes do."""

from __future__ import annotations

import pytest
import torch
from bridge_converters.onnx_to_torch._table import TABLE
from operator_cases.calls import assert_same
from operator_cases.layers import LAYER_CASES, LayerCase, call_inputs, layer_of, tensors_of, view_of, written
from torch import nn


@pytest.mark.parametrize("each", LAYER_CASES, ids=lambda each: each.name)
def test_answers_and_computes(each: LayerCase) -> None:
    view = view_of(each, "channels_first")
    layer = layer_of(TABLE, view)
    assert (layer and written(layer)) == each.torch
    if layer is None:
        return
    module = eval(written(layer), {"nn": nn})
    state = {slot: torch.from_numpy(value.copy()) for slot, value in tensors_of(each, view, layer).items()}
    own = {name for name in module.state_dict() if name != "num_batches_tracked"}
    assert set(state) == own
    module.load_state_dict(state, strict=False)
    module.eval()
    with torch.no_grad():
        result = module(*map(torch.from_numpy, call_inputs(each, layer)))
    assert_same([result.numpy()], each.case.answer())


def test_batch_norm_says_how_training_differs() -> None:
    each = next(each for each in LAYER_CASES if each.case.op == "BatchNormalization")
    layer = layer_of(TABLE, view_of(each, "channels_first"))
    assert layer is not None
    assert {slot for slot, tensor in layer.tensors.items() if tensor.note} == {"running_var"}
