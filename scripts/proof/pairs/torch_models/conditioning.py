"""Networks that pass rounding on and amplify it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("deep_plain")
class DeepPlain(nn.Module):
    """Forty layers without shortcuts, each keeping the size of its signal."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(40))
        self.out = nn.Linear(24, 5)
        for each in self.layers:
            nn.init.orthogonal_(each.weight, gain=1.15)
            nn.init.normal_(each.bias, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        for each in self.layers:
            x = F.leaky_relu(each(x), 0.3)
        return self.out(x)


@torch_model("exp_sums")
class ExpSums(nn.Module):
    """A partition function: the exponential of sums of size ten, and its logarithm."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Linear(20, 30)
        self.mixture = nn.Linear(30, 6)
        with torch.no_grad():
            self.energy.bias.add_(8.0)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        energy = 10.0 * torch.tanh(self.energy(x) / 10.0)
        sums = torch.exp(energy).sum(-1)
        return sums, torch.logsumexp(self.mixture(energy), -1)
