"""Heads of keys and values that several heads of queries share."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import integers, producer
from bridge.passes.attention.views import View
from bridge.passes.dims import Dim, dim_of

_PAST = slice(4, 6)


def share_heads(node: ir.Node) -> None:
    """Give Attention of four axes its keys and values before each head was repeated: it does so itself.

    A cache has the heads that were repeated: where one is read or made, they stay. Needs inferred shapes.
    """
    k, v = node.inputs[1:3]
    if k is None or v is None or any(each is None or len(each) != 4 for each in (k.shape, v.shape)):
        return
    present = node.outputs[1:3]
    if any(node.inputs[_PAST]) or any(each.uses() or each.is_graph_output() for each in present):
        return
    plain = (0, 1, 2, 3)
    before = ungrouped(View(k, plain), View(v, plain))
    for index, view in enumerate(before, start=1):
        node.replace_input_with(index, view.value)


def ungrouped(k: View, v: View) -> tuple[View, View]:
    """Keys and values before each head was repeated for several of queries, where both were alike."""
    keys, values = _unrepeated(k), _unrepeated(v)
    if keys is None or values is None or keys[1] != values[1]:
        return k, v
    return keys[0], values[0]


def _unrepeated(view: View) -> tuple[View, int] | None:
    """A view before its heads were repeated one by one (`Unsqueeze`, `Expand` or `Tile`, `Reshape`)."""
    merge = producer(view.value, "Reshape")
    spread = producer(None if merge is None else merge.inputs[0], "Expand", "Tile")
    split = producer(None if spread is None else spread.inputs[0], "Unsqueeze", "Reshape")
    if merge is None or spread is None or split is None or split.inputs[0] is None:
        return None
    source, heads = split.inputs[0], view.perm[1]
    shapes = [value.shape for value in (source, split.outputs[0], spread.outputs[0], view.value)]
    if any(shape is None for shape in shapes):
        return None
    before, single, repeated, merged = ([dim_of(axis) for axis in shape or ()] for shape in shapes)
    if len(before) != 4 or len(merged) != 4 or None in before:
        return None
    if single != [*before[: heads + 1], 1, *before[heads + 1 :]]:
        return None
    times, count = _times(spread, single, repeated, heads + 1), before[heads]
    if times is None or not isinstance(count, int) or merged[heads] != count * times:
        return None
    kept = [repeated[axis] for axis in range(5) if axis != heads + 1]
    if any(merged[axis] not in (before[axis], kept[axis]) for axis in range(4) if axis != heads):
        return None
    return View(source, view.perm, view.number, (*view.nodes, merge, spread, split)), times


def _times(spread: ir.Node, before: list[Dim], after: list[Dim], axis: int) -> int | None:
    """How often Tile or Expand repeats along an axis of size 1, if it leaves the others as they are."""
    if spread.op_type == "Tile":
        repeats = integers(spread.inputs[1])
        if repeats is None or len(repeats) != len(before):
            return None
        return repeats[axis] if all(n == 1 for i, n in enumerate(repeats) if i != axis) else None
    times = after[axis]
    return times if isinstance(times, int) and [*after[:axis], 1, *after[axis + 1 :]] == before else None
