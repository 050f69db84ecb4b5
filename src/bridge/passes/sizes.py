"""Shapes that are computed from the sizes of axes, written as those sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import constant, fuse, integers, scalar
from bridge.hub.recipe import Array
from bridge.passes.dims import Contents, Dim, contents, dim_of, known_contents
from bridge.passes.linear import DOMAIN

_POSITIONS = (ir.DataType.INT32, ir.DataType.INT64)
_NUMBERS = (
    *(ir.DataType.BOOL, ir.DataType.INT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.INT64),
    *(ir.DataType.UINT8, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE),
)
"""The element types that are filled with numbers; the others are left to the operators they come from."""
_NUMBER = -1
"""The owner of a size that is a number."""


class _Size(NamedTuple):
    """One axis of a shape: a number, or the size of an axis of a tensor."""

    owner: ir.Value | None
    number: int
    """The number itself, or the axis of `owner`."""


def write_sizes(model: ir.Model) -> ir.Model:
    """Reshape, Expand, ConstantOfShape, Range and Slice by the sizes of axes, as code in a framework does it.

    An exporter reads sizes with Shape and Gather and joins them with Concat. Here the operator names the
    tensors that have them: `bridge::Reshape(x, *others)` to `sizes`, of which element i is the number
    `sizes[i]` if `owners[i]` is -1, and else the size of the axis `sizes[i]` of x (0) or of one of `others`
    (1 and up). `bridge::Expand` is alike, and so is `bridge::Full`, which is filled with the number `value`
    of the type `dtype`; `bridge::Arange` counts up to the size of an axis (in steps of `step`), and
    `bridge::Slice` cuts an axis off there. Tensors are taken from the node's own module where it has them.
    Needs inferred shapes; does not keep the graph valid ONNX.
    """
    known = known_contents(model)
    sources = _Sources(model.graph)
    for node in list(model.graph):
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        written = None if rule is None else rule(node, known, sources)
        sources.add(node if written is None else written)
    return model


class _Sources:
    """The tensors that a module has at a place of the graph, in order."""

    def __init__(self, graph: ir.Graph) -> None:
        self._of_scope: dict[metadata.Scope, dict[ir.Value, None]] = {}
        self._inputs = list(graph.inputs)
        self._all: dict[ir.Value, None] = dict.fromkeys(graph.inputs)

    def add(self, node: ir.Node) -> None:
        """Note what a node reads and makes."""
        scope = metadata.scope_of(node) or ()
        values = [
            value
            for value in (*node.inputs, *node.outputs)
            if value is not None and value.const_value is None
        ]
        self._of_scope.setdefault(scope, {}).update(dict.fromkeys(values))
        self._all.update(dict.fromkeys(values))

    def find(self, symbol: str, node: ir.Node) -> _Size | None:
        """An axis of this size: of a tensor that the node's module has, or of any before it."""
        scope = metadata.scope_of(node) or ()
        for values in (node.inputs, self._of_scope.get(scope, ()), self._all):
            for value in values:
                if value is not None and value.shape is not None and value.const_value is None:
                    for axis, size in enumerate(value.shape):
                        if dim_of(size) == symbol:
                            return _Size(value, axis)
        return None


def _sizes(elements: Sequence[Dim], node: ir.Node, sources: _Sources) -> list[_Size] | None:
    sizes: list[_Size] = []
    for element in elements:
        if element is None:
            return None
        size = _Size(None, element) if isinstance(element, int) else sources.find(element, node)
        if size is None:
            return None
        sizes.append(size)
    return sizes


def _template(sizes: Sequence[_Size], data: ir.Value | None) -> tuple[list[ir.Value], dict[str, list[int]]]:
    """The tensors beside `data` whose sizes are used, and the attributes `owners` and `sizes`."""
    tensors = [] if data is None else [data]
    owners = []
    for size in sizes:
        if size.owner is not None and not any(size.owner is each for each in tensors):
            tensors.append(size.owner)
        owners.append(
            _NUMBER
            if size.owner is None
            else next(index for index, each in enumerate(tensors) if each is size.owner)
        )
    others = tensors if data is None else tensors[1:]
    return others, {"owners": owners, "sizes": [size.number for size in sizes]}


def _reshape(node: ir.Node, known: Mapping[ir.Value, Contents], sources: _Sources) -> ir.Node | None:
    data, target = node.inputs[0], node.inputs[1]
    elements = contents(target, known)
    if data is None or data.shape is None or elements is None:
        return None
    if 0 in elements and node.attributes.get_int("allowzero", 0) != 0:
        return None
    kept = [axis for axis, element in enumerate(elements) if element == 0]
    if len(elements) > len(data.shape) and any(axis >= len(data.shape) for axis in kept):
        return None
    is_constant = integers(target) is not None
    if is_constant and len(kept) < 2:
        return None
    free = [axis for axis, element in enumerate(elements) if element in (-1, None)]
    if len(free) > 1:
        return None
    inferred = [axis for axis, element in enumerate(elements) if element == 0 or isinstance(element, str)]
    unknown = free[0] if free else inferred[0] if inferred else None
    sizes: list[_Size] = []
    for axis, element in enumerate(elements):
        if axis == unknown:
            sizes.append(_Size(None, -1))
        elif element == 0:
            size = data.shape[axis]
            sizes.append(_Size(None, size) if isinstance(size, int) else _Size(data, axis))
        else:
            found = _sizes([element], node, sources)
            if found is None:
                return None
            sizes.extend(found)
    others, attributes = _template(sizes, data)
    return fuse([node], "Reshape", [data, *others], attributes, domain=DOMAIN)


def _expand(node: ir.Node, known: Mapping[ir.Value, Contents], sources: _Sources) -> ir.Node | None:
    """Only where the wanted shape is that of the result: every axis of the data is that long, or 1."""
    data, target = node.inputs[0], node.inputs[1]
    elements = contents(target, known)
    if data is None or data.shape is None or elements is None or integers(target) is not None:
        return None
    new = len(elements) - len(data.shape)
    if new < 0:
        return None
    wanted: list[Dim] = []
    for element, axis in zip(elements, [1] * new + [dim_of(axis) for axis in data.shape], strict=True):
        if axis not in (1, element) and element != 1:
            return None
        wanted.append(axis if element == 1 else element)
    sizes = _sizes(wanted, node, sources)
    if sizes is None:
        return None
    fill = constant(data)
    if fill is not None and fill.size == 1 and any(size.owner is not None for size in sizes):
        filled = _filled(node, fill, sizes)
        if filled is not None:
            return filled
    others, attributes = _template(sizes, data)
    return fuse([node], "Expand", [data, *others], attributes, domain=DOMAIN)


def _full(node: ir.Node, known: Mapping[ir.Value, Contents], sources: _Sources) -> ir.Node | None:
    elements = contents(node.inputs[0], known)
    if elements is None or integers(node.inputs[0]) is not None:
        return None
    sizes = _sizes(elements, node, sources)
    if sizes is None or all(size.owner is None for size in sizes):
        return None
    value = node.attributes.get("value")
    return _filled(node, np.zeros(1, np.float32) if value is None else value.as_tensor().numpy(), sizes)


def _filled(node: ir.Node, fill: Array, sizes: Sequence[_Size]) -> ir.Node | None:
    """A node for a tensor of one number, in the fewest digits that give it in its own type.

    None for element types that frameworks have no numbers of.
    """
    dtype = node.outputs[0].dtype
    if dtype not in _NUMBERS:
        return None
    number = fill.reshape(-1)[0]
    value = int(number) if fill.dtype.kind in "iub" else float(str(number))
    others, attributes = _template(sizes, None)
    return fuse([node], "Full", others, {**attributes, "value": value, "dtype": int(dtype)}, domain=DOMAIN)


def _arange(node: ir.Node, known: Mapping[ir.Value, Contents], sources: _Sources) -> ir.Node | None:
    start, limit, step = node.inputs
    elements = contents(limit, known)
    if elements is None or len(elements) != 1 or not isinstance(elements[0], str) or limit is None:
        return None
    apart = scalar(step)
    if scalar(start) != 0 or apart is None or apart < 1 or limit.dtype not in _POSITIONS:
        return None
    size = sources.find(elements[0], node)
    if size is None:
        return None
    attributes = {"axis": size.number}
    if apart != 1:
        attributes["step"] = int(apart)
    return fuse([node], "Arange", [size.owner], attributes, domain=DOMAIN)


def _slice(node: ir.Node, known: Mapping[ir.Value, Contents], sources: _Sources) -> ir.Node | None:
    """Along one axis, up to the size of another."""
    data, starts, ends, axes, steps = (*node.inputs, None, None)[:5]
    start, axis, end = integers(starts), integers(axes), contents(ends, known)
    step = (1,) if steps is None else integers(steps)
    if data is None or data.shape is None or end is None or len(end) != 1 or not isinstance(end[0], str):
        return None
    if start is None or step != (1,) or start[0] < 0:
        return None
    size = sources.find(end[0], node)
    if size is None:
        return None
    place = (0 if axis is None else axis[0]) % len(data.shape)
    attributes = {"start": start[0], "axis": place, "of": size.number}
    return fuse([node], "Slice", [data, size.owner], attributes, domain=DOMAIN)


_RULES = {
    "ConstantOfShape": _full,
    "Expand": _expand,
    "Range": _arange,
    "Reshape": _reshape,
    "Slice": _slice,
}
