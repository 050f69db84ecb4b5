"""The classifier, ported by hand."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from data import CLASSES
from ported.layers import SqueezeExcite, Standardise

WEIGHTS = Path(__file__).parents[1] / "converted" / "digits" / "model.safetensors"
"""What `bridge convert` wrote; the modules here have the names that it kept from Keras."""


class Digits(nn.Module):
    """Images (batch, 1, 8, 8) in, logits (batch, 10) out."""

    def __init__(self) -> None:
        super().__init__()
        self.standardise = Standardise()
        self.stem = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(16, eps=1e-3, momentum=0.01)
        self.attention = SqueezeExcite(16)
        self.down = nn.Conv2d(16, 32, 3, stride=2)
        self.dropout = nn.Dropout(0.1)
        self.logits = nn.Linear(32, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(self.standardise(image))
        x = F.gelu(self.stem_norm(x))
        x = self.attention(x)
        # Keras' "same" pads a strided convolution on the far sides only.
        x = F.relu(self.down(F.pad(x, (0, 1, 0, 1))))
        return self.logits(self.dropout(x.amax((2, 3))))


def trained() -> Digits:
    """The classifier with the weights that Keras has trained."""
    model = Digits()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval()
