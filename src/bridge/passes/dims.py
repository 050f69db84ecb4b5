"""What small integer tensors contain, element by element, where it follows from shapes.

Exporters compute the targets of Reshape and Expand from shapes at run time. Following the elements
symbolically tells which of them are numbers after all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import all_nodes, constant, integers, static_shape

Dim = int | str | None
"""An axis or element: a number, the symbol of an axis, or unknown."""

Contents = tuple[Dim, ...]

_LIMIT = 64
"""Elements a tensor may have to be followed."""


def dim_of(axis: int | ir.SymbolicDim) -> Dim:
    return axis if isinstance(axis, int) else axis.value


def contents(value: ir.Value | None, known: Mapping[ir.Value, Contents]) -> Contents | None:
    """The elements of an integer tensor of rank 0 or 1; None if nothing is known about it."""
    if value is None:
        return None
    if value in known:
        return known[value]
    array = None
    if (
        value.const_value is not None
        and len(value.const_value.shape) < 2
        and value.const_value.size <= _LIMIT
    ):
        array = constant(value)
    if array is None or array.dtype.kind not in "iu":
        return None
    return tuple(int(element) for element in array.reshape(-1))


def known_contents(model: ir.Model) -> dict[ir.Value, Contents]:
    """The elements of all computed integer tensors (rank 0 or 1) that follow from shapes and constants."""
    known: dict[ir.Value, Contents] = {}
    for node in all_nodes(model):
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is None or not node.outputs:
            continue
        output = node.outputs[0]
        if output.dtype is not None and not output.dtype.is_integer():
            continue
        elements = rule(node, known)
        if elements is not None and len(elements) <= _LIMIT:
            known[output] = elements
    return known


Rule = Callable[[ir.Node, Mapping[ir.Value, Contents]], Contents | None]


def _shape(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    value = node.inputs[0]
    if value is None or value.shape is None:
        return None
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(value.shape))
    return tuple(dim_of(axis) for axis in value.shape)[slice(*slice(start, end).indices(len(value.shape)))]


def _size(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    shape = static_shape(node.inputs[0])
    return None if shape is None else (int(np.prod(shape, dtype=np.int64)),)


def _same(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    return contents(node.inputs[0], known)


def _reshape(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    shape = node.outputs[0].shape
    return contents(node.inputs[0], known) if shape is not None and len(shape) < 2 else None


def _gather(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    elements, indices = contents(node.inputs[0], known), integers(node.inputs[1])
    shape = static_shape(node.inputs[1])
    if elements is None or indices is None or shape is None or len(shape) > 1:
        return None
    if not all(-len(elements) <= index < len(elements) for index in indices):
        return None
    return tuple(elements[index] for index in indices)


def _slice(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    elements = contents(node.inputs[0], known)
    start, end = integers(node.inputs[1]), integers(node.inputs[2])
    stride = integers(node.inputs[4]) if len(node.inputs) > 4 and node.inputs[4] is not None else (1,)
    if elements is None or start is None or end is None or stride is None or len(start) != 1:
        return None
    return elements[slice(*slice(start[0], end[0], stride[0]).indices(len(elements)))]


def _concat(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    parts = [contents(value, known) for value in node.inputs]
    filled: list[Dim] = []
    for value, part in zip(node.inputs, parts, strict=True):
        if part is None:
            shape = static_shape(value)
            if shape is None or len(shape) != 1:
                return None
            part = (None,) * shape[0]
        filled.extend(part)
    return tuple(filled)


def _reduce_prod(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
    elements = contents(node.inputs[0], known)
    if elements is None or not all(isinstance(element, int) for element in elements):
        return None
    return (int(np.prod([element for element in elements if isinstance(element, int)], dtype=np.int64)),)


def _elementwise(rule: Callable[[Dim, Dim], Dim]) -> Rule:
    def apply(node: ir.Node, known: Mapping[ir.Value, Contents]) -> Contents | None:
        if len(node.inputs) != 2:
            return None
        left, right = contents(node.inputs[0], known), contents(node.inputs[1], known)
        if left is None or right is None or 0 in (len(left), len(right)):
            return None
        count = max(len(left), len(right))
        if len(left) not in (1, count) or len(right) not in (1, count):
            return None
        return tuple(rule(_at(left, index), _at(right, index)) for index in range(count))

    return apply


def _at(elements: Sequence[Dim], index: int) -> Dim:
    return elements[0] if len(elements) == 1 else elements[index]


def _add(left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return left + right
    return right if left == 0 else left if right == 0 else None


def _subtract(left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return left - right
    if left is not None and left == right:
        return 0
    return left if right == 0 else None


def _multiply(left: Dim, right: Dim) -> Dim:
    if isinstance(left, int) and isinstance(right, int):
        return left * right
    return right if left == 1 else left if right == 1 else None


def _divide(left: Dim, right: Dim) -> Dim:
    """ONNX divides integers towards zero; axes are not negative, so other cases are left alone."""
    if isinstance(left, int) and isinstance(right, int) and left >= 0 and right > 0:
        return left // right
    return left if right == 1 else None


def _maximum(left: Dim, right: Dim) -> Dim:
    return max(left, right) if isinstance(left, int) and isinstance(right, int) else None


def _minimum(left: Dim, right: Dim) -> Dim:
    return min(left, right) if isinstance(left, int) and isinstance(right, int) else None


_RULES: dict[str, Rule] = {
    "Add": _elementwise(_add),
    "Cast": _same,
    "CastLike": _same,
    "Concat": _concat,
    "Div": _elementwise(_divide),
    "Gather": _gather,
    "Identity": _same,
    "Max": _elementwise(_maximum),
    "Min": _elementwise(_minimum),
    "Mul": _elementwise(_multiply),
    "ReduceProd": _reduce_prod,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _size,
    "Slice": _slice,
    "Squeeze": _same,
    "Sub": _elementwise(_subtract),
    "Unsqueeze": _reshape,
}
"""How the elements of an operator's result follow from those of its inputs."""
