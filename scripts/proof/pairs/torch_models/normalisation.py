"""Normalisations where rounding is amplified."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("group_instance_norm")
class GroupInstanceNorm(nn.Module):
    """Convolutions with bias, then a norm over groups of channels, then one that removes each channel's mean.

    For small inputs the channels are nearly constant: the second norm divides the rounding of a mean by
    a standard deviation many times smaller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, padding=1)
        self.group = nn.GroupNorm(2, 8)
        self.instance = nn.InstanceNorm2d(8, affine=True)
        self.out = nn.Conv2d(8, 4, 3, padding=1)
        nn.init.normal_(self.conv.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.instance(self.group(self.conv(x)))
        return self.out(F.relu(x))


@torch_model("large_bias_norm")
class LargeBiasNorm(nn.Module):
    """A bias a thousand times the signal, removed again by the normalisation that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 32)
        self.norm1 = nn.LayerNorm(32)
        self.fc2 = nn.Linear(32, 32)
        self.norm2 = nn.BatchNorm1d(32)
        self.fc3 = nn.Linear(32, 6)
        with torch.no_grad():
            self.fc1.bias.add_(30.0)
            self.fc2.bias.add_(100.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.fc1(x)))
        return self.fc3(torch.tanh(self.norm2(self.fc2(x))))


@torch_model("variance_cancellation")
class VarianceCancellation(nn.Module):
    """A standard deviation as the root of mean(x^2) - mean(x)^2, with a mean of six deviations."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(32, 48)
        self.fc2 = nn.Linear(48, 4)
        with torch.no_grad():
            self.fc1.bias.add_(4.0)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        mean = x.mean(1, keepdim=True)
        variance = (x * x).mean(1, keepdim=True) - mean * mean
        return self.fc2((x - mean) / torch.sqrt(variance + 1e-3))
