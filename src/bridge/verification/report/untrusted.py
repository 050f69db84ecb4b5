"""Text that comes from a model, made fit to be shown: names are whatever somebody wrote into a file."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 200
"""Characters of a name that are shown; the middle of a longer one is left out."""

_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
_LONG_WORD = re.compile(rf"\S{{{LONGEST + 1},}}")
_PLAIN = re.compile(r"[\x20-\x7e]*")


def printable(text: str, longest: int = LONGEST) -> str:
    """One line in which every character can be seen.

    Control characters, line breaks, marks that change the direction of writing and what XML cannot hold
    become escapes as in Python source. The middle of a long text is left out.
    """
    return escaped(shortened(text, longest))


def escaped(text: str) -> str:
    """One line in which every character can be seen, of any length."""
    if _PLAIN.fullmatch(text):
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if unicodedata.category(character) not in _HIDDEN:
        return character
    code = ord(character)
    if character in "\n\r\t":
        return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """The text, or its beginning and end if it is longer."""
    if len(text) <= longest:
        return text
    half = longest // 2 - 1
    return f"{text[:half]} … {text[-half:]}"


def lines(text: str, longest: int = 2000) -> list[str]:
    """Sentences or the output of a program, line by line. Names within them are shortened by themselves."""
    told = _LONG_WORD.sub(lambda found: shortened(found[0]), text)
    return [printable(line.rstrip(), longest) for line in told.splitlines()] or [""]
