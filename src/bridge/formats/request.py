"""What a reader is asked to read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge.errors import InputError

_HINT = "write [name=]SHAPE[:dtype], for example --input 1x3x224x224 or --input tokens=Nx16:int64"
_SPEC = re.compile(r"^(?:(?P<name>[^=:]+)=)?(?P<shape>[^:]*)(?::(?P<dtype>[a-z0-9_]+))?$")


@dataclass(frozen=True)
class InputSpec:
    """One input of a model: its name if given, its shape (a string is a dynamic axis), its numpy dtype."""

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read `[name=]AxBxC[:dtype]`: `1x3x224x224`, `tokens=Nx16:int64`, `scalar=:float32`.

        An axis is a number or a name; a name (or `?`) makes the axis dynamic.
        Raises InputError on anything else.
        """
        match = _SPEC.match(text.strip())
        if match is None:
            raise InputError(
                f"{text!r} is not an input specification",
                hint=_HINT,
            )
        axes: list[int | str] = []
        for axis, part in enumerate(match["shape"].split("x") if match["shape"] else []):
            if part.isascii() and part.isdigit():
                axes.append(int(part))
            elif part == "?":
                axes.append(f"axis{axis}")
            elif part.isidentifier():
                axes.append(part)
            else:
                raise InputError(
                    f"{part!r} in {text!r} is neither a number nor the name of a dynamic axis",
                    hint=_HINT,
                )
        return cls(tuple(axes), match["dtype"] or "float32", match["name"])


@dataclass(frozen=True)
class ReadRequest:
    """A model to read: where it is, what it is, and what the user said about it.

    `format` is one of the names in `bridge.formats.detect`. `model` is a factory `pkg.mod:callable` for
    formats that hold weights only. `inputs` are the user's input specifications, `examples` the path
    of an `.npz` or `.safetensors` file with example inputs. `static_batch` keeps axis 0 of the inputs
    fixed where the source leaves it open. `custom_objects` names a module whose import registers
    custom layers or operators.
    """

    path: str
    format: str
    model: str | None = None
    inputs: tuple[InputSpec, ...] = ()
    examples: str | None = None
    trust: bool = False
    static_batch: bool = False
    custom_objects: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> ReadRequest:
        inputs = tuple(
            InputSpec(tuple(each["shape"]), each["dtype"], each["name"]) for each in record["inputs"]
        )
        return cls(**{**record, "inputs": inputs})
