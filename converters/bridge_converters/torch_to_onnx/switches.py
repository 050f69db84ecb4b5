"""Parts of PyTorch's and transformers' own modules that stand in the way of torch.export, switched off."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from bridge_converters.torch_to_onnx.inputs import Examples
from bridge_converters.torch_to_onnx.quiet import quiet


@contextmanager
def exportable(module: nn.Module, examples: Examples) -> Iterator[tuple[str, ...]]:
    """Run with what torch.export cannot follow switched off; gives notes that the user should read.

    What the module computes stays the same, except that key-value caches, which are objects and no tensors,
    are not returned.
    """
    with _masks_taken_as_given(), _without_caches(module, examples) as notes:
        yield notes


@contextmanager
def _masks_taken_as_given() -> Iterator[None]:
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


@contextmanager
def _without_caches(module: nn.Module, examples: Examples) -> Iterator[tuple[str, ...]]:
    """Keep transformers' models from returning the keys and values of all layers as an object of their own."""
    found = {id(config): config for each in module.modules() for config in _caching(each)}
    switched = list(found.values()) if found and _returns_cache(module, examples) else []
    for config in switched:
        config.use_cache = False
    note = "the key-value cache is no tensor and left out of the outputs (use_cache=False)"
    try:
        yield (note,) if switched else ()
    finally:
        for config in switched:
            config.use_cache = True


def _caching(module: nn.Module) -> Iterator[Any]:
    """The configuration of a transformers module if it asks for a cache."""
    config = getattr(module, "config", None)
    if type(config).__module__.split(".")[0] == "transformers" and getattr(config, "use_cache", None) is True:
        yield config


def _returns_cache(module: nn.Module, examples: Examples) -> bool:
    """Whether a call gives a cache; many configurations ask for one where the model has none."""
    caches: Any = sys.modules.get("transformers.cache_utils")
    if caches is None:
        return False
    try:
        with torch.no_grad(), quiet():
            outputs = module(*examples.args, **examples.kwargs)
    except Exception:  # the module's code runs and may raise anything; exporting it reports that
        return False
    values = list(outputs.values()) if isinstance(outputs, Mapping) else outputs
    return isinstance(values, tuple | list) and any(isinstance(value, caches.Cache) for value in values)
