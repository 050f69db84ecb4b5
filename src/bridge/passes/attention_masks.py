"""Masks of attention: those that follow from positions alone, and those that are repeated for nothing."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, integers, producer, scalar
from bridge.passes.dims import dim_of
from bridge.passes.positions import Facts, counts

_MASK = 3
_BEFORE = {"LessOrEqual": (0, 1, 0), "GreaterOrEqual": (1, 0, 0), "Less": (0, 1, 1), "Greater": (1, 0, 1)}
"""Which operands are the positions of keys and of queries, and how much later queries may count."""

_BEHIND = {"Greater": (0, 1, 0), "GreaterOrEqual": (0, 1, 1), "Less": (1, 0, 0), "LessOrEqual": (1, 0, 1)}
"""The same for comparisons that mark the keys behind a query."""


def recognise_causal_masks(model: ir.Model) -> ir.Model:
    """Masks that let each query see the keys up to its own position, as `is_causal`.

    Queries and keys have to be equally many, and the mask has to be that comparison alone, or the triangle
    of a square, as truth values or as zeros and minus infinities. Needs inferred shapes.
    """
    nodes = [node for node in model.graph if node.op_type == "Attention" and node.domain == ""]
    facts = counts(model) if nodes else {}
    for node in nodes:
        present = [index for index, value in enumerate(node.inputs) if value is not None]
        if present != [0, 1, 2, _MASK] or node.attributes.get_int("is_causal", 0) != 0:
            continue
        if _is_causal(node.inputs[_MASK], facts):
            node.resize_inputs(_MASK)
            node.attributes.add(ir.AttrInt64("is_causal", 1))
    return model


def _is_causal(mask: ir.Value | None, facts: Facts) -> bool:
    mask = _unspread(mask)
    if mask is None or _square(mask) is None:
        return False
    if mask.dtype == ir.DataType.BOOL:
        return _marks_later(mask, facts, marked=False)
    if _triangle(mask, upper=1) == -math.inf:
        return True
    where = producer(mask, "Where")
    if where is None:
        return False
    condition, first, second = where.inputs
    numbers = _number(first), _number(second)
    for wanted, marked in (((-math.inf, 0.0), True), ((0.0, -math.inf), False)):
        if numbers == wanted:
            return _square(condition) == _square(mask) and _marks_later(condition, facts, marked=marked)
    return False


def _unspread(value: ir.Value | None) -> ir.Value | None:
    """A value before axes of 1 were put in front of it, or it was repeated along others than its last two."""
    while (node := producer(value, "Expand", "Unsqueeze")) is not None:
        source = node.inputs[0]
        if source is None or source.shape is None:
            return value
        if _square(source) is None or _square(source) != _square(value):
            return value
        if node.op_type == "Unsqueeze" and not _in_front(node, source):
            return value
        value = source
    return value


def _in_front(node: ir.Node, source: ir.Value) -> bool:
    axes = integers(node.inputs[1])
    assert source.shape is not None
    count = len(source.shape) + len(axes or ())
    return axes is not None and all(axis % count < len(axes) for axis in axes)


def _marks_later(condition: ir.Value | None, facts: Facts, *, marked: bool) -> bool:
    """Whether a condition is `marked` for the keys behind a query's own position, and not for the others."""
    condition = _unspread(condition)
    node = producer(condition, "Not")
    if node is not None:
        return _marks_later(node.inputs[0], facts, marked=not marked)
    if _triangle(condition, upper=int(marked)) == 1:
        return True
    table = _BEHIND if marked else _BEFORE
    comparison = producer(condition, *table)
    if comparison is None:
        return False
    keys, queries, later = table[comparison.op_type]
    key, query = (facts.get(value) if (value := comparison.inputs[at]) else None for at in (keys, queries))
    if key is None or query is None:
        return False
    return (key.axis, query.axis) == (-1, -2) and query.start - key.start == later


def _triangle(value: ir.Value | None, *, upper: int) -> float | None:
    """The number that fills a square above its diagonal, or up to it where not `upper`, beside zeros."""
    node = producer(value, "Trilu")
    if node is None or attribute(node, "upper", 1) != upper:
        return None
    first = scalar(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else 0
    return _number(node.inputs[0]) if first == upper else None


def _number(value: ir.Value | None) -> float | None:
    """The number that a value is throughout."""
    while (node := producer(value, "Expand")) is not None:
        value = node.inputs[0]
    filled = producer(value, "ConstantOfShape")
    if filled is None:
        array = constant(value)
        same = array is not None and array.size > 0 and bool(np.all(array == array.flat[0]))
        return float(array.flat[0]) if array is not None and same else None
    tensor = filled.attributes.get("value")
    return 0.0 if tensor is None else float(tensor.as_tensor().numpy().flat[0])


def _square(mask: ir.Value | None) -> int | str | None:
    """The size of the last two axes if it is the same."""
    if mask is None or mask.shape is None or len(mask.shape) < 2:
        return None
    last, before = dim_of(mask.shape[-1]), dim_of(mask.shape[-2])
    return last if last == before else None


def shrink_masks(model: ir.Model) -> ir.Model:
    """Let `Attention` read a mask before it is expanded: it is broadcast along all axes but the last anyhow.

    Along the last axis a mask that is too short would mask the keys that it lacks. Needs inferred shapes.
    Runtimes need not take such masks, which the standard allows; the targets' lowerings do.
    """
    for node in model.graph:
        if node.op_type != "Attention" or node.domain != "" or len(node.inputs) <= _MASK:
            continue
        while (expand := producer(node.inputs[_MASK], "Expand")) is not None:
            mask, expanded = expand.inputs[0], expand.outputs[0]
            if mask is None or mask.shape is None or expanded.shape is None or len(mask.shape) < 2:
                break
            last = dim_of(mask.shape[-1])
            if last is None or last != dim_of(expanded.shape[-1]):
                break
            node.replace_input_with(_MASK, mask)
    return model
