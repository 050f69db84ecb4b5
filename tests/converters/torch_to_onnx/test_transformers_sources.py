"""What transformers' and other modules do that torch.export would fix or cannot trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators
from torch import Tensor, nn
from torch.export import ExportedProgram

declare_missing_operators()
transformers = pytest.importorskip("transformers")

IDS = "batchxlength:int64"


def llama(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = transformers.LlamaConfig(vocab_size=20, max_position_embeddings=8, **sizes, **options)
    module: nn.Module = transformers.LlamaModel(config).eval()
    return module


def exported(module: nn.Module, inputs: Any, path: Path) -> tuple[ExportedProgram, tuple[str, ...]]:
    notes = export_module(module, inputs, path)
    return torch.export.load(path), notes


def test_positions_that_jump_mean_the_same_with_the_cache_left_out(tmp_path: Path) -> None:
    module = llama()
    program, notes = exported(module, {"input_ids": IDS, "position_ids": IDS}, tmp_path / "m.pt2")
    assert any("key-value cache is left out" in note for note in notes)
    ids = torch.arange(6).reshape(2, 3)
    positions = torch.tensor([[0, 4, 2], [5, 1, 2]])
    found = program.module()(ids, position_ids=positions)
    assert list(found) == ["last_hidden_state"]
    with torch.no_grad():
        expected = module(input_ids=ids, position_ids=positions)
    assert "past_key_values" in expected
    torch.testing.assert_close(found["last_hidden_state"], expected.last_hidden_state)


def test_frequencies_follow_the_length_of_each_input(tmp_path: Path) -> None:
    scaling = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0}
    module = llama(rope_parameters=scaling, use_cache=False)
    program, notes = exported(module, {"input_ids": IDS}, tmp_path / "m.pt2")
    assert any("rope_type='dynamic'" in note for note in notes)
    for length in (5, 13):
        ids = torch.arange(length)[None] % 20
        with torch.no_grad():
            expected = llama(rope_parameters=scaling, use_cache=False)(input_ids=ids).last_hidden_state
        torch.testing.assert_close(program.module()(ids)["last_hidden_state"], expected)


class LinearAttention(nn.Module):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return torch.einsum("bnd,bmd,bme->bne", q, k, k)


def test_products_of_three_tensors_leave_their_axes_open(tmp_path: Path) -> None:
    specs = {"q": "batchxlengthx4", "k": "batchxlengthx4"}
    program, _ = exported(LinearAttention(), specs, tmp_path / "m.pt2")
    for size, length in ((1, 5), (3, 2)):
        q, k = torch.randn(2, size, length, 4)
        torch.testing.assert_close(program.module()(q, k), LinearAttention()(q, k))


class Prefixed(nn.Module):
    """Python's len() is a number, which fixes the axis for whoever runs the code."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.cat([self.token.expand(len(x), -1, -1), x], 1))


def test_the_length_of_a_tensor_leaves_its_axis_open(tmp_path: Path) -> None:
    module = Prefixed()
    program, notes = exported(module, {"x": "batchxlengthx4"}, tmp_path / "m.pt2")
    assert notes == ()
    assert list(program.state_dict) == ["token", "layer.weight", "layer.bias"]
    for size, length in ((1, 5), (3, 2)):
        x = torch.randn(size, length, 4)
        torch.testing.assert_close(program.module()(x), module(x))
