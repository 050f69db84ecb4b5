"""Networks of fully connected layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("mlp")
class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(12, 24)
        self.bn = nn.BatchNorm1d(24)
        self.fc2 = nn.Linear(24, 16)
        self.drop = nn.Dropout(0.3)
        self.fc3 = nn.Linear(16, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.fc1(x)))
        return self.fc3(self.drop(torch.tanh(self.fc2(x))))


@torch_model("activations")
class Activations(nn.Module):
    """Seven activations side by side over slices of one projection."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(10, 42)
        self.outer = nn.Linear(42, 8)

    def forward(self, x: Tensor) -> Tensor:
        a, b, c, d, e, f, g = self.inner(x).split(6, dim=-1)
        parts = [
            torch.sigmoid(a),
            torch.tanh(b),
            F.softplus(c),
            F.elu(d, alpha=0.7),
            F.hardswish(e),
            F.leaky_relu(f, 0.1),
            F.silu(g),
        ]
        return self.outer(torch.cat(parts, dim=-1))


@torch_model("autoencoder")
class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(32, 20), nn.GELU(), nn.LayerNorm(20), nn.Linear(20, 6), nn.Tanh()
        )
        self.decoder = nn.Sequential(nn.Linear(6, 20), nn.GELU(approximate="tanh"), nn.Linear(20, 32))

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


@torch_model("siamese")
class Siamese(nn.Module):
    """One tower over two inputs; their absolute difference, product and distance decide."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 12))
        self.head = nn.Linear(25, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.tower(left), self.tower(right)
        distance = torch.sqrt(torch.sum((a - b) ** 2, dim=1, keepdim=True) + 1e-6)
        return torch.sigmoid(self.head(torch.cat([torch.abs(a - b), a * b, distance], dim=1)))


class RMSNorm(nn.Module):
    """Scale by the root mean square over the last axis."""

    def __init__(self, size: int, epsilon: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size).uniform_(0.6, 1.4))
        self.epsilon = epsilon

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


@torch_model("swiglu_rmsnorm")
class SwiGLU(nn.Module):
    """A residual gated block as in recent language models."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = RMSNorm(16)
        self.gate = nn.Linear(16, 40, bias=False)
        self.up = nn.Linear(16, 40, bias=False)
        self.down = nn.Linear(40, 16, bias=False)
        self.final = RMSNorm(16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.final(x + self.down(F.silu(self.gate(y)) * self.up(y)))
