"""Sizes that the user wants: `--shapes x=2x3x64x64,y=2x7` and `--batch 1,3,17`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from bridge.errors import InputError

Shapes = Mapping[str, tuple[int | None, ...]]
"""The sizes of some inputs by name; None leaves an axis to bridge."""


class Shaped(Protocol):
    """An input by its name and shape: a TensorSpec or an InputPlan."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Sequence[int | str | None] | None: ...


_SHAPE = re.compile(r"^(?:(?P<name>[^=]+)=)?(?P<shape>(?:\d+|\?)(?:x(?:\d+|\?))*)$")
_HINT = (
    "write NAME=SIZES, separated by commas, for example --shapes 'x=2x3x64x64,y=2x7'; ? leaves an axis open"
)


def parse_shapes(texts: Sequence[str]) -> list[dict[str, tuple[int | None, ...]]]:
    """Read what `--shapes` was given, each time one set of sizes.

    The name `""` stands for the only input. Raises InputError on anything else than sizes.
    """
    result = []
    for text in texts:
        sizes: dict[str, tuple[int | None, ...]] = {}
        for part in text.split(","):
            match = _SHAPE.match(part.strip())
            if match is None:
                raise InputError(f"{part!r} in {text!r} says no sizes", hint=_HINT)
            name = (match["name"] or "").strip()
            if name in sizes:
                raise InputError(f"{text!r} gives the sizes of {name or 'the input'!r} twice", hint=_HINT)
            sizes[name] = tuple(None if axis == "?" else int(axis) for axis in match["shape"].split("x"))
        result.append(sizes)
    return result


def parse_batches(text: str) -> tuple[int, ...]:
    """Read `1,3,17`. Raises InputError on anything but positive numbers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
        raise InputError(f"{text!r} is no list of batch sizes", hint="write positive numbers: --batch 1,3,17")
    return tuple(int(part) for part in parts)


def checked_shapes(specs: Sequence[Shaped], given: Sequence[Shapes]) -> list[Shapes]:
    """The user's sizes by the names of the model's inputs (`#0` is the first, `""` the only one).

    Raises InputError for an input that the model does not have, another number of axes, another size of
    a fixed axis, and for different sizes of one batch.
    """
    return [_checked(specs, each) for each in given]


def _checked(specs: Sequence[Shaped], given: Shapes) -> Shapes:
    names = [spec.name for spec in specs]
    result: dict[str, tuple[int | None, ...]] = {}
    for name, sizes in given.items():
        position = _position(name, names)
        spec = specs[position]
        if spec.shape is not None:
            _check(spec.name, spec.shape, sizes)
        if spec.name in result:
            raise InputError(f"the sizes of the input {spec.name!r} are given twice", hint=_HINT)
        result[spec.name] = sizes
    _check_batch(specs, result)
    return result


def _position(name: str, names: Sequence[str]) -> int:
    if name in names:
        return names.index(name)
    if name == "" and len(names) == 1:
        return 0
    number = name.removeprefix("#")
    if name.startswith("#") and number.isascii() and number.isdigit() and int(number) < len(names):
        return int(number)
    what = f"no input {name!r}" if name else f"{len(names)} inputs, and the sizes name none of them"
    raise InputError(f"the model has {what}", hint=f"its inputs are {', '.join(names)}; {_HINT}")


def _check(name: str, shape: Sequence[int | str | None], sizes: Sequence[int | None]) -> None:
    if len(shape) != len(sizes):
        raise InputError(
            f"the input {name!r} has {len(shape)} axes, the sizes given for it {len(sizes)}",
            hint=f"its shape is {_spelled(shape)}",
        )
    for axis, (fixed, size) in enumerate(zip(shape, sizes, strict=True)):
        if isinstance(fixed, int) and size is not None and size != fixed:
            raise InputError(
                f"axis {axis} of the input {name!r} is fixed at {fixed} and cannot be {size}",
                hint=f"its shape is {_spelled(shape)}: only the axes that are not numbers can be chosen",
            )


def _spelled(shape: Sequence[int | str | None]) -> str:
    return "x".join("?" if size is None else str(size) for size in shape) or "that of a single number"


def _check_batch(specs: Sequence[Shaped], sizes: Shapes) -> None:
    lengths = {size for spec in specs for size in (spec.shape or ())[1:] if isinstance(size, str)}
    asked = {
        spec.name: sizes[spec.name][0]
        for spec in specs
        if spec.name in sizes
        and spec.shape
        and not isinstance(spec.shape[0], int)
        and spec.shape[0] not in lengths
        and sizes[spec.name][0]
    }
    if len(set(asked.values())) > 1:
        words = ", ".join(f"{name}: {size}" for name, size in asked.items())
        raise InputError(
            f"the inputs are given batches of different sizes ({words})", hint="give all of them the same"
        )


def check_batches(specs: Sequence[Shaped], batches: Sequence[int]) -> None:
    """Raise InputError where no input has a free axis 0 and the fixed one is of another size."""
    known = [spec.shape[0] for spec in specs if spec.shape]
    if any(not isinstance(size, int) for size in known) or any(spec.shape is None for spec in specs):
        return
    wrong = [size for size in batches if size not in known]
    if wrong:
        fixed = ", ".join(f"{spec.name}: {_spelled(spec.shape)}" for spec in specs if spec.shape)
        raise InputError(
            f"the batch of this model is fixed and cannot be {wrong[0]}",
            hint=f"its inputs are {fixed or 'single numbers'}; leave --batch out",
        )
