"""Leaving out the key-value cache that transformers' models return beside their results."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bridge_converters.torch_to_onnx.structures import plain

Call = Callable[[], Any]
_NOTE = "the key-value cache is left out of the outputs; pass use_cache=True to have it"


def leave_out_cache(module: nn.Module, results: Any, probe: Call) -> tuple[str, ...]:
    """Have a transformers module no longer return the keys and values of its layers, if `results` have them.

    Without a cache some models take jumps of the positions for the beginnings of other sequences. Where
    `probe` gives other results then, the module computes its cache and the outputs alone are left out.
    Returns a note if so. A caller who passes `use_cache=True` still gets them.
    """
    if not _has_cache(results):
        return ()
    configurations = _caching(module)
    if not configurations:
        return ()
    expected = probe()
    for config in configurations:
        config.use_cache = False
    if not _same(probe(), expected):
        for config in configurations:
            config.use_cache = True
        forward = module.forward

        @functools.wraps(forward)
        def without_cache(*args: Any, **kwargs: Any) -> Any:
            return _without_cache(forward(*args, **kwargs))

        module.forward = without_cache
    return (_NOTE,)


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


def _is_cache(value: Any) -> bool:
    caches: Any = sys.modules.get("transformers.cache_utils")
    return caches is not None and isinstance(value, caches.Cache)


def _has_cache(results: Any) -> bool:
    values = list(results.values()) if isinstance(results, Mapping) else results
    return isinstance(values, tuple | list) and any(map(_is_cache, values))


def _without_cache(results: Any) -> Any:
    if isinstance(results, Mapping):
        return {name: value for name, value in results.items() if not _is_cache(value)}
    return tuple(value for value in results if not _is_cache(value))


def _same(one: Any, other: Any) -> bool:
    """Whether two results without their caches have the same tensors, up to rounding."""
    first, second = (
        [leaf for leaf in pytree.tree_leaves(plain(_without_cache(each))) if isinstance(leaf, torch.Tensor)]
        for each in (one, other)
    )
    return len(first) == len(second) and all(
        left.shape == right.shape and torch.allclose(left, right, rtol=1e-3, atol=1e-5, equal_nan=True)
        for left, right in zip(first, second, strict=True)
    )
