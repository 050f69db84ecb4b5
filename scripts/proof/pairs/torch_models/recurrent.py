"""Recurrent networks, and a bag of embeddings."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("embedding_classifier")
class EmbeddingClassifier(nn.Module):
    """The mean of the unmasked embeddings, classified."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 12)
        self.fc = nn.Linear(12, 16)
        self.norm = nn.LayerNorm(16)
        self.out = nn.Linear(16, 4)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        x = self.embed(tokens) * mask[:, :, None]
        x = x.sum(1) / mask.sum(1, keepdim=True).clamp(min=1.0)
        return self.out(F.relu(self.norm(self.fc(x))))


@torch_model("lstm")
class LSTMTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 10, batch_first=True)
        self.fc = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.lstm(x)[0])


@torch_model("gru")
class GRUEncoder(nn.Module):
    """The last state of a GRU whose reset gate acts after the recurrent product."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 10, batch_first=True)
        self.fc = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.tanh(self.gru(x)[0][:, -1]))
