"""Leaving out the key-value cache that transformers' models return beside their results."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn


def leave_out_cache(module: nn.Module, results: Any) -> tuple[str, ...]:
    """Have a transformers module no longer return the keys and values of its layers, if `results` have them.

    Returns a note if so. A caller who passes `use_cache=True` still gets them.
    """
    caches: Any = sys.modules.get("transformers.cache_utils")
    values = list(results.values()) if isinstance(results, Mapping) else results
    if caches is None or not isinstance(values, tuple | list):
        return ()
    configurations = _caching(module)
    if not configurations or not any(isinstance(value, caches.Cache) for value in values):
        return ()
    for config in configurations:
        config.use_cache = False
    return ("the key-value cache is left out of the outputs; pass use_cache=True to have it",)


@contextmanager
def unchanged_cache(module: nn.Module) -> Iterator[None]:
    """Have a transformers module return its cache again at the end, if it does now."""
    before = _caching(module)
    try:
        yield
    finally:
        for config in before:
            config.use_cache = True


def _caching(module: nn.Module) -> list[Any]:
    """The configurations of transformers' modules that ask for a cache, each once."""
    found: dict[int, Any] = {}
    for each in module.modules():
        config = getattr(each, "config", None)
        known = type(config).__module__.split(".")[0] == "transformers"
        if known and getattr(config, "use_cache", None) is True:
            found[id(config)] = config
    return list(found.values())
