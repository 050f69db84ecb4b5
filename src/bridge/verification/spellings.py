"""Names of tensors: which are the same in another spelling, which say nothing, which are numbered."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from bridge.emit.names import Namespace, identifier


def _spelled(names: Sequence[str]) -> list[str]:
    """Names as an emitted signature spells them: identifiers, each once."""
    taken = Namespace()
    return [taken.claim(identifier(name, default="input")) for name in names]


def _plain(names: Sequence[str]) -> list[str]:
    """Names without what the frameworks add to them or may not contain."""
    return [
        "".join(letter if letter.isalnum() else "_" for letter in name.lower().removesuffix(":0")).strip("_")
        for name in names
    ]


SPELLINGS: tuple[Callable[[Sequence[str]], Sequence[str]], ...] = (list, _spelled, _plain)


def pair(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Their name for each of ours: by name if all of them fit in some spelling, else by position.

    Both hold the same number of names, each without repetition.
    """
    named = by_spelling(ours, theirs)
    if named is not None:
        return {name: theirs[position] for name, position in zip(ours, named, strict=True)}
    return dict(zip(ours, theirs, strict=True))


def by_spelling(ours: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """For each of our names the position of theirs; None unless all of them fit in some spelling."""
    for ours_spelled in SPELLINGS:
        for theirs_spelled in (list, ours_spelled):
            mine = list(ours_spelled(ours))
            other = {name: position for position, name in enumerate(theirs_spelled(theirs))}
            if len(set(mine)) == len(ours) == len(other) == len(theirs) and set(mine) == set(other):
                return [other[name] for name in mine]
    return None


def output_order(ours: Sequence[str] | None, theirs: Sequence[str] | None, count: int) -> list[int]:
    """For each of our outputs the position of theirs; their own order where either side has no names."""
    if not ours or not theirs or len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return list(range(count))
    pairs = pair(ours, theirs)
    return [theirs.index(pairs[name]) for name in ours]


_NUMBERED = re.compile(r"^(?P<stem>.*?)_?(?P<number>\d+)?$")
_GENERIC = frozenset(
    {"", "arg", "args", "data", "identity", "in", "input", "input_layer", "inputs", "keras_tensor", "out"}
    | {"output", "outputs", "serving_default", "statefulpartitionedcall", "tensor", "x", "y"}
)
"""Names that say nothing about what a tensor is, once the number behind them is cut off."""


def split_number(name: str) -> tuple[str, int]:
    """A name without the number at its end, and that number; -1 without one."""
    match = _NUMBERED.match(name)
    assert match is not None
    return match["stem"], -1 if match["number"] is None else int(match["number"])


def is_generic(name: str) -> bool:
    """Whether a name says nothing about its tensor: `x`, `input_3`, `args_0_1`."""
    stem, _ = split_number(_plain([name])[0])
    while stem not in _GENERIC and split_number(stem)[1] >= 0:
        stem, _ = split_number(stem)
    return stem in _GENERIC
