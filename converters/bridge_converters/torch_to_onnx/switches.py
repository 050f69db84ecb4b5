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
    Without the hint attention uses the mask, with the same result. Their fast path, which runs without
    gradients only and cannot be exported, is switched off as well: it leaves padding out, where export
    computes it.
    """
    transformer: Any = torch.nn.modules.transformer
    original = transformer._detect_is_causal_mask
    fast = torch.backends.mha.get_fastpath_enabled()

    def detect(mask: Any, is_causal: bool | None = None, size: int | None = None) -> bool:
        return is_causal is True

    transformer._detect_is_causal_mask = detect
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        transformer._detect_is_causal_mask = original


@contextmanager
def einsum_paths_of_examples() -> Iterator[None]:
    """Let `torch.einsum` of more than two tensors choose its order of products by the examples' sizes.

    opt_einsum compares the sizes, and a traced program would fix every axis that it looks at.
    """
    library: Any = torch.backends.opt_einsum.get_opt_einsum()
    if library is None:
        yield
        return
    original = library.contract_path

    def contract_path(equation: str, *operands: torch.Tensor, **options: Any) -> Any:
        shapes = [tuple(map(_example_size, each.shape)) for each in operands]
        return original(equation, *shapes, shapes=True, **options)

    library.contract_path = contract_path
    try:
        yield
    finally:
        library.contract_path = original


def _example_size(size: Any) -> int:
    return int(size.node.hint) if isinstance(size, torch.SymInt) else int(size)
