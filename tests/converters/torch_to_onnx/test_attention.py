"""Attention arrives as ONNX's Attention, with its dropout, whatever its ranks, masks and strides."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.reader import read
from torch import Tensor, nn

from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.graph import all_nodes

attend = F.scaled_dot_product_attention
QUERIES, KEYS = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 7, 8)


class Function(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class Own(nn.Module):
    """Attention as people write it, with dropout that is off in evaluation."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.project = nn.Linear(8, 24)
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(x).view(batch, length, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.p if self.training else 0.0)
        return y.transpose(1, 2).contiguous().view(batch, length, -1)


def hub(module: nn.Module, inputs: Any, tmp_path: Path) -> ir.Model:
    export_module(module, inputs, tmp_path / "net.pt2")
    return read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))


def assert_equal(model: ir.Model, module: nn.Module, *inputs: Tensor) -> None:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    names = [value.name for value in model.graph.inputs]
    (got,) = session.run(None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)})
    with torch.no_grad():
        wanted = module.eval()(*inputs)
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4, atol=1e-5)


def attentions(model: ir.Model) -> list[ir.Node]:
    return [node for node in all_nodes(model) if node.op_type == "Attention"]


@pytest.mark.parametrize(
    ("function", "inputs"),
    [
        (lambda q, k: attend(q, k, k), (QUERIES, KEYS)),
        (lambda q, k: attend(q, k, k, is_causal=True, scale=0.3), (QUERIES, KEYS)),
        (lambda q, k, m: attend(q, k, k, m), (QUERIES, KEYS, torch.rand(2, 1, 5, 7) > 0.3)),
        (lambda q, k, m: attend(q, k, k, m), (QUERIES, KEYS, torch.randn(5, 7))),
        (lambda q, k, m: attend(q, k, k, m), (QUERIES, KEYS, torch.randn(4, 5, 7))),
        (lambda q, k: attend(q, k, k, enable_gqa=True), (QUERIES, KEYS[:, :2])),
        (lambda q, k: attend(q, k, k, enable_gqa=True), (QUERIES, KEYS)),
        (lambda q, k: attend(q, k[:, :1], k[:, :1]), (QUERIES, KEYS)),
        (lambda q, k: attend(q, k[:1], k[:1]), (QUERIES, KEYS)),
        (lambda q, k: attend(q, k, k), (QUERIES[0], KEYS[0])),
        (lambda q, k, m: attend(q, k, k, m), (QUERIES[0], KEYS[0], torch.randn(4, 5, 7))),
        (lambda q, k: attend(q, k, k), (QUERIES[0, 0], KEYS[0, 0])),
        (lambda q, k, m: attend(q, k, k, m), (QUERIES[None], KEYS[None], torch.randn(1, 2, 1, 5, 7))),
    ],
    ids=[
        "plain",
        "causal",
        "boolean mask",
        "mask of 2 axes",
        "mask of heads",
        "grouped",
        "as many groups",
        "one head",
        "one sample",
        "without heads",
        "mask without heads",
        "single",
        "five axes",
    ],
)
def test_attention_arrives_whole(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], tmp_path: Path
) -> None:
    module = Function(function)
    model = hub(module, inputs, tmp_path)
    assert len(attentions(model)) == 1
    assert_equal(model, module, *inputs)


def test_ratios_of_dropout_are_read_from_the_modules(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cross = nn.MultiheadAttention(8, 2, dropout=0.3, batch_first=True)
            self.own = Own(0.25)
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.15, batch_first=True)
            self.last = Own(0.0)

        def forward(self, x: Tensor) -> Tensor:
            x = self.own(x + self.cross(x, x, x, need_weights=False)[0])
            return self.last(self.layer(x))

    module = Net()
    model = hub(module, torch.randn(2, 5, 8), tmp_path)
    ratios = [metadata.attention_dropout(node) for node in attentions(model)]
    assert ratios == [0.3, 0.25, 0.15, 0.0]
    assert all(each.training for each in module.modules())
    assert torch.backends.mha.get_fastpath_enabled()
    assert F.scaled_dot_product_attention is attend
    assert_equal(model, module, torch.randn(3, 4, 8))


def test_dropout_that_is_always_active_is_noted(tmp_path: Path) -> None:
    model = hub(Function(lambda x: attend(x, x, x, dropout_p=0.1)), torch.randn(2, 2, 5, 8), tmp_path)
    (node,) = attentions(model)
    assert metadata.attention_dropout(node) == 0.1
    (note,) = metadata.source_info(model).notes
    assert "dropout_p=0.1 in evaluation too" in note


@pytest.mark.parametrize(
    "shape", [lambda y: y.reshape(*y.shape[:2], -1), lambda y: y.contiguous().flatten(2)]
)
def test_results_of_attention_change_shape(shape: Callable[[Tensor], Tensor], tmp_path: Path) -> None:
    """Attention gives other strides when it is traced again, and what was a view needs a copy."""

    def function(x: Tensor) -> Tensor:
        mask = x.new_zeros(1, 2, x.shape[2], x.shape[2])
        return shape(attend(x, x, x, attn_mask=mask).transpose(1, 2))

    module = Function(function)
    model = hub(module, torch.randn(2, 2, 5, 8), tmp_path)
    assert_equal(model, module, torch.randn(3, 2, 5, 8))


def test_attention_that_cannot_be_exported_is_replaced_by_the_eager_one(tmp_path: Path) -> None:
    class Config:
        _attn_implementation = "flex_attention"

    class Switching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = Config()

        def forward(self, x: Tensor) -> Tensor:
            if self.config._attn_implementation == "eager":
                return torch.softmax(x @ x.mT, -1) @ x
            if torch.compiler.is_compiling():
                raise RuntimeError("kernels made at run time cannot be exported")
            return torch.softmax(x @ x.mT, -1) @ x

    module = Switching()
    model = hub(module, torch.randn(2, 5, 8), tmp_path)
    (note,) = metadata.source_info(model).notes
    assert "attn_implementation='eager'" in note
    assert "'flex_attention'" in note
    assert module.config._attn_implementation == "flex_attention"
    assert_equal(model, module, torch.randn(3, 4, 8))


def test_a_mask_of_a_transformer_layer_is_taken_as_given(tmp_path: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.layers(x, mask=mask)

    module = Net()
    causal = nn.Transformer.generate_square_subsequent_mask
    model = hub(module, (torch.randn(2, 5, 8), causal(5)), tmp_path)
    assert [str(size) for size in model.graph.inputs[1].shape or ()] == ["sequence", "sequence"]
    assert_equal(model, module, torch.randn(3, 4, 8), causal(4))
