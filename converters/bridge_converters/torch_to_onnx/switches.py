"""Parts of PyTorch's own modules that stand in the way of torch.export, switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def masks_taken_as_given() -> Iterator[None]:
    """Keep `nn.TransformerEncoder` and its like from looking into a mask whether it is causal.

    They compare its values to give attention a hint for speed, and a traced program cannot branch on that.
    Without the hint attention uses the mask, with the same result.
    """
    transformer: Any = torch.nn.modules.transformer
    original = transformer._detect_is_causal_mask

    def detect(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    transformer._detect_is_causal_mask = detect
    try:
        yield
    finally:
        transformer._detect_is_causal_mask = original
