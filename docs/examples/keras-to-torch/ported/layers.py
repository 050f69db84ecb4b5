"""The layers of `legacy.layers`, ported by hand. Images are (batch, channels, height, width) here."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Standardise(nn.Module):
    """Gives every image mean 0 and standard deviation 1."""

    def forward(self, image: Tensor) -> Tensor:
        mean = image.mean((1, 2, 3), keepdim=True)
        variance = image.var((1, 2, 3), correction=0, keepdim=True)
        return (image - mean) / torch.sqrt(variance + 1e-6)


class SqueezeExcite(nn.Module):
    """Weighs the channels by what is in the whole image (Hu et al., 2018)."""

    def __init__(self, channels: int, reduction: int = 4) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = torch.relu(self.squeeze(features.mean((2, 3))))
        weights = torch.sigmoid(self.excite(squeezed))
        return features * weights[:, :, None, None]
