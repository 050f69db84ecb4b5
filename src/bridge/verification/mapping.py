"""What the user says about which tensor is which: `--map-inputs` and `--map-outputs`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import InputError
from bridge.verification.layouts import Permutation

_ENTRY = re.compile(r"^(?P<source>[^=]+?)\s*=\s*(?P<target>[^=]+?)(?:\s*:\s*(?P<order>[0-9]{2,}))?$")
_HINT = (
    "write SOURCE=TARGET[:AXES], separated by commas, for example 'tokens=input_ids, image=x:0231'; #0 is "
    "the first one, AXES are the source's axes in the target's order for an input, the target's in the "
    "source's order for an output"
)


@dataclass(frozen=True)
class Mapped:
    """A pair that the user gave: names or positions such as `#0`, and how the array that flows is transposed.

    An input flows from the source to the target, an output from the target to the source.
    """

    source: str
    target: str
    permutation: Permutation | None = None


def parse_map(text: str) -> tuple[Mapped, ...]:
    """Read `source=target, image=x:0231, #1=#0`.

    The digits behind a colon are the axes of the source's input in the order in which the target takes
    them, and for an output the axes of the target's in the order of the source's. A name ends at the
    first `=`; a colon that no such digits follow belongs to it (`x:0`).
    Raises InputError on anything else.
    """
    result = []
    for part in (each.strip() for each in text.split(",")):
        match = _ENTRY.match(part)
        if match is None:
            raise InputError(f"{part!r} does not say which tensor is which", hint=_HINT)
        permutation = None
        if match["order"] is not None:
            permutation = tuple(int(digit) for digit in match["order"])
            if sorted(permutation) != list(range(len(permutation))):
                raise InputError(
                    f"{match['order']} in {part!r} does not name every axis from 0 to "
                    f"{len(permutation) - 1} once",
                    hint=_HINT,
                )
        result.append(Mapped(match["source"], match["target"], permutation))
    return tuple(result)


def find(text: str, names: Sequence[str] | int, what: str, whose: str) -> int:
    """The position of a tensor by its name or `#position`; `names` is only their number if they have none.

    Raises InputError where there is none.
    """
    count = names if isinstance(names, int) else len(names)
    if not isinstance(names, int) and text in names:
        return list(names).index(text)
    if text.startswith("#") and text[1:].isascii() and text[1:].isdigit() and int(text[1:]) < count:
        return int(text[1:])
    known = ", ".join(names) if not isinstance(names, int) else f"#0 to #{count - 1}"
    raise InputError(
        f"the {whose} has no {what} {text!r}",
        hint=f"its {what}s are {known}" if count else f"it has no {what}s at all",
    )
