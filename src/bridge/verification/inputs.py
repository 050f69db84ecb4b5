"""Inputs to verify with: seeded, suited to the role of each input, and never all ones or zeros."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

import numpy as np

from bridge.errors import InputError
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import dtype_named

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Literal["typical", "small", "large", "pixels", "user"]
"""How a draw fills floating-point inputs.

`typical`: standard normal. `small`: the same times 0.01, where epsilons show. `large`: times 10, where
saturations and overflows show. `pixels`: uniform in [0, 255], what models that rescale images
themselves expect. `user`: the user's own arrays.
"""

DEFAULT_BATCHES = (3, 1, 17)
_BATCHES_OF_HUGE = (2, 1, 3)
_SCALES: Mapping[Rule, float] = {"typical": 1.0, "small": 0.01, "large": 10.0}
_LENGTH = 16
_SPATIAL = 64
_LENGTHENED = 5
_HEAVY_SAMPLE = 2**15
_HUGE_SAMPLE = 2**18
_HEAVY_DRAW = 2**19
TOKEN_LIMITS = (20_000, 1_000, 100, 10, 2)
"""Vocabulary sizes to try for an integer input: the first one that the source runs is used."""


class Role(Enum):
    """What an input is for, as far as its name, dtype and rank tell."""

    VALUES = "values"
    IMAGE = "image"
    TOKENS = "tokens"
    POSITIONS = "positions"
    MASK = "mask"
    LENGTHS = "lengths"


@dataclass(frozen=True)
class InputPlan:
    """One input: its concrete dtype, its shape (a string is a dynamic axis), its role.

    `limit` is the exclusive upper bound of token ids.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: Role
    limit: int = 2

    @property
    def dynamic_batch(self) -> bool:
        return bool(self.shape) and isinstance(self.shape[0], str)


@dataclass(frozen=True)
class Draw:
    """One set of inputs. `batch` is the size of axis 0 where that is dynamic, else None.

    `referenced` says whether the source is also run in float64 with it, which takes several times as long.
    """

    name: str
    rule: Rule
    batch: int | None
    arrays: Mapping[str, Array] = field(repr=False)
    referenced: bool = True


def plan(specs: Sequence[TensorSpec]) -> list[InputPlan]:
    """Decide the role of every input.

    Raises InputError for one whose dtype or rank is not known, or whose dtype is not numeric.
    """
    plans = []
    for spec in specs:
        if spec.dtype is None or spec.shape is None:
            unknown = "dtype" if spec.dtype is None else "rank"
            raise InputError(
                f"the {unknown} of the input {spec.name!r} is not known, so no values can be drawn for it",
                hint=f"say it with --input {spec.name}=1x3x224x224:float32, or give arrays in an .npz file",
            )
        kind = dtype_named(spec.dtype).kind if spec.dtype != "string" else "O"
        if kind not in "fVbiuc":
            raise InputError(
                f"the input {spec.name!r} is of type {spec.dtype}, for which no values can be drawn",
                hint="give numeric inputs: models of strings are not converted",
            )
        shape = tuple(f"axis{axis}" if size is None else size for axis, size in enumerate(spec.shape))
        if shape and isinstance(shape[0], str):
            shape = ("batch", *shape[1:])
        plans.append(InputPlan(spec.name, spec.dtype, shape, _role(spec.name, spec.dtype, shape)))
    return plans


def _role(name: str, dtype: str, shape: tuple[int | str, ...]) -> Role:
    words = name.lower()
    if dtype == "bool" or "mask" in words:
        return Role.MASK
    if dtype == "uint8" or (len(shape) == 4 and dtype.startswith(("float", "bfloat"))):
        return Role.IMAGE
    if dtype.startswith(("int", "uint")):
        if "position" in words:
            return Role.POSITIONS
        if "length" in words or words.endswith("_len"):
            return Role.LENGTHS
        return Role.TOKENS
    return Role.VALUES


def draws(
    plans: Sequence[InputPlan], *, seed: int, batches: Sequence[int] | None = None, scales: bool = True
) -> list[Draw]:
    """The sets of inputs to verify with.

    A typical set of each batch size where axis 0 is dynamic (`batches`; by default DEFAULT_BATCHES, or
    smaller ones for huge samples), three where it is not; another length where another axis is dynamic;
    then, if `scales`, sets of other scales for floating-point inputs. Where a sample is large, those sets
    hold one, and a set that is large altogether has no reference unless there are only such sets.
    """
    dynamic = any(each.dynamic_batch for each in plans)
    usual = DEFAULT_BATCHES if _elements(plans, 1) <= _HUGE_SAMPLE else _BATCHES_OF_HUGE
    sizes: Sequence[int | None] = tuple(batches or usual) if dynamic else (None, None, None)
    made = [
        draw(plans, seed=seed, index=index, rule="typical", batch=batch, longer=_LENGTHENED * (index == 1))
        for index, batch in enumerate(sizes)
    ]
    if scales:
        rules: list[Rule] = []
        if any(_is_float(each) and each.role is not Role.MASK for each in plans):
            rules += ["small", "large"]
        if any(each.role is Role.IMAGE and _is_float(each) for each in plans):
            rules += ["pixels"]
        scaled_batch = 1 if dynamic and _elements(plans, 1) > _HEAVY_SAMPLE else sizes[0]
        made += [
            draw(plans, seed=seed, index=len(made) + index, rule=rule, batch=scaled_batch)
            for index, rule in enumerate(rules)
        ]
    light = [sum(array.size for array in each.arrays.values()) <= _HEAVY_DRAW for each in made]
    return [replace(each, referenced=one or not any(light)) for each, one in zip(made, light, strict=True)]


def _elements(plans: Sequence[InputPlan], batch: int) -> int:
    return sum(math.prod(_concrete(each, batch, 0)) for each in plans)


def draw(
    plans: Sequence[InputPlan], *, seed: int, index: int, rule: Rule, batch: int | None, longer: int = 0
) -> Draw:
    """One set of inputs; the same arguments give the same bits. `longer` is added to free sequence axes."""
    arrays = {}
    for each in plans:
        generator = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([seed, index, zlib.crc32(each.name.encode())]))
        )
        shape = _concrete(each, batch, longer)
        arrays[each.name] = _fill(each, shape, rule, generator)
    suffix = "" if batch is None else f"-batch{batch}"
    return Draw(f"{index}-{rule}{suffix}", rule, batch, arrays)


def _concrete(each: InputPlan, batch: int | None, longer: int) -> tuple[int, ...]:
    """Sizes for dynamic axes: the batch, then sides of an image or lengths of a sequence."""
    sizes = []
    for axis, size in enumerate(each.shape):
        if isinstance(size, int):
            sizes.append(size)
        elif axis == 0:
            sizes.append(batch if batch is not None else 1)
        else:
            sizes.append(_SPATIAL if len(each.shape) >= 4 else _LENGTH + longer)
    return tuple(sizes)


def _is_float(each: InputPlan) -> bool:
    return dtype_named(each.dtype).kind in "fVc"


_Filler = Callable[[InputPlan, tuple[int, ...], Rule, np.random.Generator], Array]


def _values(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    if rule == "pixels":
        return generator.uniform(0, 255, shape)
    noise = generator.standard_normal(shape)
    if dtype_named(each.dtype).kind == "c":
        return _SCALES[rule] * (noise + 1j * generator.standard_normal(shape))
    return _SCALES[rule] * noise


def _image(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    """Noise for floating point, bytes for integers."""
    if _is_float(each):
        return _values(each, shape, rule, generator)
    return generator.integers(0, 256, shape)


def _tokens(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    return generator.integers(0, each.limit, shape)


def _positions(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    return np.broadcast_to(np.arange(shape[-1] if shape else 1), shape)


def _mask(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    """Mostly ones, the first position of every row always, so that no row is masked out as a whole."""
    mask = generator.random(shape) < 0.75
    if mask.ndim:
        mask[..., :1] = True
    return mask


def _lengths(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    return generator.integers(1, _LENGTH + 1, shape)


_FILLERS: Mapping[Role, _Filler] = {
    Role.VALUES: _values,
    Role.IMAGE: _image,
    Role.TOKENS: _tokens,
    Role.POSITIONS: _positions,
    Role.MASK: _mask,
    Role.LENGTHS: _lengths,
}


def _fill(each: InputPlan, shape: tuple[int, ...], rule: Rule, generator: np.random.Generator) -> Array:
    return np.ascontiguousarray(
        np.asarray(_FILLERS[each.role](each, shape, rule, generator)).astype(dtype_named(each.dtype))
    ).reshape(shape)


def with_limit(plans: Sequence[InputPlan], name: str, limit: int) -> list[InputPlan]:
    """The same plans, the token ids of one input below `limit`."""
    return [replace(each, limit=limit) if each.name == name else each for each in plans]
