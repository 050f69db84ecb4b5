"""Rotary positions that were written out as arithmetic."""

from __future__ import annotations

import itertools

import onnx_ir as ir

from bridge.hub.graph import all_nodes, attribute, fuse, integers, producer, rank
from bridge.passes.linear import DOMAIN


def fuse_rotations(model: ir.Model) -> ir.Model:
    """`x * cos + turned(x) * sin` as `bridge::Rotate(x, cos, sin)`.

    Pairs of the last axis are points of a plane that are turned by angles (Su et al., RoFormer, 2021). With
    `interleaved` 0 a pair is an element of the first half and the one at its place in the second,
    `turned(x) = (-second, first)`; with 1 it is two neighbours, `turned(x) = (-x1, x0, -x3, x2, ...)`. Run at
    the end of preparation; does not keep the graph valid ONNX.
    """
    for node in list(all_nodes(model)):
        if node.op_type == "Add" and node.domain == "" and node.graph is not None:
            _fuse(node)
    return model


def _fuse(add: ir.Node) -> None:
    products = [producer(value, "Mul") for value in add.inputs]
    for straight, crossed in itertools.permutations(products):
        if straight is None or crossed is None:
            continue
        for x, cosine in itertools.permutations(straight.inputs):
            for turned, sine in itertools.permutations(crossed.inputs):
                found = None if x is None else _turned(turned, x)
                if found is not None:
                    nodes, interleaved = found
                    group = [*nodes, straight, crossed, add]
                    fuse(group, "Rotate", [x, cosine, sine], {"interleaved": interleaved}, domain=DOMAIN)
                    return


def _turned(value: ir.Value | None, x: ir.Value) -> tuple[list[ir.Node], int] | None:
    """The nodes that turn all pairs of x by a right angle, and whether pairs are neighbours."""
    size = None if x.shape is None or not x.shape else x.shape[-1]
    if value is None or not isinstance(size, int) or size % 2:
        return None
    join = producer(value, "Concat")
    if join is not None:
        parts = _negated_first(join, list(join.inputs))
        if parts is None:
            return None
        negation, second, first = parts
        split = _halves(second, first, x)
        if split is not None:
            return [split, negation, join], 0
        slices = (_part(second, x, slice(size // 2, None)), _part(first, x, slice(0, size // 2)))
        taken = [each for each in slices if each is not None]
        return ([*taken, negation, join], 0) if len(taken) == 2 else None
    flat = producer(value, "Reshape")
    join = None if flat is None else producer(flat.inputs[0], "Concat")
    if flat is None or join is None or value.shape != x.shape:
        return None
    columns = [each for value in join.inputs if (each := producer(value, "Unsqueeze")) is not None]
    if len(columns) != 2 or not all(_adds_last_axis(each) for each in columns):
        return None
    parts = _negated_first(join, [each.inputs[0] for each in columns])
    if parts is None:
        return None
    negation, odd, even = parts
    slices = (_part(odd, x, slice(1, None, 2)), _part(even, x, slice(0, None, 2)))
    taken = [each for each in slices if each is not None]
    return ([*taken, negation, *columns, join, flat], 1) if len(taken) == 2 else None


def _negated_first(
    join: ir.Node, operands: list[ir.Value | None]
) -> tuple[ir.Node, ir.Value, ir.Value] | None:
    """Of two operands joined along the last axis: the negation that is first, what it negates, the other."""
    last = rank(join.outputs[0])
    if len(operands) != 2 or last is None or attribute(join, "axis") not in (-1, last - 1):
        return None
    negation, other = producer(operands[0], "Neg"), operands[1]
    if negation is None or negation.inputs[0] is None or other is None:
        return None
    return negation, negation.inputs[0], other


def _adds_last_axis(node: ir.Node) -> bool:
    last = rank(node.outputs[0])
    return last is not None and integers(node.inputs[1]) in ((-1,), (last - 1,))


def _halves(second: ir.Value, first: ir.Value, x: ir.Value) -> ir.Node | None:
    """The Split of the last axis into two halves."""
    split = producer(second, "Split")
    if split is None or split.inputs[0] is not x or list(split.outputs) != [first, second]:
        return None
    equal = first.shape is not None and second.shape is not None and first.shape[-1] == second.shape[-1]
    return split if equal and attribute(split, "axis", 0) in (-1, (rank(x) or 0) - 1) else None


def _part(value: ir.Value, x: ir.Value, wanted: slice) -> ir.Node | None:
    """The Slice of the last axis that makes a value, if it takes these elements."""
    node = producer(value, "Slice")
    last, size = rank(x), None if x.shape is None else x.shape[-1]
    if node is None or node.inputs[0] is not x or last is None or not isinstance(size, int):
        return None
    given = [found for each in node.inputs[1:] if (found := integers(each)) is not None and len(found) == 1]
    if len(given) != len(node.inputs) - 1 or len(given) < 3:
        return None
    (start,), (end,), (axis,), *steps = given
    step = steps[0][0] if steps else 1
    forwards = step > 0 and axis in (-1, last - 1)
    return node if forwards and range(size)[start:end:step] == range(size)[wanted] else None
