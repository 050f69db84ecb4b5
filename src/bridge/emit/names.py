"""The one sanitiser: text of a model becomes Python identifiers here and nowhere else."""

from __future__ import annotations

import builtins
import keyword
import re
import unicodedata
from collections.abc import Collection, Iterable

_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")

_USUAL_ARGUMENTS = frozenset({"input", "id", "type", "format", "filter", "hash", "object", "help"})
"""Builtins that models often call an input, and that emitted code never calls."""

RESERVED = frozenset({*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "self", "cls"} - _USUAL_ARGUMENTS)
"""Names that emitted code never binds, whatever the model calls its parts."""

_MAX_LENGTH = 60


def identifier(text: str, *, default: str = "value", reserved: Collection[str] = ()) -> str:
    """A valid, plain-ASCII identifier that resembles `text`.

    Lookalike and accented letters are folded to ASCII, everything else becomes `_`, names are cut to 60
    characters, a leading digit gets the prefix of `default`, and a reserved word gets a trailing `_`.
    """
    folded = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode("ascii")
    name = re.sub(r"[^0-9A-Za-z_]+", "_", folded)[:_MAX_LENGTH].strip("_")
    if name.startswith("__") or not name:
        name = default
    if name[0].isdigit():
        name = f"{default}{name}"
    while name in RESERVED or name in reserved:
        name += "_"
    return name


def attribute(text: str, *, default: str = "value", reserved: Collection[str] = ()) -> str:
    """`text` itself if it can be written after a dot, else an identifier that resembles it.

    Names of builtins are fine as attributes; names in `reserved`, keywords and names that Python would
    mangle are not.
    """
    plain = text.isascii() and text.isidentifier() and len(text) <= _MAX_LENGTH
    if plain and not keyword.iskeyword(text) and not text.startswith("__") and text not in reserved:
        return text
    return identifier(text, default=default, reserved=reserved)


def is_index(name: str) -> bool:
    """Whether a module is called by its position in a list, as Python writes it: `0`, not `01` or `¹`."""
    return name.isascii() and name.isdigit() and (name == "0" or not name.startswith("0"))


def class_name(text: str, *, default: str = "Block", reserved: Collection[str] = ()) -> str:
    """A CamelCase identifier that resembles `text`; capitals inside a word are kept."""
    name = identifier(text, default=default)
    words = name.rstrip("_").split("_")
    camel = "".join(word[0].upper() + word[1:] for word in words if word)
    while camel in RESERVED or camel in reserved:
        camel += "_"
    return camel


def snake_case(text: str) -> str:
    """`InvertedResidual` as `inverted_residual`."""
    return "_".join(word.lower() for word in _WORDS.findall(text)) or "value"


class Namespace:
    """Hands out names that do not clash within one scope of the emitted file."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)

    def claim(self, name: str) -> str:
        """`name` itself if it is free, else `name` with the first free number (`conv_2`)."""
        candidate, number = name, 2
        while candidate in self._taken:
            candidate = f"{name}_{number}" if name[-1].isdigit() else f"{name}{number}"
            number += 1
        self._taken.add(candidate)
        return candidate

    def __contains__(self, name: str) -> bool:
        return name in self._taken
