"""The shortest form of recipes that only move the elements of one tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bridge.hub.recipe import Recipe, Source, Step, step

Shape = tuple[int, ...]
_Axes = list[tuple[int, int | None]]
"""The axes of a result: extent, and the source's axis that it is (None for an axis of 1 that was added)."""


def simplify(recipe: Recipe, shapes: Mapping[str, Shape]) -> Recipe:
    """A chain of transposes and reshapes of one source that permutes its axes, as one transpose.

    Reshapes may add and remove axes of extent 1 on the way; where the result has more or fewer of them
    than the source, one reshape remains. Anything else is returned as it is. `shapes` are the sources'.
    """
    match recipe:
        case Step("reshape" | "transpose"):
            axes = _axes(recipe, shapes)
            return recipe if axes is None else _rebuilt(recipe, axes, shapes)
        case Step(op, inputs, attributes):
            return Step(op, tuple(simplify(each, shapes) for each in inputs), attributes)
    return recipe


def _axes(recipe: Recipe, shapes: Mapping[str, Shape]) -> _Axes | None:
    match recipe:
        case Source(name):
            return [(size, axis) for axis, size in enumerate(shapes[name])] if name in shapes else None
        case Step("transpose", (inner,), attributes):
            axes = _axes(inner, shapes)
            return None if axes is None else [axes[axis] for axis in dict(attributes)["perm"]]
        case Step("reshape", (inner,), attributes):
            axes = _axes(inner, shapes)
            return None if axes is None else _reshaped(axes, dict(attributes)["shape"])
    return None


def _reshaped(axes: _Axes, shape: Sequence[int]) -> _Axes | None:
    """The axes after a reshape that adds and removes axes of 1; None if it does more."""
    wide = [axis for axis in axes if axis[0] != 1]
    if [size for size, _ in wide] != [size for size in shape if size != 1]:
        return None
    following = iter(wide)
    return [(1, None) if size == 1 else next(following) for size in shape]


def _rebuilt(recipe: Recipe, axes: _Axes, shapes: Mapping[str, Shape]) -> Recipe:
    source = recipe
    while isinstance(source, Step):
        (source,) = source.inputs
    assert isinstance(source, Source)
    shape = shapes[source.name]
    idle = [axis for axis, size in enumerate(shape) if size == 1]
    if len(axes) == len(shape):
        free = iter(idle)
        return step("transpose", source, perm=[next(free) if size == 1 else axis for size, axis in axes])
    wide = [axis for size, axis in axes if size != 1]
    perm = [*idle, *(axis for axis in wide if axis is not None)]
    moved = source if wide == sorted(wide, key=_position) else step("transpose", source, perm=perm)
    return step("reshape", moved, shape=[size for size, _ in axes])


def _position(axis: int | None) -> int:
    return -1 if axis is None else axis
