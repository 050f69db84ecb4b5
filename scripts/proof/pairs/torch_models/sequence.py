"""Convolutions over one axis and over three."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("causal_conv1d")
class CausalConv1d(nn.Module):
    """Gated causal dilated convolutions over (batch, time, channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(6, 10, 1)
        self.filters = nn.ModuleList(nn.Conv1d(10, 10, 2, dilation=rate) for rate in (1, 2, 4))
        self.gates = nn.ModuleList(nn.Conv1d(10, 10, 2, dilation=rate) for rate in (1, 2, 4))
        self.out = nn.Conv1d(10, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x.transpose(1, 2))
        for rate, filter_, gate in zip((1, 2, 4), self.filters, self.gates, strict=True):
            past = F.pad(x, (rate, 0))
            x = x + torch.tanh(filter_(past)) * torch.sigmoid(gate(past))
        return self.out(F.relu(x)).transpose(1, 2)


@torch_model("conv3d")
class Conv3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(2, 6, 3, padding=1)
        self.bn = nn.BatchNorm3d(6)
        self.conv2 = nn.Conv3d(6, 8, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool3d(F.elu(self.bn(self.conv1(x))), (2, 1, 1))
        return self.fc(F.elu(self.conv2(x)).mean((2, 3, 4)))
