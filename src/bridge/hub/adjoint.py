"""The derivative of a recipe: from the gradient of a target's tensor to those of the source's tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.recipe import Array, Literal, Recipe, Source, Step


def pull_back(recipe: Recipe, tensors: Mapping[str, Array], gradient: Array) -> dict[str, Array]:
    """The gradient of every source tensor that a recipe reads, given that of its result, in float64.

    `tensors` are the source tensors, as for `recipe.run`. A tensor that is read several times gets the sum.
    Raises ValueError for a recipe that has no derivative (a cast to integers).
    """
    found: dict[str, Array] = {}
    wide = {name: np.asarray(tensors[name], np.float64) for name in set(recipes.sources(recipe))}
    _descend(recipe, wide, np.asarray(gradient, np.float64), found)
    return found


def _descend(recipe: Recipe, tensors: Mapping[str, Array], gradient: Array, found: dict[str, Array]) -> None:
    match recipe:
        case Source(name):
            found[name] = found[name] + gradient if name in found else gradient
        case Step(op, inputs, attributes):
            values = [_wide(recipes.run(each, tensors)) for each in inputs]
            for each, part in zip(inputs, _RULES[op](gradient, *values, **dict(attributes)), strict=True):
                if not isinstance(each, Literal):
                    _descend(each, tensors, part, found)


def _wide(value: Array) -> Array:
    return np.asarray(value, np.float64)


def _reduced(gradient: Array, shape: tuple[int, ...]) -> Array:
    """The sum over the axes along which a value of this shape was repeated."""
    added = gradient.ndim - len(shape)
    repeated = [axis + added for axis, size in enumerate(shape) if size == 1 != gradient.shape[axis + added]]
    return np.asarray(gradient.sum(axis=(*range(added), *repeated))).reshape(shape)


def _concat(gradient: Array, *values: Array, axis: int) -> list[Array]:
    return np.split(gradient, np.cumsum([each.shape[axis] for each in values])[:-1], axis=axis)


def _slice(gradient: Array, value: Array, **attributes: Any) -> list[Array]:
    return _scattered(gradient, value, Step("slice", (Source("x"),), tuple(attributes.items())))


def _take(gradient: Array, value: Array, **attributes: Any) -> list[Array]:
    return _scattered(gradient, value, Step("take", (Source("x"),), tuple(attributes.items())))


def _scattered(gradient: Array, value: Array, move: Recipe) -> list[Array]:
    """Every element of the gradient, added up where the move took it from."""
    places = recipes.run(move, {"x": np.arange(value.size).reshape(value.shape)})
    flat = np.bincount(places.reshape(-1), gradient.reshape(-1), minlength=value.size)
    return [flat.reshape(value.shape)]


def _cast(gradient: Array, _: Array, *, dtype: str) -> list[Array]:
    if recipes.numpy_dtype(dtype).kind in "biu":
        raise ValueError(f"a cast to {dtype} has no derivative")
    return [gradient]


def _mul(gradient: Array, a: Array, b: Array) -> list[Array]:
    return [_reduced(gradient * b, a.shape), _reduced(gradient * a, b.shape)]


def _div(gradient: Array, a: Array, b: Array) -> list[Array]:
    return [_reduced(gradient / b, a.shape), _reduced(-gradient * a / b**2, b.shape)]


_RULES: dict[str, Callable[..., list[Array]]] = {
    "add": lambda gradient, a, b: [_reduced(gradient, a.shape), _reduced(gradient, b.shape)],
    "cast": _cast,
    "concat": _concat,
    "div": _div,
    "exp": lambda gradient, a: [gradient * np.exp(a)],
    "expand": lambda gradient, a, *, shape: [_reduced(gradient, a.shape)],
    "flip": lambda gradient, a, *, axis: [np.flip(gradient, axis)],
    "mul": _mul,
    "neg": lambda gradient, a: [-gradient],
    "reciprocal": lambda gradient, a: [-gradient / a**2],
    "reshape": lambda gradient, a, *, shape: [gradient.reshape(a.shape)],
    "slice": _slice,
    "sqrt": lambda gradient, a: [gradient / (2 * np.sqrt(a))],
    "sub": lambda gradient, a, b: [_reduced(gradient, a.shape), _reduced(-gradient, b.shape)],
    "take": _take,
    "transpose": lambda gradient, a, *, perm: [np.transpose(gradient, np.argsort(perm))],
}
"""For every operation of recipes: from the gradient of its result and its inputs to those of its inputs."""
