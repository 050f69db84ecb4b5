"""Heads: several outputs, probabilities, distances, indices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("several_outputs")
class SeveralOutputs(nn.Module):
    """Named outputs, one of them a class index."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(16, 24)
        self.boxes = nn.Linear(24, 4)
        self.classes = nn.Linear(24, 7)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = F.relu(self.trunk(x))
        scores = self.classes(x)
        return {"boxes": self.boxes(x), "label": scores.argmax(-1), "scores": scores}


@torch_model("softmax_heads")
class SoftmaxHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Linear(14, 24)
        self.coarse = nn.Linear(24, 5)
        self.fine = nn.Linear(24, 11)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.tanh(self.trunk(x))
        return F.softmax(self.coarse(x), -1), F.log_softmax(self.fine(x), -1)


@torch_model("rbf_cosine")
class RBFCosine(nn.Module):
    """Gaussian similarities to centres beside cosine similarities to prototypes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(10, 8)
        self.centres = nn.Parameter(torch.randn(6, 8))
        self.log_width = nn.Parameter(torch.full((6,), -1.5))
        self.prototypes = nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.fc(x)
        squared = ((x[:, None, :] - self.centres) ** 2).sum(-1)
        near = torch.exp(-squared * torch.exp(self.log_width))
        cosine = F.linear(F.normalize(x, dim=-1), F.normalize(self.prototypes, dim=-1))
        return near, cosine


@torch_model("indexing")
class Indexing(nn.Module):
    """Cumulative sums, the best steps of each sequence, and the values gathered from them."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Linear(6, 1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = self.score(x).squeeze(-1)
        best, index = scores.topk(4, dim=1)
        chosen = torch.gather(self.fc(x), 1, index[:, :, None].expand(-1, -1, 5))
        return torch.cumsum(chosen, dim=1), torch.sigmoid(best), index
