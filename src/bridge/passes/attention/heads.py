"""Heads that were joined with the batch, for products of tensors of three axes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, constant, fuse, only_use, producer
from bridge.passes.attention.masks import MaskBuilder
from bridge.passes.attention.scores import Added, Mask
from bridge.passes.attention.views import View
from bridge.passes.dims import Dim, dim_of
from bridge.passes.moves import permutation

_HEADS_LAST = (1, 0, 2)


def split_heads(view: View, before: ir.Node) -> View | None:
    """A view (batch * heads, length, size) as (batch, heads, length, size), if it was joined from that.

    Either a tensor of the four axes was reshaped, or one of (length, batch, heads * size) was to (length,
    batch * heads, size).
    """
    joined = producer(view.value, "Reshape")
    source = None if joined is None else joined.inputs[0]
    if source is None or source.shape is None or view.value.shape is None:
        return None
    inner = [dim_of(axis) for axis in source.shape]
    outer = [dim_of(axis) for axis in view.value.shape]
    nodes = (*view.nodes, *([] if joined is None else [joined]))
    if len(inner) == 4 and view.perm == (0, 1, 2) and inner[2:] == outer[1:] and None not in inner:
        return View(source, (0, 1, 2, 3), view.number, nodes)
    if len(inner) != 3 or view.perm != _HEADS_LAST or inner[0] is None or inner[0] != outer[0]:
        return None
    width, size = inner[2], outer[2]
    if not isinstance(width, int) or not isinstance(size, int) or size == 0 or width % size:
        return None
    return View(_split(source, width // size, size, before), (1, 2, 0, 3), view.number, nodes)


def _split(source: ir.Value, heads: int, size: int, before: ir.Node) -> ir.Value:
    """(length, batch, heads * size) as (length, batch, heads, size)."""
    assert isinstance(before.graph, ir.Graph)
    assert source.shape is not None
    for use in source.uses():
        target = constant(use.node.inputs[1]) if use.node.op_type == "Reshape" else None
        if target is not None and target.tolist() == [0, 0, heads, size]:
            return use.node.outputs[0]
    shape = add_constant(before.graph, np.asarray([0, 0, heads, size], np.int64), "heads")
    node = ir.node("Reshape", [source, shape])
    maker = source.producer()
    metadata.set_scope(node, metadata.scope_of(before))
    if maker is not None and maker.graph is before.graph:
        before.graph.insert_after(maker, node)
    else:
        before.graph.insert_before(before.graph[0], node)
    node.outputs[0].type = source.type
    node.outputs[0].shape = ir.Shape([*source.shape[:2], heads, size])
    return node.outputs[0]


def split_mask(mask: Mask, heads: Dim, masks: MaskBuilder) -> Mask | None:
    """A mask of joined scores as one that broadcasts to (batch, heads, length, keys)."""
    if isinstance(mask, Added):
        bias = _split_mask(mask.bias, heads, masks)
        return None if bias is None else replace(mask, bias=bias)
    condition = _split_mask(mask.condition, heads, masks)
    return None if condition is None else replace(mask, condition=condition)


def _split_mask(value: ir.Value, heads: Dim, masks: MaskBuilder) -> ir.Value | None:
    if value.shape is None or len(value.shape) < 2:
        return None
    if len(value.shape) == 2 or value.shape[0] == 1:
        return value
    joint = producer(value, "Add")
    if joint is not None:
        parts = [None if each is None else _split_mask(each, heads, masks) for each in joint.inputs]
        left, right = parts
        return None if left is None or right is None else masks.sum(left, right)
    joined = producer(value, "Reshape")
    source = None if joined is None else joined.inputs[0]
    if source is None or source.shape is None or len(source.shape) != 4 or dim_of(source.shape[1]) != heads:
        return None
    inner, outer = ([dim_of(axis) for axis in axes] for axes in (source.shape[2:], value.shape[1:]))
    return source if inner == outer and None not in inner else None


def joining(result: ir.Value, heads: Dim, size: Dim) -> ir.Node | None:
    """What joins the heads of a product (batch * heads, length, size) again, if nothing else reads it.

    A Reshape to the four axes, or a Transpose to (length, batch * heads, size) that is reshaped to join the
    heads with the sizes.
    """
    reader = only_use(result)
    if reader is None or reader.domain != "" or not isinstance(heads, int) or not isinstance(size, int):
        return None
    shape = reader.outputs[0].shape
    if reader.op_type == "Reshape":
        fits = shape is not None and len(shape) == 4 and (shape[1], shape[3]) == (heads, size)
        same = fits and shape is not None and result.shape is not None
        return reader if same and dim_of(shape[2]) == dim_of(result.shape[1]) else None  # type: ignore[index]
    if reader.op_type != "Transpose" or permutation(reader) != _HEADS_LAST:
        return None
    join = only_use(reader.outputs[0])
    if join is None or join.op_type != "Reshape" or join.domain != "" or join.outputs[0].shape is None:
        return None
    target = constant(join.inputs[1])
    copied = target is not None and bool(np.any(target[1:] == 0))
    return reader if dim_of(join.outputs[0].shape[-1]) == heads * size and not copied else None


def join(result: ir.Value, last: ir.Node) -> None:
    """Let what joined the heads read a result of (batch, heads, length, size)."""
    if last.op_type == "Reshape":
        fuse([last], "Identity", [result])
    else:
        made = fuse([last], "Transpose", [result], {"perm": (2, 0, 1, 3)})
        shape = result.shape
        made.outputs[0].shape = None if shape is None else ir.Shape([shape[2], shape[0], shape[1], shape[3]])
