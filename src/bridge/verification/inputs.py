"""Inputs to verify with: seeded, suited to the role of each input, and never all ones or zeros."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Literal

import ml_dtypes
import numpy as np

from bridge.errors import InputError
from bridge.verification.sizes import Shapes
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import dtype_named

Array = np.ndarray[Any, np.dtype[Any]]
Rule = Literal["typical", "small", "large", "huge", "pixels", "boundary", "special", "user"]
"""How a draw fills its inputs.

For floating point, `typical`: standard normal. `small`: the same times 0.01, where epsilons show. `large`:
times 10, where saturations and overflows show; `huge`: times 1000, where clipped ranges do. `pixels`:
uniform in [0, 255], what models that rescale images themselves expect. `boundary`: values at which
functions bend, round or tie, and ids, lengths and masks at the ends of their ranges. `special`: typical
values, a few of them NaN or infinite. `user`: the user's own arrays.
"""

DEFAULT_BATCHES = (3, 1, 17)
_BATCHES_OF_HUGE = (2, 1, 3)
_SCALES: Mapping[Rule, float] = {"typical": 1.0, "small": 0.01, "large": 10.0, "huge": 1000.0}
_LENGTH = 16
_SPATIAL = 64
_IMAGE_RANK = 4
_LENGTHENED = 5
_WIDENED = 32
_HEAVY_SAMPLE = 2**15
_HUGE_SAMPLE = 2**18
_HEAVY_DRAW = 2**19
TOKEN_LIMITS = (20_000, 1_000, 100, 10, 2)
"""Vocabulary sizes to try for an integer input: the first one that the source runs is used."""

_KNEES = (0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 1.5, -1.5, 2.5, -2.5, 3.0, -3.0, 6.0, -6.0, 1e-6, -1e-6)
"""Where activations bend (0, 3, 6), rounding ties (halves), signs flip and denominators nearly vanish."""
_LARGE = (1e3, -1e3, 1e4, -1e4)
_LARGE_FLOAT16 = (1e2, -1e2, 1e3, -1e3)
_LARGEST_INTEGER = 2**15
"""Products of two such integers fit into 32 bits, with which one side may count and the other with 64."""


class Role(Enum):
    """What an input is for, as far as its name, dtype and rank tell."""

    VALUES = "values"
    IMAGE = "image"
    TOKENS = "tokens"
    TOKEN_TYPES = "token types"
    INTEGERS = "integers"
    POSITIONS = "positions"
    MASK = "mask"
    LENGTHS = "lengths"


@dataclass(frozen=True)
class InputPlan:
    """One input: its concrete dtype, its shape (a string is a dynamic axis), its role.

    `limit` is the exclusive upper bound of ids, `bounded` says that the graph shows it. `signed`: it is no
    id, so that boundary values may be negative. `nonzero`: it may be a divisor. `bounds` are the least and
    greatest sizes of dynamic axes that do not take every size, `lengths` those dynamic axes that are the
    length of a sequence although the input has the rank of an image, or although they are axis 0 (a mask of
    queries and keys).
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    role: Role
    limit: int = 2
    bounded: bool = False
    signed: bool = False
    nonzero: bool = False
    bounds: Mapping[int, tuple[int, int | None]] = field(default_factory=dict)
    lengths: frozenset[int] = frozenset()

    @property
    def dynamic_batch(self) -> bool:
        return bool(self.shape) and isinstance(self.shape[0], str) and 0 not in self.lengths


@dataclass(frozen=True)
class Draw:
    """One set of inputs. `batch` is the size of axis 0 where that is dynamic, else None.

    `referenced` says whether the source is also run in float64 with it, which takes several times as long.
    `clean` are the samples of a `special` draw, by their index in the batch, that have no NaN or infinity.
    """

    name: str
    rule: Rule
    batch: int | None
    arrays: Mapping[str, Array] = field(repr=False)
    referenced: bool = True
    clean: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return sum(array.size for array in self.arrays.values())


def plan(specs: Sequence[TensorSpec], *, precision: str | None = None) -> list[InputPlan]:
    """Decide the role of every input; `precision` is the dtype of floating inputs where it is not their own.

    Raises InputError for one whose dtype or rank is not known, or whose dtype is not numeric.
    """
    plans = []
    series = {
        size
        for spec in specs
        for size in (spec.shape or ())[1:]
        if isinstance(size, str) and len(spec.shape or ()) < _IMAGE_RANK
    }
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
        if shape and isinstance(shape[0], str) and spec.shape[0] not in series:
            shape = ("batch", *shape[1:])
        role = _role(spec, shape)
        dtype = precision if precision is not None and kind in "fV" else spec.dtype
        plans.append(
            InputPlan(
                spec.name,
                dtype,
                shape,
                role,
                spec.limit or 2,
                bounded=spec.limit is not None,
                bounds=spec.bounds,
                lengths=frozenset(axis for axis, size in enumerate(spec.shape) if size in series),
            )
        )
    return plans


_WORDS = re.compile(r"[a-z]+")


def _role(spec: TensorSpec, shape: tuple[int | str, ...]) -> Role:
    name, dtype = spec.name.lower(), spec.dtype or ""
    if dtype == "bool" or "mask" in name:
        return Role.MASK
    if dtype == "uint8" or (len(shape) == 4 and dtype.startswith(("float", "bfloat"))):
        return Role.IMAGE
    if dtype.startswith(("int", "uint")):
        if "token_type" in name or "segment" in name:
            return Role.TOKEN_TYPES
        if "position" in name:
            return Role.POSITIONS
        if "length" in name or {"len", "lens"} & set(_WORDS.findall(name)):
            return Role.LENGTHS
        return Role.TOKENS
    return Role.VALUES


def draws(
    plans: Sequence[InputPlan],
    *,
    seed: int,
    batches: Sequence[int] | None = None,
    scales: bool = True,
    boundaries: bool = False,
    sizes: Sequence[Shapes] = (),
) -> list[Draw]:
    """The sets of inputs to verify with.

    A typical set of each batch size where axis 0 is dynamic (`batches`; by default DEFAULT_BATCHES, or
    smaller ones for huge samples), three where it is not; other lengths and sides in the second where
    another axis is dynamic. `sizes` are the user's: all are used for typical sets, the first for the others.
    These are, if `scales`, sets of other scales for floating-point inputs, and if `boundaries`, those of
    the rules `boundary` and `special`, and `huge` for small samples. Where a sample is large, they hold one
    or two samples, and a set that is large altogether has no reference unless there are only such sets.
    """
    first: Shapes = sizes[0] if sizes else {}
    dynamic = any(each.dynamic_batch for each in plans)
    heavy = _elements(plans, 1, {}) > _HEAVY_SAMPLE
    usual = DEFAULT_BATCHES if _elements(plans, 1, {}) <= _HUGE_SAMPLE else _BATCHES_OF_HUGE
    counts: list[int | None] = list(batches or usual) if dynamic else [None, None, None]
    made: list[Draw] = []

    def add(rule: Rule, batch: int | None, wanted: Shapes, **options: int) -> None:
        made.append(draw(plans, seed=seed, index=len(made), rule=rule, batch=batch, sizes=wanted, **options))

    for each in sizes or ({},):
        asked = _batch_of(plans, each, None)
        for index, batch in enumerate(counts if asked is None else [asked]):
            add("typical", batch, each, longer=int(index == 1))
    several = _batch_of(plans, first, counts[0]) if dynamic else None
    single = several if sizes or not heavy or not dynamic else 1
    has_floats = any(_is_float(each) and each.role is not Role.MASK for each in plans)
    if scales and has_floats:
        add("small", single, first)
        add("large", single, first)
        if any(each.role is Role.IMAGE and _is_float(each) for each in plans):
            add("pixels", single, first)
    if boundaries and plans:
        few = several if sizes or batches or not heavy or not dynamic else 2
        narrow = any(each.dtype == "float16" for each in plans)
        add("boundary", few, first)
        if not heavy and (few is None or few == 1):
            add("boundary", few, first, kind=1)
        if has_floats and not heavy:
            add("special", few, first)
            add("special", few, first, kind=1)
            if not narrow:
                add("huge", single, first)
    light = [each.size <= _HEAVY_DRAW for each in made]
    return [replace(each, referenced=one or not any(light)) for each, one in zip(made, light, strict=True)]


def _batch_of(plans: Sequence[InputPlan], sizes: Shapes, default: int | None) -> int | None:
    """The batch that the user's sizes ask for, or the default."""
    for each in plans:
        given = sizes.get(each.name)
        if each.dynamic_batch and given is not None and given[0] is not None:
            return given[0]
    return default


def _elements(plans: Sequence[InputPlan], batch: int, sizes: Shapes) -> int:
    return sum(math.prod(concrete(each, batch, sizes)) for each in plans)


def draw(
    plans: Sequence[InputPlan],
    *,
    seed: int,
    index: int,
    rule: Rule,
    batch: int | None,
    longer: int = 0,
    sizes: Shapes | None = None,
    kind: int = 0,
) -> Draw:
    """One set of inputs; the same arguments give the same bits.

    `longer` (0 or 1) makes free sequences longer and free images wider than they are high. `sizes` are
    the user's for the axes of some inputs. `kind` is that of the first sample of a boundary draw; a special
    draw has NaN for 0, infinities for 1.
    """
    shapes = {each.name: concrete(each, batch, sizes or {}, longer) for each in plans}
    arrays = {}
    for each in plans:
        generator = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([seed, index, zlib.crc32(each.name.encode())]))
        )
        job = _Job(each, shapes[each.name], rule, generator, _horizon(plans, shapes, each), kind)
        filled = _typed(np.asarray(_FILLERS[each.role](job)), dtype_named(each.dtype))
        arrays[each.name] = np.ascontiguousarray(filled).reshape(job.shape)
    suffix = "" if batch is None else f"-batch{batch}"
    clean = tuple(range(1, batch)) if rule == "special" and batch is not None else ()
    return Draw(f"{index}-{rule}{suffix}", rule, batch, arrays, clean=clean)


def _typed(values: Array, dtype: np.dtype[Any]) -> Array:
    """Values in a dtype; floats of 8 bits and less saturate, as many of them have no infinity."""
    if dtype.name.startswith(("float8", "float6", "float4")):
        limits = ml_dtypes.finfo(dtype)
        values = np.clip(values, float(limits.min), float(limits.max))
    return values.astype(dtype)


def concrete(each: InputPlan, batch: int | None, sizes: Shapes, longer: int = 0) -> tuple[int, ...]:
    """The size of every axis: the user's, or the batch, the side of an image, the length of a sequence."""
    given = sizes.get(each.name) or (None,) * len(each.shape)
    result = []
    for axis, size in enumerate(each.shape):
        asked = given[axis]
        if isinstance(size, int):
            result.append(size)
        elif asked is not None:
            result.append(asked)
        elif axis == 0 and each.dynamic_batch:
            result.append(batch if batch is not None else 1)
        elif len(each.shape) >= _IMAGE_RANK and axis not in each.lengths:
            wider = longer * _WIDENED * (axis == _last_free(each))
            result.append(_within(each.bounds.get(axis), _SPATIAL, wider))
        else:
            result.append(_within(each.bounds.get(axis), _LENGTH, longer * _LENGTHENED))
    return tuple(result)


def _within(bounds: tuple[int, int | None] | None, size: int, more: int) -> int:
    """A size and some more, or, where that is too much, some less, within the bounds of an axis."""
    least, most = bounds or (1, None)
    usual = max(least, size if most is None else min(size, most))
    if most is None or usual + more <= most:
        return usual + more
    return max(least, usual - more)


def _last_free(each: InputPlan) -> int:
    return max(axis for axis, size in enumerate(each.shape) if isinstance(size, str))


def _horizon(plans: Sequence[InputPlan], shapes: Mapping[str, tuple[int, ...]], own: InputPlan) -> int:
    """The length that lengths and positions must not exceed: axis 1 of the sequences beside them."""
    lengths = [
        shapes[each.name][1]
        for each in plans
        if each.name != own.name and len(each.shape) in (2, 3) and each.role is not Role.LENGTHS
    ]
    return max(1, min(lengths, default=_LENGTH))


def _is_float(each: InputPlan) -> bool:
    return dtype_named(each.dtype).kind in "fVc"


_SPECIAL_VALUES = ((np.nan,), (np.inf, -np.inf))
"""What special draws of the first and the second kind have in the first sample."""
_MIXED, _EXTREME, _TIED = 0, 1, 2
"""Kinds of samples of a boundary draw, one after the other."""


@dataclass(frozen=True)
class _Job:
    """One array to fill."""

    plan: InputPlan
    shape: tuple[int, ...]
    rule: Rule
    generator: np.random.Generator
    horizon: int
    kind: int

    def samples(self) -> int:
        """The number of samples along axis 0 of a batch; 1 where axis 0 is none."""
        return self.shape[0] if self.plan.dynamic_batch and self.shape[0] else 1

    def per_sample(self, fill: Callable[[int, tuple[int, ...]], Array]) -> Array:
        """Fill every sample by its kind."""
        if not self.plan.dynamic_batch or not self.shape[0]:
            return fill(self.kind % 3, self.shape)
        return np.stack([fill((self.kind + i) % 3, self.shape[1:]) for i in range(self.shape[0])])


def _values(job: _Job) -> Array:
    if dtype_named(job.plan.dtype).kind == "c":
        values = np.empty(job.shape, np.complex128)
        values.real, values.imag = _real_values(job), _real_values(job)
        return values
    return _real_values(job)


def _real_values(job: _Job) -> Array:
    if job.rule == "pixels":
        return job.generator.uniform(0, 255, job.shape)
    if job.rule == "boundary":
        return job.per_sample(lambda kind, shape: _boundary_values(job, kind, shape))
    noise = job.generator.standard_normal(job.shape)
    return _with_specials(noise, job) if job.rule == "special" else _SCALES[job.rule] * noise


def _boundary_values(job: _Job, kind: int, shape: tuple[int, ...]) -> Array:
    """Half knees and half noise; with large values besides; or a few values that repeat."""
    generator = job.generator
    if kind == _TIED:
        return generator.choice(generator.choice(np.array(_KNEES), 4, replace=False), shape)
    values = np.where(
        generator.random(shape) < 0.5,
        generator.choice(np.array(_KNEES), shape),
        generator.standard_normal(shape),
    )
    if kind == _EXTREME:
        large = _LARGE_FLOAT16 if job.plan.dtype == "float16" else _LARGE
        values = np.where(generator.random(shape) < 1 / 16, generator.choice(np.array(large), shape), values)
    return values


def _with_specials(values: Array, job: _Job) -> Array:
    """A few NaN or infinities in the first sample, the others untouched.

    Without a batch the last part along axis 0 stays untouched, if there are several.
    """
    marks = _SPECIAL_VALUES[job.kind]
    row = values.reshape(job.samples(), -1)[0]
    parts = job.shape[0] if job.shape and not job.plan.dynamic_batch else 1
    room = row.size - (row.size // parts if parts > 1 else 0)
    count = min(len(marks), room)
    row[job.generator.choice(room, count, replace=False)] = marks[:count]
    return values


def _image(job: _Job) -> Array:
    """Noise for floating point, bytes for integers."""
    if _is_float(job.plan):
        return _values(job)
    if job.rule == "boundary":
        return job.generator.choice(np.array([0, 1, 127, 128, 254, 255]), job.shape)
    return job.generator.integers(0, 256, job.shape)


def _tokens(job: _Job) -> Array:
    """Ids, the first and the last of the vocabulary among them."""
    if job.rule == "boundary" and job.plan.signed:
        return _integers(job)
    limit, low = _representable(job.plan), int(job.plan.nonzero)
    ids = np.asarray(job.generator.integers(low, limit, job.shape))
    if job.rule == "boundary":
        ends = np.asarray(job.generator.choice([low, limit - 1], job.shape))
        ids = np.where(job.generator.random(job.shape) < 0.5, ends, ids)
    if ids.size > 1:
        ids.reshape(-1)[job.generator.choice(ids.size, 2, replace=False)] = (low, limit - 1)
    return ids


def _representable(each: InputPlan) -> int:
    return max(1 + each.nonzero, min(each.limit, np.iinfo(each.dtype).max))


def _token_types(job: _Job) -> Array:
    """A first segment of zeros, then the others in turn, as tokenizers write them."""
    limit = _representable(job.plan)
    if not job.shape:
        return job.generator.integers(0, limit, ())
    starts = job.generator.integers(1, max(2, job.shape[-1]), (*job.shape[:-1], max(1, limit - 1)))
    return np.asarray((np.arange(job.shape[-1])[:, None] >= starts[..., None, :]).sum(-1))


def _integers(job: _Job) -> Array:
    """Integers that are no ids: of both signs where the type has them, small ones and a few at the ends."""
    information = np.iinfo(job.plan.dtype)
    low, high = max(information.min, -job.plan.limit), min(information.max, job.plan.limit)
    values = np.asarray(job.generator.integers(low, high, job.shape))
    if job.rule != "boundary":
        return _without_zeros(values, job)
    ends = [max(information.min, -_LARGEST_INTEGER), min(information.max, _LARGEST_INTEGER)]
    near = job.generator.choice(np.array([0, 1, 2, 3, *(-1, -2, -3) * (low < 0)]), job.shape)
    values = np.where(job.generator.random(job.shape) < 0.5, near, values)
    values = np.where(
        job.generator.random(job.shape) < 1 / 16, job.generator.choice(np.array(ends), job.shape), values
    )
    return _without_zeros(values, job)


def _without_zeros(values: Array, job: _Job) -> Array:
    return np.where(values == 0, 1, values) if job.plan.nonzero else values


def _positions(job: _Job) -> Array:
    """0, 1, 2, ... along the last axis, starting over at the limit."""
    if not job.shape:
        return np.zeros((), np.int64)
    count = np.arange(job.shape[-1])
    return np.broadcast_to(count % job.plan.limit if job.plan.bounded else count, job.shape)


def _mask(job: _Job) -> Array:
    """Mostly ones; the first position of every row always, the last never where there are several.

    So no row is masked out as a whole, whether ones mean what is kept or what is hidden. Rows of a
    boundary draw keep all positions, or the first only.
    """
    mask = job.generator.random(job.shape) < 0.75
    if not mask.ndim or not mask.shape[-1]:
        return mask
    if mask.shape[-1] > 1:
        mask[..., -1:] = False
    if job.rule == "boundary" and job.plan.dynamic_batch and mask.ndim > 1:
        mask[_MIXED::3] = True
        mask[_EXTREME::3] = False
    mask[..., :1] = True
    return mask


def _lengths(job: _Job) -> Array:
    """From the length of the sequences down to 1: in falling order, as packing them may ask for."""
    lengths = np.asarray(job.generator.integers(1, job.horizon + 1, job.shape))
    if lengths.size:
        flat = np.sort(lengths.reshape(-1))[::-1].copy()
        if job.rule == "boundary":
            flat[-1] = 1
        flat[0] = job.horizon
        lengths = flat.reshape(job.shape)
    return lengths


_FILLERS: Mapping[Role, Callable[[_Job], Array]] = {
    Role.VALUES: _values,
    Role.IMAGE: _image,
    Role.TOKENS: _tokens,
    Role.TOKEN_TYPES: _token_types,
    Role.INTEGERS: _integers,
    Role.POSITIONS: _positions,
    Role.MASK: _mask,
    Role.LENGTHS: _lengths,
}
