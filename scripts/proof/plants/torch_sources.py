"""The PyTorch models that bridge converts to TensorFlow, to plant faults in the conversion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.plants.architectures import Input


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.shortcut = nn.Sequential(
            nn.Conv2d(channels_in, channels_out, 1, stride, bias=False), nn.BatchNorm2d(channels_out)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(self.act(self.norm1(self.conv1(x)))))
        return self.act(y + self.shortcut(x))


class ResNet(nn.Module):
    """A small residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layers = nn.Sequential(Residual(8, 8, 1), Residual(8, 12, 2))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(12, 7)

    def forward(self, image: Tensor) -> Tensor:
        y = self.layers(self.pool(F.relu(self.norm(self.stem(image)))))
        return self.head(self.dropout(y.mean((2, 3))))


class UNet(nn.Module):
    """Down, up by bilinear resizing, and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down1 = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.LeakyReLU(0.1))
        self.down2 = nn.Sequential(nn.Conv2d(6, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.dilated = nn.Conv2d(10, 10, 3, padding=(1, 2), dilation=(1, 2))
        self.up = nn.Upsample(scale_factor=2, mode="bilinear")
        self.join = nn.Conv2d(16, 6, 3, padding=1)
        self.act = nn.ReLU6()
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        skip = self.down1(image)
        y = F.relu(self.dilated(self.down2(self.pool(skip))))
        y = torch.cat((skip, self.up(y)), 1)
        return self.out(self.act(self.join(y)))


class Pooling(nn.Module):
    """Windows with padding, with sizes rounded up, and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.max_pool = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.padded = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.counted = nn.AvgPool2d(3, 1, 1)
        self.last = nn.AvgPool2d(2, 2, ceil_mode=True)
        self.head = nn.Linear(24, 5)

    def forward(self, image: Tensor) -> Tensor:
        y = self.max_pool(F.relu(self.conv1(image)))
        y = F.gelu(self.grouped(y))
        y = torch.cat((self.padded(y), self.counted(y)), 1)
        return self.head(self.last(y).mean((2, 3)))


class Attention(nn.Module):
    """Self attention, spelled out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = nn.Dropout(0.1)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.split(self.query(x)), self.split(self.key(x)), self.split(self.value(x))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
        mixed = self.dropout(scores.softmax(-1)) @ value
        return self.out(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A transformer's encoder block, normalisation first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, 2)
        self.norm2 = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.dropout(self.narrow(self.act(self.wide(self.norm2(x)))))


class Transformer(nn.Module):
    """An encoder over token ids with learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(60, 16)
        self.positions = nn.Parameter(0.3 * torch.randn(9, 16))
        self.blocks = nn.Sequential(Block(16), Block(16))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 4)

    def forward(self, ids: Tensor) -> Tensor:
        y = self.norm(self.blocks(self.tokens(ids) + self.positions))
        return self.head(y.mean(1))


class Perceptron(nn.Module):
    """Dense layers with BatchNorm and Dropout, and two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(10, 16),
            nn.BatchNorm1d(16),
            nn.LeakyReLU(0.05),
            nn.Dropout(0.3),
            nn.Linear(16, 16),
            nn.GELU(),
        )
        self.mean = nn.Linear(16, 4)
        self.deviation = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.layers(x)
        return self.mean(y), F.softplus(self.deviation(y))


class Mobile(nn.Module):
    """Inverted bottlenecks: pointwise, depthwise, pointwise, with ReLU6."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6()
        )
        self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
        self.dilated = nn.Conv2d(8, 8, 3, padding=(2, 1), dilation=(2, 1))
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(12, 6)

    def forward(self, image: Tensor) -> Tensor:
        y = self.stem(image)
        y = y + self.project(self.depthwise(self.expand(y)))
        y = F.hardswish(self.grouped(F.relu(self.dilated(y))))
        return self.head(self.dropout(y.mean((2, 3))))


MODELS: Mapping[str, Callable[[], nn.Module]] = {
    "resnet": ResNet,
    "unet": UNet,
    "pooling_converted": Pooling,
    "transformer_converted": Transformer,
    "perceptron": Perceptron,
    "mobile_converted": Mobile,
}


def save(name: str, inputs: Sequence[Input], path: Path) -> None:
    """Export a model as a `.pt2` with a dynamic batch; weights and statistics are seeded."""
    torch.manual_seed(sum(map(ord, name)))
    model = MODELS[name]()
    examples = tuple(torch.zeros(2, *each.shape, dtype=getattr(torch, each.dtype)) for each in inputs)
    _settle(model)
    shapes = tuple({0: torch.export.Dim("batch")} for _ in examples)
    torch.export.save(torch.export.export(model.eval(), examples, dynamic_shapes=shapes, strict=False), path)


def _settle(model: nn.Module) -> None:
    """Scales, shifts and running statistics as training leaves them: different in every channel."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                _normal(module.running_mean, 0.0, 0.3)
                torch.exp_(_normal(module.running_var, 0.0, 0.4))
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
                _normal(module.weight, 1.0, 0.1)
                _normal(module.bias, 0.0, 0.1)


def _normal(tensor: Any, mean: float, deviation: float) -> Any:
    return tensor.copy_(mean + deviation * torch.randn_like(tensor))
