"""Which tensor of the target is which of the source, where the frameworks spell or order names otherwise."""

from __future__ import annotations

import re
from collections.abc import Sequence


def plain_name(name: str) -> str:
    """A tensor's name without what the frameworks add to it or may not contain."""
    return re.sub(r"\W", "_", name.lower().removesuffix(":0"))


def pair(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Their name for each of ours: by name if all of them fit, else by position.

    Both hold the same number of names, each without repetition.
    """
    if set(ours) == set(theirs):
        return {name: name for name in ours}
    plain = {plain_name(name): name for name in theirs}
    if len(plain) == len(theirs) and {plain_name(name) for name in ours} == set(plain):
        return {name: plain[plain_name(name)] for name in ours}
    return dict(zip(ours, theirs, strict=True))


def output_order(ours: Sequence[str] | None, theirs: Sequence[str] | None, count: int) -> list[int]:
    """For each of our outputs the position of theirs; their own order where either side has no names."""
    if not ours or not theirs or len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return list(range(count))
    pairs = pair(ours, theirs)
    return [theirs.index(pairs[name]) for name in ours]
