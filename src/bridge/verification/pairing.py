"""Which tensor of the target is which of the source, where names are spelled or ordered otherwise."""

from __future__ import annotations

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


_SPELLINGS: tuple[Callable[[Sequence[str]], Sequence[str]], ...] = (list, _spelled, _plain)


def pair(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Their name for each of ours: by name if all of them fit in some spelling, else by position.

    Both hold the same number of names, each without repetition.
    """
    for ours_spelled in _SPELLINGS:
        for theirs_spelled in (list, ours_spelled):
            mine = dict(zip(ours_spelled(ours), ours, strict=True))
            other = dict(zip(theirs_spelled(theirs), theirs, strict=True))
            if len(mine) == len(ours) == len(other) and set(mine) == set(other):
                return {name: other[spelling] for spelling, name in mine.items()}
    return dict(zip(ours, theirs, strict=True))


def output_order(ours: Sequence[str] | None, theirs: Sequence[str] | None, count: int) -> list[int]:
    """For each of our outputs the position of theirs; their own order where either side has no names."""
    if not ours or not theirs or len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return list(range(count))
    pairs = pair(ours, theirs)
    return [theirs.index(pairs[name]) for name in ours]
