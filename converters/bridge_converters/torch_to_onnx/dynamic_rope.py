"""Rotary positions of transformers' models whose frequencies depend on the length of the sequence."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

NOTE = (
    "the frequencies of rotary positions follow from the length of each input (rope_type='dynamic'); the "
    "source keeps those of the longest it has seen until a short one comes"
)


@contextmanager
def traced_frequencies(module: nn.Module) -> Iterator[tuple[str, ...]]:
    """Compute the frequencies of `rope_type="dynamic"` for each input; gives notes for the user.

    transformers branches on the values of the positions, which no traced program can. Its formula gives the
    original frequencies for short sequences, so it can be computed always.
    """
    found = [each for each in module.modules() if _is_dynamic(each)]
    before = [each.__dict__.get("forward") for each in found]
    for each in found:
        each.forward = _forward(each)
    try:
        yield (NOTE,) if found else ()
    finally:
        for each, forward in zip(found, before, strict=True):
            del each.forward
            if forward is not None:
                each.forward = forward


def _is_dynamic(module: nn.Module) -> bool:
    known = type(module).__module__.partition(".")[0] == "transformers"
    return known and getattr(module, "rope_type", None) == "dynamic" and hasattr(module, "inv_freq")


def _forward(module: Any) -> Any:
    """The forward of rotary positions without the branch around it."""
    compute = sys.modules["transformers.modeling_rope_utils"].ROPE_INIT_FUNCTIONS[module.rope_type]
    rotate = inspect.unwrap(type(module).forward)

    @torch.no_grad()
    def forward(x: Tensor, position_ids: Tensor) -> Any:
        frequencies, _ = compute(module.config, x.device, seq_len=position_ids.max() + 1)
        module.inv_freq.copy_(frequencies)
        return rotate(module, x, position_ids)

    return forward
