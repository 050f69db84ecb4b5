"""Images: moving between depth and space."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering


@lowering("DepthToSpace", layout="channels_first")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of channels moved into space; in DCR the block is the outer part of the channel index."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    blocks = x.reshape(n, blocksize, blocksize, c // (blocksize * blocksize), h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * blocksize, w * blocksize)


@lowering("SpaceToDepth", layout="channels_first")
def space_to_depth(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of space moved into channels: the outer part of the channel index (DCR) or the inner (CRD)."""
    if mode == "CRD":
        return F.pixel_unshuffle(x, blocksize)
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // blocksize, w // blocksize)
