"""Small PyTorch models for the tests of the sides, and what autograd says about them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from bridge.formats.request import ReadRequest
from bridge.worker.sides.torch_source import TorchSide, load

Array = np.ndarray[Any, np.dtype[Any]]


class ConvNet(nn.Module):
    """Normalization, dropout, a detached branch, nested outputs and an integer among them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4, momentum=0.3)
        self.drop = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)
        self.frozen = nn.Parameter(torch.full((5,), 0.7), requires_grad=False)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, image: torch.Tensor) -> dict[str, Any]:
        features = torch.relu_(self.norm(self.conv(image)))
        logits = self.fc(self.drop(features.mean((2, 3)))) * self.frozen
        return {"logits": logits, "rest": (features.detach().sum((1, 2, 3)) * 2, logits.argmax(-1))}


class TextNet(nn.Module):
    """Embeddings tied to the head, attention, a recurrent layer, and a part without gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.position = nn.Embedding(8, 6)
        self.norm = nn.LayerNorm(6)
        self.rnn = nn.GRU(6, 6, batch_first=True)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.embed(ids.long().reshape(ids.shape)) + self.position(places)
        with torch.no_grad():
            shift = x * 0.5
        x, _ = self.rnn(self.norm(x + shift) * mask[..., None])
        scores = (x @ x.transpose(1, 2)).masked_fill(mask[:, None] == 0, torch.finfo(torch.float32).min)
        result: torch.Tensor = self.head(nn.functional.gelu(scores.softmax(-1) @ x))
        return result


def conv_net() -> ConvNet:
    torch.manual_seed(1)
    net = ConvNet()
    for _ in range(3):
        net(torch.randn(4, 3, 8, 8))
    return net.eval()


def text_net() -> TextNet:
    torch.manual_seed(2)
    return TextNet().eval()


def image_feeds(batch: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(batch)
    return {"image": rng.standard_normal((batch, 3, 8, 8)).astype(np.float32)}


def text_feeds(batch: int = 3) -> dict[str, Array]:
    rng = np.random.default_rng(batch)
    mask = np.ones((batch, 5), np.float32)
    mask[0, 3:] = 0
    return {"ids": rng.integers(0, 11, (batch, 5)).astype(np.int32), "mask": mask}


def saved_side(module: nn.Module, feeds: dict[str, Array], path: Path, **request: Any) -> TorchSide:
    """The side of a module exported to a `.pt2` with a dynamic batch."""
    examples = tuple(torch.from_numpy(each) for each in feeds.values())
    batch = torch.export.Dim.DYNAMIC
    program = torch.export.export(
        module, examples, dynamic_shapes=tuple({0: batch} for _ in examples), strict=False
    )
    torch.export.save(program, path)
    return load({**ReadRequest(str(path), "pt2").to_json(), **request})


def cotangents(outputs: Sequence[Array]) -> list[Array | None]:
    """Other numbers for every element; None for integers."""
    return [
        np.cos(np.arange(each.size, dtype=np.float64)).reshape(each.shape) if each.dtype.kind == "f" else None
        for each in outputs
    ]


def autograd(
    module: nn.Module, feeds: dict[str, Array], flatten: Callable[[Any], list[torch.Tensor]]
) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
    """What `vjp` must answer, by PyTorch's autograd on a float64 copy of the module."""
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    inputs = {
        name: each.double().requires_grad_() if each.is_floating_point() else each
        for name, each in inputs.items()
    }
    outputs = flatten(module(*inputs.values()))
    loss = torch.zeros((), dtype=torch.float64)
    for output, given in zip(outputs, cotangents([each.detach().numpy() for each in outputs]), strict=True):
        if given is not None:
            loss = loss + (output * torch.from_numpy(given)).sum()
    loss.backward()
    found = {
        name: each.grad.numpy()
        for name, each in module.named_parameters(remove_duplicate=False)
        if each.grad is not None
    }
    return (
        [each.detach().numpy() for each in outputs],
        {name: each.grad.numpy() for name, each in inputs.items() if each.grad is not None},
        found,
    )
