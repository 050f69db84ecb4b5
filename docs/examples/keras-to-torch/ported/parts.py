"""The counterparts of `legacy.parts`."""

from __future__ import annotations

import numpy as np
import torch

from ported.layers import SqueezeExcite, Standardise


def standardise() -> Standardise:
    return Standardise()


def squeeze_excite() -> SqueezeExcite:
    layer = SqueezeExcite(16)
    rng = np.random.default_rng(5)
    with torch.no_grad():
        for parameter, shape in zip(layer.parameters(), ((16, 4), (4,), (4, 16), (16,)), strict=True):
            array = rng.normal(0, 0.5, shape).astype(np.float32)
            parameter.copy_(torch.from_numpy(array.T if array.ndim == 2 else array))
    return layer
