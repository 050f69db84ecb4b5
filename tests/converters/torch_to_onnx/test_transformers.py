"""A Transformer encoder and a decoder of PyTorch become Keras models that train alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from torch import Tensor, nn

import bridge


class Encoder(nn.Module):
    """A classifier of padded sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        found = self.layers(self.tokens(ids), src_key_padding_mask=ids == 0)
        return self.head(found.mean(1))


class Decoder(nn.Module):
    """A causal language model whose head is its table of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(30, 16)
        self.places = nn.Embedding(40, 16)
        self.layers = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2, enable_nested_tensor=False
        )
        self.head = nn.Linear(16, 30, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, ids: Tensor) -> dict[str, Tensor]:
        x = self.tokens(ids) + self.places(torch.arange(ids.shape[1], device=ids.device))
        mask = nn.Transformer.generate_square_subsequent_mask(ids.shape[1])
        hidden = self.layers(x, mask=mask)
        return {"logits": self.head(hidden), "hidden": hidden}


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_transformers_convert_and_train_alike(kind: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = tmp_path / "source.pt2"
    export_module(kind(), {"ids": "batchxlength:int64"}, source)
    result = bridge.convert(source, to="tf", verify=False)
    report = bridge.verify(source, result, gradients=True)
    assert report.passed, report.summary()
    assert re.search(r"MultiHeadAttention\(|attention\(|attention_weights\(", result.source)
    assert "tf.squeeze(tf.shape" not in result.source
    if kind is Encoder:
        assert "tf.stop_gradient" in result.source
    else:
        assert sum(each.target.startswith("tokens") for each in result.weights.tensors) == 1
        assert not any(each.target.startswith("head") for each in result.weights.tensors)
