"""Operators as recipe steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import attribute, constant, integers, static_shape
from bridge.hub.recipe import Literal, Recipe, step

_LITERAL = 256
"""Elements a constant may have that becomes part of a recipe."""

_INDICES = 4096
"""Indices a recipe may list."""


def literal(value: ir.Value) -> Recipe | None:
    """A plain constant as part of a recipe, if it is small or all of one value."""
    array = constant(value)
    if array is None or array.size == 0 or array.dtype.kind in "USOV":
        return None
    if array.dtype.kind in "fc" and not np.all(np.isfinite(array)):
        return None
    if array.size <= _LITERAL:
        return Literal(_nested(array.tolist()), array.dtype.name)
    first = array.reshape(-1)[0]
    if np.all(array == first):
        return step("expand", Literal(first.item(), array.dtype.name), shape=array.shape)
    return None


def _nested(value: Any) -> Any:
    """Lists as tuples, so that recipes can be compared and hashed."""
    return tuple(_nested(each) for each in value) if isinstance(value, list) else value


Operands = Sequence[Recipe | None]
Translation = Callable[[ir.Node, Operands], "list[Recipe] | None"]


def _data(operands: Operands) -> Recipe:
    assert operands[0] is not None
    return operands[0]


def _reshape(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    shape = static_shape(node.outputs[0])
    return None if operands[0] is None else [step("reshape", operands[0], shape=shape)]


def _identity(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    return [_data(operands)]


def _transpose(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    shape = static_shape(node.outputs[0])
    assert shape is not None
    perm = attribute(node, "perm", tuple(reversed(range(len(shape)))))
    return [step("transpose", _data(operands), perm=perm)]


def _concat(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    parts = [part for part in operands if part is not None]
    if len(parts) != len(node.inputs):
        return None
    return [step("concat", *parts, axis=_axis(node, node.outputs[0]))]


def _axis(node: ir.Node, value: ir.Value | None, default: int = 0) -> int:
    shape = static_shape(value)
    assert shape is not None
    axis = attribute(node, "axis", default)
    assert isinstance(axis, int)
    return axis % len(shape)


def _split(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    axis = _axis(node, node.outputs[0])
    parts: list[Recipe] = []
    start = 0
    for output in node.outputs:
        shape = static_shape(output)
        assert shape is not None
        parts.append(step("slice", _data(operands), axis=axis, start=start, stop=start + shape[axis]))
        start += shape[axis]
    return parts


def _slice(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    shape = static_shape(node.inputs[0])
    starts, ends = integers(node.inputs[1]), integers(node.inputs[2])
    if shape is None or starts is None or ends is None:
        return None
    axes = integers(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else tuple(range(len(starts)))
    steps = integers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] else (1,) * len(starts)
    if axes is None or steps is None:
        return None
    recipe = _data(operands)
    for axis, start, end, stride in zip(axes, starts, ends, steps, strict=True):
        size = shape[axis]
        picked = range(*slice(start, end, stride).indices(size))
        if list(picked) == list(range(size)):
            continue
        if list(picked) == list(reversed(range(size))):
            recipe = step("flip", recipe, axis=axis % len(shape))
        elif stride > 0:
            recipe = step(
                "slice", recipe, axis=axis % len(shape), start=picked.start, stop=picked.stop, step=stride
            )
        else:
            return None
    return [recipe]


def _gather(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    shape, indices = static_shape(node.inputs[0]), integers(node.inputs[1])
    result = static_shape(node.outputs[0])
    if shape is None or indices is None or len(indices) > _INDICES or operands[0] is None:
        return None
    axis = _axis(node, node.inputs[0])
    positions = [index % shape[axis] for index in indices]
    taken = step("take", operands[0], axis=axis, indices=positions)
    index = node.inputs[1]
    assert index is not None
    return [taken if static_shape(index) == (len(positions),) else step("reshape", taken, shape=result)]


def _cast(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    dtype = node.outputs[0].dtype
    assert dtype is not None
    return [step("cast", _data(operands), dtype=dtype.numpy().name)]


def _expand(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    shape = static_shape(node.outputs[0])
    return None if operands[0] is None else [step("expand", operands[0], shape=shape)]


def _arithmetic(node: ir.Node, operands: Operands) -> list[Recipe] | None:
    """Floating-point arithmetic; ONNX divides integers differently from numpy."""
    dtype = node.outputs[0].dtype
    parts = [part for part in operands if part is not None]
    if dtype is None or not dtype.is_floating_point() or len(parts) != len(node.inputs):
        return None
    return [step(node.op_type.lower(), *parts)]


_TRANSLATIONS: dict[str, Translation] = {
    "Cast": _cast,
    "Concat": _concat,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Identity": _identity,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _reshape,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
    **dict.fromkeys(("Add", "Div", "Exp", "Mul", "Neg", "Reciprocal", "Sqrt", "Sub"), _arithmetic),
}
"""How an operator's outputs follow from its inputs, as recipes."""


def translation(node: ir.Node) -> Translation | None:
    """The rule that writes a node's outputs as recipes over its inputs' recipes, if there is one.

    The rule answers None where a recipe cannot say what the node does. It needs static shapes. There is none
    for an Identity that stops gradients: what a recipe makes of a parameter is trained.
    """
    if node.domain != "" or metadata.stops_gradient(node):
        return None
    return _TRANSLATIONS.get(node.op_type)
