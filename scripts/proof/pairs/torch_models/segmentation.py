"""Networks that make images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from scripts.proof.pairs.torch_models.registry import torch_model


@torch_model("transposed_conv")
class Decoder(nn.Module):
    """A generator: a vector becomes an image by transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(24, 16 * 4 * 4)
        self.up1 = nn.ConvTranspose2d(16, 12, 4, 2, 1)
        self.bn = nn.BatchNorm2d(12)
        self.up2 = nn.ConvTranspose2d(12, 3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.fc(x)).reshape(-1, 16, 4, 4)
        x = F.leaky_relu(self.bn(self.up1(x)), 0.2)
        return torch.tanh(self.up2(x))


class DoubleConv(nn.Sequential):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )


@torch_model("unet")
class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down1 = DoubleConv(3, 8)
        self.down2 = DoubleConv(8, 12)
        self.bottom = DoubleConv(12, 16)
        self.up2 = nn.ConvTranspose2d(16, 12, 2, 2)
        self.merge2 = DoubleConv(24, 12)
        self.up1 = nn.ConvTranspose2d(12, 8, 2, 2)
        self.merge1 = DoubleConv(16, 8)
        self.out = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.down1(x)
        b = self.down2(F.max_pool2d(a, 2))
        c = self.bottom(F.max_pool2d(b, 2))
        b = self.merge2(torch.cat([b, self.up2(c)], dim=1))
        return self.out(self.merge1(torch.cat([a, self.up1(b)], dim=1)))


@torch_model("resize_shuffle")
class ResizeShuffle(nn.Module):
    """Upsampling by a bilinear resize (half-pixel centres) beside a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)
        self.out = nn.Conv2d(6, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        smooth = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        sharp = F.pixel_shuffle(F.relu(self.conv(x)), 2)
        return self.out(torch.cat([smooth, sharp], dim=1))
