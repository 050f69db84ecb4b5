"""Scaled dot-product attention that was written out as products and softmax."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import common_scope, fuse
from bridge.passes.attention.grouped import share_heads, ungrouped
from bridge.passes.attention.heads import join, joining, split_heads, split_mask
from bridge.passes.attention.masks import MaskBuilder, condition_of
from bridge.passes.attention.scores import Added, Hidden, Mask, Weights, is_default_scale, weights_of
from bridge.passes.attention.views import Product, View, product
from bridge.passes.dims import dim_of
from bridge.passes.moves import permutation

_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def recognise_attention(model: ir.Model) -> ir.Model:
    """`softmax(q @ k.T * scale + mask) @ v` as Attention, exact in every row of the mask.

    Scaling may stand at the queries, the keys or the scores; heads of keys and values that were repeated for
    the queries are repeated by the operator. Weights that are read elsewhere stay. An inactive Dropout of
    the weights becomes a record of the node. Needs inferred shapes.
    """
    masks = MaskBuilder(model.graph)
    for node in list(model.graph):
        if node.graph is model.graph and node.op_type in ("MatMul", "Einsum"):
            _recognise(node, masks)
    for node in model.graph:
        if node.op_type == "Attention" and node.domain == "":
            share_heads(node)
    return model


def _recognise(node: ir.Node, masks: MaskBuilder) -> None:
    outer = product(node, scaled=False)
    weights = None if outer is None else weights_of(outer.left.value)
    if outer is None or weights is None or outer.left.perm != tuple(range(len(outer.left.perm))):
        return
    inner = weights.products
    count = len(inner.output)
    if count != len(outer.output) or inner.output != tuple(range(count)) or not _is_transposed(inner):
        return
    rows = outer.right.turned((*range(count - 2), count - 1, count - 2))
    q, k, v = inner.left, inner.right, rows
    dtype = q.value.dtype
    if dtype not in _TYPES or any(each.value.dtype != dtype for each in (k, v)):
        return
    weights = replace(weights, masks=tuple(map(_condensed, weights.masks)))
    if count == 4 and weights.heads is None:
        k, v = ungrouped(k, v)
        _fuse(node, outer, weights, (q, k, v), masks)
    elif (
        outer.output == (0, 1, 2)
        and not _fuse_heads(node, outer, weights, (q, k, v), masks)
        and weights.heads is None
    ):
        _fuse(node, outer, weights, (q, k, v), masks)


def _fuse_heads(
    node: ir.Node, outer: Product, weights: Weights, operands: tuple[View, View, View], masks: MaskBuilder
) -> bool:
    """Attention of heads that were joined with the batch for the products, and are joined otherwise after."""
    split = [split_heads(each, node) for each in operands]
    q, k, v = split
    if q is None or k is None or v is None:
        return False
    heads = dim_of(q.shape[1])
    if weights.heads not in (None, heads):
        return False
    own = weights.heads is not None
    parts = [mask if own else split_mask(mask, heads, masks) for mask in weights.masks]
    last = joining(node.outputs[0], heads, dim_of(v.shape[3]))
    if last is None or any(part is None for part in parts):
        return False
    weights = replace(weights, masks=tuple(part for part in parts if part is not None))
    made = _fuse(node, outer, weights, (q, k, v), masks)
    if made is None:
        return False
    result = made.outputs[0]
    result.shape = ir.Shape([*q.shape[:3], v.shape[3]])
    join(result, last)
    return True


def _is_transposed(found: Product) -> bool:
    """Whether the keys of a MatMul are (batch axes, keys, size) somewhere, and are transposed for it."""
    return found.node.op_type == "Einsum" or any(node.op_type == "Transpose" for node in found.right.nodes)


def _fuse(
    node: ir.Node,
    outer: Product,
    weights: Weights,
    operands: tuple[View, View, View],
    masks: MaskBuilder,
) -> ir.Node | None:
    """Put an Attention in the place of what computes one; None if it is none after all."""
    q, k, v = operands
    if not _fits(q, k, v) or not all(_covers(mask, q, k) for mask in weights.masks):
        return None
    dtype = q.value.dtype
    assert dtype is not None
    mask = masks.combined(weights.masks, dtype) if weights.masks else None
    if weights.masks and mask is None:
        return None
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs: list[ir.Value | None] = [_placed(each, node) for each in (q, k, v)]
    if mask is not None:
        inputs.append(mask if len(q.perm) == 4 else masks.for_one_head(mask))
    attributes = _attributes(weights, q)
    nodes = [*weights.nodes, node]
    identity = tuple(range(len(outer.output)))
    if outer.output == identity:
        made = fuse(nodes, "Attention", inputs, attributes)
    else:
        made = ir.node("Attention", inputs, attributes)  # type: ignore[arg-type]
        graph.insert_before(node, made)
        made.outputs[0].type = node.outputs[0].type
        shape = node.outputs[0].shape
        if shape is not None:
            made.outputs[0].shape = ir.Shape([shape[outer.output.index(axis)] for axis in identity])
        metadata.set_scope(made, common_scope(nodes))
        metadata.set_location(made, metadata.location_of(node))
        fuse(nodes, "Transpose", [made.outputs[0]], {"perm": outer.output})
    if weights.dropout:
        metadata.set_attention_dropout(made, weights.dropout)
    return made


def _attributes(weights: Weights, q: View) -> dict[str, object]:
    attributes: dict[str, object] = {}
    if len(q.perm) == 3:
        attributes |= {"q_num_heads": 1, "kv_num_heads": 1}
    if not is_default_scale(weights.scale, q.value, q.perm[-1]):
        attributes["scale"] = weights.scale
    if weights.softcap:
        attributes["softcap"] = weights.softcap
    if weights.precision is not None:
        attributes["softmax_precision"] = int(weights.precision)
    return attributes


def _placed(view: View, before: ir.Node) -> ir.Value:
    """The value of a view: transposed in front of a node if it is not what the graph has."""
    if view.perm == tuple(range(len(view.perm))):
        return view.value
    assert isinstance(before.graph, ir.Graph)
    for node in view.nodes:
        if node.op_type == "Transpose" and node.inputs[0] is view.value and permutation(node) == view.perm:
            return node.outputs[0]
    node = ir.node("Transpose", [view.value], {"perm": view.perm})
    node.outputs[0].type = view.value.type
    node.outputs[0].shape = ir.Shape(view.shape)
    metadata.set_scope(node, common_scope([*view.nodes, before]))
    before.graph.insert_before(before, node)
    return node.outputs[0]


def _fits(q: View, k: View, v: View) -> bool:
    """Whether the operands have the same batch, a head of keys for one or several of queries, and sizes."""
    if len(q.perm) == 3:
        return all(_same(q.shape[0], each.shape[0]) for each in (k, v)) and _same(k.shape[1], v.shape[1])
    heads, groups = dim_of(q.shape[1]), dim_of(k.shape[1])
    if isinstance(heads, int) and isinstance(groups, int):
        if groups == 0 or heads % groups:
            return False
    elif not _same(q.shape[1], k.shape[1]):
        return False
    return (
        _same(q.shape[0], k.shape[0])
        and _same(k.shape[0], v.shape[0])
        and _same(k.shape[1], v.shape[1])
        and _same(k.shape[2], v.shape[2])
    )


def _same(left: int | ir.SymbolicDim, right: int | ir.SymbolicDim) -> bool:
    """Whether two axes are known to be equal."""
    return dim_of(left) is not None and dim_of(left) == dim_of(right)


def _may_be_same(left: int | ir.SymbolicDim, right: int | ir.SymbolicDim) -> bool:
    named = isinstance(dim_of(left), str) and isinstance(dim_of(right), str)
    return named or _same(left, right)


def _condensed(mask: Mask) -> Mask:
    return replace(mask, condition=condition_of(mask.condition)) if isinstance(mask, Hidden) else mask


def _covers(mask: Mask, q: View, k: View) -> bool:
    """Whether a mask has an element for each key and makes the scores no larger than they are.

    Axes of two names are those of two inputs: they are equal, or the source itself fails or broadcasts.
    """
    value = mask.bias if isinstance(mask, Added) else mask.condition
    if value.shape is None or not 2 <= len(value.shape) <= len(q.perm):
        return False
    scores = (*q.shape[:-1], k.shape[-2])[-len(value.shape) :]
    pairs = list(zip(value.shape, scores, strict=True))
    return all(
        (axis == 1 and position < len(pairs) - 1) or _may_be_same(axis, size)
        for position, (axis, size) in enumerate(pairs)
    )
