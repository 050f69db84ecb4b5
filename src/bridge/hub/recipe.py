"""Recipes: how a tensor is computed from the source's trained tensors, as data.

A recipe is an expression over named source tensors. It can be run on another checkpoint (or on an
optimizer's moments), written to weights.json, and, where it only moves elements, inverted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Source:
    """A tensor of the source checkpoint, by its original path."""

    name: str


@dataclass(frozen=True)
class Literal:
    """A small constant that takes part in a computation, as nested lists and a numpy dtype name."""

    value: Any
    dtype: str


@dataclass(frozen=True)
class Step:
    """An operation on one or more recipes. `attributes` are JSON values, sorted by name."""

    op: str
    inputs: tuple[Recipe, ...]
    attributes: tuple[tuple[str, Any], ...] = ()


Recipe = Source | Literal | Step


def _slice(array: Array, *, axis: int, start: int, stop: int, step: int = 1) -> Array:
    index: list[slice] = [slice(None)] * array.ndim
    index[axis] = slice(start, stop, step)
    return array[tuple(index)]


def _reshape(array: Array, *, shape: Sequence[int]) -> Array:
    return np.reshape(array, tuple(shape))


def _transpose(array: Array, *, perm: Sequence[int]) -> Array:
    return np.transpose(array, tuple(perm))


def _concat(*arrays: Array, axis: int) -> Array:
    return np.concatenate(arrays, axis=axis)


def _flip(array: Array, *, axis: int) -> Array:
    return np.flip(array, axis=axis)


def _take(array: Array, *, axis: int, indices: Sequence[int]) -> Array:
    return np.take(array, np.asarray(indices, dtype=np.int64), axis=axis)


def _cast(array: Array, *, dtype: str) -> Array:
    return array.astype(numpy_dtype(dtype))


def _expand(array: Array, *, shape: Sequence[int]) -> Array:
    return np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape)))


_MOVES: dict[str, Callable[..., Array]] = {
    "concat": _concat,
    "flip": _flip,
    "reshape": _reshape,
    "slice": _slice,
    "take": _take,
    "transpose": _transpose,
}
"""Operations that place every element unchanged; a composition of them may be inverted."""

_COMPUTATIONS: dict[str, Callable[..., Array]] = {
    "add": np.add,
    "cast": _cast,
    "div": np.divide,
    "exp": np.exp,
    "expand": _expand,
    "mul": np.multiply,
    "neg": np.negative,
    "reciprocal": np.reciprocal,
    "sqrt": np.sqrt,
    "sub": np.subtract,
}
"""Operations that change values; they can be run on another checkpoint but not inverted."""


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy dtype of a name, the ml_dtypes extensions (`bfloat16`, `float8_e4m3fn`) included."""
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def step(op: str, *inputs: Recipe, **attributes: Any) -> Recipe:
    """An operation applied to recipes; adjacent transposes and reshapes are merged, identities dropped.

    Raises KeyError for an operation that recipes do not know.
    """
    if op not in _MOVES and op not in _COMPUTATIONS:
        raise KeyError(op)
    frozen = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in attributes.items()}
    if op == "transpose":
        perm = frozen["perm"]
        (inner,) = inputs
        if isinstance(inner, Step) and inner.op == "transpose":
            inner_perm = dict(inner.attributes)["perm"]
            return step("transpose", *inner.inputs, perm=[inner_perm[axis] for axis in perm])
        if perm == tuple(range(len(perm))):
            return inner
    if op == "reshape" and isinstance(inputs[0], Step) and inputs[0].op == "reshape":
        inputs = inputs[0].inputs
    return Step(op, tuple(inputs), tuple(sorted(frozen.items())))


def run(recipe: Recipe, tensors: Mapping[str, Array]) -> Array:
    """Compute a recipe from source tensors. Raises KeyError naming the first tensor that is missing."""
    match recipe:
        case Source(name):
            return tensors[name]
        case Literal(value, dtype):
            return np.asarray(value, dtype=numpy_dtype(dtype))
        case Step(op, inputs, attributes):
            function = _MOVES.get(op) or _COMPUTATIONS[op]
            return function(*(run(each, tensors) for each in inputs), **dict(attributes))


def sources(recipe: Recipe) -> Iterator[str]:
    """The names of the source tensors a recipe reads, in order of appearance, with repetitions."""
    match recipe:
        case Source(name):
            yield name
        case Step(_, inputs, _):
            for each in inputs:
                yield from sources(each)


def is_move(op: str) -> bool:
    """Whether an operation places every element unchanged."""
    return op in _MOVES


def only_moves(recipe: Recipe) -> bool:
    """Whether every element of the result is an unchanged element of a source tensor."""
    match recipe:
        case Source():
            return True
        case Literal():
            return False
        case Step(op, inputs, _):
            return op in _MOVES and all(only_moves(each) for each in inputs)


def element_indices(recipe: Recipe, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[Array, Array]]:
    """For a recipe that only moves: which elements of the result come from which of each source.

    Returns, by source name, a pair of flat int64 index arrays `(in_source, in_result)`. The inverse
    of the recipe is `source.flat[in_source] = result.flat[in_result]`. Raises ValueError if the
    recipe computes.
    """
    if not only_moves(recipe):
        raise ValueError("only a recipe that moves elements has an inverse")
    names = sorted(set(sources(recipe)))
    start, ids = 0, {}
    offsets = {}
    for name in names:
        size = int(np.prod(shapes[name], dtype=np.int64))
        ids[name] = np.arange(start, start + size, dtype=np.int64).reshape(shapes[name])
        offsets[name] = (start, start + size)
        start += size
    flat = run(recipe, ids).reshape(-1)
    result = {}
    for name, (low, high) in offsets.items():
        (in_result,) = np.nonzero((flat >= low) & (flat < high))
        result[name] = (flat[in_result] - low, in_result)
    return result


def to_json(recipe: Recipe) -> Any:
    """The JSON form: `{"source": name}`, `{"literal": ..., "dtype": ...}` or `{"op": ..., "of": [...]}`."""
    match recipe:
        case Source(name):
            return {"source": name}
        case Literal(value, dtype):
            return {"literal": value, "dtype": dtype}
        case Step(op, inputs, attributes):
            plain = {k: list(v) if isinstance(v, tuple) else v for k, v in attributes}
            return {"op": op, **plain, "of": [to_json(each) for each in inputs]}


def from_json(record: Any) -> Recipe:
    """The inverse of `to_json`. Raises ValueError on a record that is not a recipe."""
    if not isinstance(record, dict):
        raise ValueError(f"a recipe is a JSON object, not {record!r}")
    if "source" in record:
        return Source(str(record["source"]))
    if "literal" in record:
        return Literal(record["literal"], str(record["dtype"]))
    op = record.get("op")
    if op not in _MOVES and op not in _COMPUTATIONS:
        raise ValueError(f"unknown recipe operation {op!r}")
    attributes = {
        k: tuple(v) if isinstance(v, list) else v for k, v in record.items() if k not in ("op", "of")
    }
    return Step(str(op), tuple(from_json(each) for each in record["of"]), tuple(sorted(attributes.items())))
