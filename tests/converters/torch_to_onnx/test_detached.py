"""Gradients that PyTorch models stop on purpose are stopped in TensorFlow too, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.reader import read
from torch import Tensor, nn

import bridge
from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.graph import all_nodes

X = torch.randn(3, 4)


class Function(nn.Module):
    """A function of the input and a trained matrix."""

    def __init__(self, function: Callable[[Tensor, nn.Linear], object]) -> None:
        super().__init__()
        self.function = function
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> object:
        return self.function(x, self.layer)


def stops(function: Callable[[Tensor, nn.Linear], object], tmp_path: Path, *, frozen: bool = False) -> int:
    """How many gradients the hub stops; it computes what the module does."""
    module = Function(function).eval().requires_grad_(not frozen)
    export_module(module, (X,), tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    results = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, {"x": X.numpy()})
    with torch.no_grad():
        wanted = module(X)
    for got, each in zip(results, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        np.testing.assert_allclose(got, each.numpy(), rtol=1e-5, atol=1e-6)
    return sum(metadata.stops_gradient(node) for node in all_nodes(model))


def straight_through(x: Tensor, layer: nn.Linear) -> Tensor:
    h = layer(x)
    return h + (h.round() - h).detach()


def without_gradients(x: Tensor, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        features = torch.relu(layer(x)).tanh()
        shifted = features + 1
    return layer(features) * shifted, features


def with_item(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer(x) * layer(x).abs().max().item()


def stopped_output(x: Tensor, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer(x), layer(x).exp().detach()


def with_stopped_weight(x: Tensor, layer: nn.Linear) -> Tensor:
    return layer(x) @ layer.weight.detach().t()


@pytest.mark.parametrize(
    ("function", "count"),
    [
        (straight_through, 1),
        (without_gradients, 2),
        (with_item, 1),
        (stopped_output, 1),
        (with_stopped_weight, 1),
    ],
)
def test_what_a_gradient_reaches_is_stopped(
    function: Callable[[Tensor, nn.Linear], object], count: int, tmp_path: Path
) -> None:
    assert stops(function, tmp_path) == count


def positions(x: Tensor, layer: nn.Linear) -> Tensor:
    with torch.no_grad():
        angles = torch.arange(x.shape[1]).float().sin()
    return layer(x) * angles.detach()


def best(x: Tensor, layer: nn.Linear) -> tuple[Tensor, Tensor]:
    return layer(x), layer(x).detach().argmax(-1)


@pytest.mark.parametrize("function", [positions, best])
def test_what_no_gradient_reaches_or_reads_is_left_alone(
    function: Callable[[Tensor, nn.Linear], object], tmp_path: Path
) -> None:
    assert stops(function, tmp_path) == 0


def test_frozen_weights_have_no_gradient_to_stop(tmp_path: Path) -> None:
    assert stops(with_stopped_weight, tmp_path, frozen=True) == 0


def written_after(x: Tensor, layer: nn.Linear) -> Tensor:
    h = layer(x)
    held = h.detach()
    h = h.add_(1.0)
    return held * h


def written_through(x: Tensor, layer: nn.Linear) -> Tensor:
    h = layer(x)
    first, _ = h.detach().split(2, dim=1)
    first.mul_(3.0)
    return h * 2


def written_before(x: Tensor, layer: nn.Linear) -> Tensor:
    h = layer(x).relu_()
    return layer(x) + h.detach()


@pytest.mark.parametrize(
    ("function", "count"), [(written_after, 0), (written_through, 0), (written_before, 1)]
)
def test_memory_that_is_written_to_keeps_its_numbers(
    function: Callable[[Tensor, nn.Linear], object], count: int, tmp_path: Path
) -> None:
    assert stops(function, tmp_path) == count


class Quantiser(nn.Module):
    """A codebook with a commitment loss and straight-through gradients, behind a frozen encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 6), nn.ReLU(inplace=True), nn.LayerNorm(6))
        self.project = nn.Linear(6, 4)
        self.book = nn.Embedding(7, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            features = self.encoder(x)
        z = self.project(features)
        codes = self.book((z[:, None] - self.book.weight).square().sum(2).argmin(1))
        loss = 0.25 * ((codes.detach() - z) ** 2).mean(1) + ((codes - z.detach()) ** 2).mean(1)
        return self.head(z + (codes - z).detach()), loss


def test_gradients_stop_in_tensorflow_where_they_stop_in_pytorch() -> None:
    torch.manual_seed(0)
    module = Quantiser().eval()
    result = bridge.convert(module, "tf", inputs=(X,), verify=False)
    assert result.source.count("tf.stop_gradient(") == 4
    report = bridge.verify(module, result, inputs=(X,), gradients=True)
    assert report.passed, report.summary()
    assert report.gradients is not None
    assert report.gradients.verdict == "equivalent"
