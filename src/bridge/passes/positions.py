"""What follows from positions alone: arithmetic on `0, 1, 2, ...` along an axis, of which masks are made.

Exporters spell masks as comparisons of positions, and look masks up at positions. Here every value is
followed that has one number throughout, or counts along one axis; lookups at all positions in order are
the data itself, and what is true everywhere restricts nothing.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, constant, fuse, integers, rank, replace_value
from bridge.passes.dims import dim_of


@dataclass(frozen=True)
class Count:
    """The elements of a value: `start` plus the position along `axis`, counted from the last one as -1.

    Without an axis it is `start` everywhere (0 and 1 for truth values).
    """

    axis: int | None
    start: int


Facts = Mapping[ir.Value, Count]


def simplify_positions(model: ir.Model) -> ir.Model:
    """Look up nothing at all positions in order, and leave out conditions that hold everywhere.

    Needs inferred shapes.
    """
    facts: dict[ir.Value, Count] = {}
    for node in list(model.graph):
        found = _follow(node, facts)
        if found is not None:
            facts[node.outputs[0]] = found
        elif node.op_type == "GatherND" and node.domain == "":
            _look_up(node, facts)
        elif node.op_type in ("And", "Or") and node.domain == "":
            _decide(node, facts)
    return model


def counts(model: ir.Model) -> dict[ir.Value, Count]:
    """The values that have one number throughout or count along an axis. Needs inferred shapes."""
    facts: dict[ir.Value, Count] = {}
    for node in model.graph:
        found = _follow(node, facts)
        if found is not None:
            facts[node.outputs[0]] = found
    return facts


def _follow(node: ir.Node, facts: Facts) -> Count | None:
    rule = _RULES.get(node.op_type) if node.domain == "" and len(node.outputs) == 1 else None
    found = None if rule is None else rule(node, facts)
    return None if found is None else _shortened(found, node.outputs[0])


def _shortened(fact: Count, value: ir.Value) -> Count:
    """Along an axis of one element nothing is counted."""
    if fact.axis is not None and value.shape is not None and value.shape[fact.axis] == 1:
        return Count(None, fact.start)
    return fact


def _fact(value: ir.Value | None, facts: Facts) -> Count | None:
    if value is None:
        return None
    if value in facts:
        return facts[value]
    array = constant(value)
    if array is None or array.dtype.kind not in "iub" or array.size == 0 or (array != array.flat[0]).any():
        return None
    return Count(None, int(array.flat[0]))


def _range(node: ir.Node, facts: Facts) -> Count | None:
    start, step = integers(node.inputs[0]), integers(node.inputs[2])
    return Count(-1, start[0]) if start is not None and step == (1,) else None


def _same(node: ir.Node, facts: Facts) -> Count | None:
    return _fact(node.inputs[0], facts)


def _cast(node: ir.Node, facts: Facts) -> Count | None:
    fact, dtype = _fact(node.inputs[0], facts), node.outputs[0].dtype
    if fact is None or dtype is None:
        return None
    if dtype is ir.DataType.BOOL:
        return Count(None, int(fact.start != 0)) if fact.axis is None else None
    return fact if dtype in (ir.DataType.INT64, ir.DataType.INT32) else None


def _uniform(node: ir.Node, facts: Facts) -> Count | None:
    """Elements that are all alike are so in any arrangement."""
    fact = _fact(node.inputs[0], facts)
    return fact if fact is not None and fact.axis is None else None


def _unsqueeze(node: ir.Node, facts: Facts) -> Count | None:
    fact, axes, count = _fact(node.inputs[0], facts), integers(node.inputs[1]), rank(node.outputs[0])
    if fact is None or axes is None or count is None:
        return None
    if fact.axis is None:
        return fact
    new = {axis % count for axis in axes}
    kept = [axis for axis in range(count) if axis not in new]
    return replace(fact, axis=kept[fact.axis] - count)


def _slice(node: ir.Node, facts: Facts) -> Count | None:
    fact, count = _fact(node.inputs[0], facts), rank(node.inputs[0])
    _, starts, _, axes, steps = (*node.inputs, None, None)[:5]
    begins, places = integers(starts), integers(axes)
    if fact is None or fact.axis is None or count is None:
        return fact
    if begins is None or (axes is not None and places is None):
        return None
    if steps is not None and set(integers(steps) or (0,)) != {1}:
        return None
    for begin, place in zip(begins, range(len(begins)) if places is None else places, strict=True):
        if place % count == fact.axis % count:
            return None if begin < 0 else replace(fact, start=fact.start + begin)
    return fact


def _concat(node: ir.Node, facts: Facts) -> Count | None:
    count = rank(node.outputs[0])
    if count is None:
        return None
    axis = node.attributes.get_int("axis", 0) % count - count
    first = expected = None
    for value in node.inputs:
        fact = _fact(value, facts)
        if fact is None or value is None or value.shape is None:
            return None
        length = value.shape[axis]
        if fact.axis not in (None, axis) or (fact.axis is None and length != 1):
            return None
        if first is None:
            first = fact.start
        elif fact.start != expected:
            return None
        expected = fact.start + length if isinstance(length, int) else None
    return None if first is None else Count(axis, first)


def _sum(sign: int) -> Callable[[ir.Node, Facts], Count | None]:
    def rule(node: ir.Node, facts: Facts) -> Count | None:
        left, right = _fact(node.inputs[0], facts), _fact(node.inputs[1], facts)
        if left is None or right is None:
            return None
        start = left.start + sign * right.start
        if right.axis is None:
            return Count(left.axis, start)
        if sign > 0 and left.axis is None:
            return Count(right.axis, start)
        return Count(None, start) if sign < 0 and left.axis == right.axis else None

    return rule


def _comparison(holds: Callable[[int, int], bool]) -> Callable[[ir.Node, Facts], Count | None]:
    """Decided where both count alike, or where positions, which grow, are on one side of a bound."""

    def rule(node: ir.Node, facts: Facts) -> Count | None:
        left, right = _fact(node.inputs[0], facts), _fact(node.inputs[1], facts)
        if left is None or right is None:
            return None
        if left.axis == right.axis:
            return Count(None, int(holds(left.start, right.start)))
        growing = operator.ge if left.axis is not None else operator.le
        grows = right.axis is None or left.axis is None
        ordered = (
            holds in (operator.ge, operator.gt)
            if growing is operator.ge
            else holds in (operator.le, operator.lt)
        )
        if grows and ordered and holds(left.start, right.start):
            return Count(None, 1)
        return None

    return rule


def _not(node: ir.Node, facts: Facts) -> Count | None:
    fact = _uniform(node, facts)
    return None if fact is None else Count(None, int(not fact.start))


def _logic(node: ir.Node, facts: Facts) -> Count | None:
    left, right = _fact(node.inputs[0], facts), _fact(node.inputs[1], facts)
    if left is None or right is None:
        return None
    both = bool(left.start) and bool(right.start)
    either = bool(left.start) or bool(right.start)
    return Count(None, int(both if node.op_type == "And" else either))


def _cumulative(node: ir.Node, facts: Facts) -> Count | None:
    fact = _uniform(node, facts)
    return fact if fact == Count(None, 0) else None


_RULES: Mapping[str, Callable[[ir.Node, Facts], Count | None]] = {
    "Add": _sum(1),
    "And": _logic,
    "Cast": _cast,
    "Concat": _concat,
    "CumSum": _cumulative,
    "Equal": _comparison(operator.eq),
    "Expand": _same,
    "Gather": _uniform,
    "GatherND": _uniform,
    "Greater": _comparison(operator.gt),
    "GreaterOrEqual": _comparison(operator.ge),
    "Identity": _same,
    "Less": _comparison(operator.lt),
    "LessOrEqual": _comparison(operator.le),
    "Not": _not,
    "Or": _logic,
    "Range": _range,
    "Reshape": _uniform,
    "Slice": _slice,
    "Sub": _sum(-1),
    "Transpose": _uniform,
    "Unsqueeze": _unsqueeze,
}
"""What is known of an operator's result from what is known of its inputs."""


def _look_up(node: ir.Node, facts: Facts) -> None:
    """Elements of data at positions that count along as many axes of the result: the data with new axes."""
    data, index = node.inputs
    joined = None if index is None else index.producer()
    output = node.outputs[0]
    if data is None or data.shape is None or index is None or output.shape is None or joined is None:
        return
    count = rank(index)
    if joined.op_type != "Concat" or count is None or node.attributes.get_int("batch_dims", 0) != 0:
        return
    if joined.attributes.get_int("axis", 0) % count != count - 1 or len(joined.inputs) != len(data.shape):
        return
    axes: list[int] = []
    for value, size in zip(joined.inputs, data.shape, strict=True):
        fact = _fact(value, facts)
        if value is None or value.shape is None or value.shape[-1] != 1 or fact is None:
            return
        if fact.axis is None and size == 1 and fact.start == 0:
            return
        if fact.start != 0 or fact.axis is None or fact.axis == -1:
            return
        axis = fact.axis + count
        length = dim_of(value.shape[axis])
        if length is None or length != dim_of(size) or dim_of(output.shape[axis]) != length:
            return
        axes.append(axis)
    new = [axis for axis in range(count - 1) if axis not in axes]
    if axes != sorted(set(axes)) or any(output.shape[axis] != 1 for axis in new):
        return
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    fuse([node], "Unsqueeze", [data, add_constant(graph, np.asarray(new, np.int64), f"{output.name}_axes")])


def _decide(node: ir.Node, facts: Facts) -> None:
    """A condition beside one that holds everywhere, or beside one that holds nowhere in a choice of two."""
    neutral = Count(None, int(node.op_type == "And"))
    for known, other in ((0, 1), (1, 0)):
        decided, value, output = node.inputs[known], node.inputs[other], node.outputs[0]
        if _fact(decided, facts) != neutral or value is None or value.shape is None or output.shape is None:
            continue
        shapes = [[dim_of(axis) for axis in each.shape] for each in (value, output) if each.shape is not None]
        if shapes[0] == shapes[1] and None not in shapes[0] and not output.is_graph_output():
            replace_value(output, value)
        elif decided is not None and decided.shape is not None:
            _broadcast(node, value, decided)
        return


def _broadcast(node: ir.Node, value: ir.Value, beside: ir.Value) -> None:
    """Repeat a value along the axes that only the other operand has."""
    output = node.outputs[0]
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    assert output.shape is not None
    parts: list[ir.Value] = []
    for axis in range(-len(output.shape), 0):
        source = next(
            (each for each in (value, beside) if _reaches(each, axis, dim_of(output.shape[axis]))), None
        )
        if source is None:
            return
        at = axis + (rank(source) or 0)
        size = ir.node("Shape", [source], {"start": at, "end": at + 1})
        parts.extend(size.outputs)
    nodes: Sequence[ir.Node] = [each for part in parts if (each := part.producer()) is not None]
    joined = ir.node("Concat", parts, {"axis": 0})
    for each in (*nodes, joined):
        each.metadata_props.update(node.metadata_props)
        each.outputs[0].type = ir.TensorType(ir.DataType.INT64)
        each.outputs[0].shape = ir.Shape([1])
    joined.outputs[0].shape = ir.Shape([len(parts)])
    graph.insert_before(node, [*nodes, joined])
    fuse([node], "Expand", [value, joined.outputs[0]])


def _reaches(value: ir.Value, axis: int, size: int | str | None) -> bool:
    shape = value.shape
    return shape is not None and -axis <= len(shape) and size is not None and dim_of(shape[axis]) == size
