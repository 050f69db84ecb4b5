"""Attention of Hugging Face's transformers as separate operations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_CHOICE = "_attn_implementation"
_EAGER = "eager"


def other_attention(module: nn.Module) -> tuple[str, ...]:
    """The kinds of attention that the configurations of a module ask for instead of the eager one."""
    kinds = (getattr(config, _CHOICE) for config in _configurations(module))
    return tuple(sorted({kind for kind in kinds if kind != _EAGER}))


@contextmanager
def eager_attention(module: nn.Module) -> Iterator[None]:
    """Have every part of a module compute attention by separate operations; as before afterwards."""
    before = [(config, getattr(config, _CHOICE)) for config in _configurations(module)]
    try:
        for config, _ in before:
            setattr(config, _CHOICE, _EAGER)
        yield
    finally:
        for config, kind in before:
            setattr(config, _CHOICE, kind)


def _configurations(module: nn.Module) -> list[Any]:
    """The configurations in a module that say how attention is computed, each once."""
    found: dict[int, Any] = {}
    for each in module.modules():
        config = getattr(each, "config", None)
        if isinstance(getattr(config, _CHOICE, None), str):
            found[id(config)] = config
    return list(found.values())
