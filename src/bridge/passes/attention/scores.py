"""Scores of attention: what stands between the product of queries and keys and the weights of values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import onnx_ir as ir

from bridge.hub.graph import only_use, producer, rank, scalar
from bridge.passes.attention.views import Product, product
from bridge.passes.dims import dim_of
from bridge.passes.match import close, with_scalar

_HIDDEN = -1e4
"""A score from here on down has no weight beside any other."""


@dataclass(frozen=True)
class Added:
    """Numbers that are added to scores, or `subtracted` from them."""

    bias: ir.Value
    subtracted: bool = False


@dataclass(frozen=True)
class Hidden:
    """A number that takes the place of the scores where `condition` is `when`."""

    condition: ir.Value
    when: bool
    number: float


Mask = Added | Hidden


@dataclass(frozen=True)
class Weights:
    """`dropout(softmax(softcap(scale * products) + masks))`; masks are in the order of their application."""

    products: Product
    scale: float
    softcap: float
    masks: tuple[Mask, ...]
    precision: ir.DataType | None
    """The type in which softmax is computed, where it is not that of its operands."""
    dropout: float
    nodes: tuple[ir.Node, ...] = field(repr=False)
    """What computes the weights, in order; nothing else reads what they make."""

    heads: int | None = None
    """How many heads the products have joined with the batch, if the masks are those of (batch, heads,
    queries, keys)."""


def weights_of(value: ir.Value | None) -> Weights | None:
    """A value as weights of attention, if it is that throughout and read once."""
    taken: list[ir.Node] = []
    value, ratio = _without_dropout(value, taken)
    outer = _taken(value, taken, "Cast")
    if outer is not None:
        value = outer.inputs[0]
    value, heads = _without_join(value, taken)
    softmax = _taken(value, taken, "Softmax")
    if softmax is None or not _is_last_axis(softmax):
        return None
    value = softmax.inputs[0]
    if heads is None:
        value, heads = _without_join(value, taken)
    precision = None
    if outer is not None:
        inner = _taken(value, taken, "Cast")
        if inner is None or inner.inputs[0] is None or inner.inputs[0].dtype != outer.outputs[0].dtype:
            return None
        value, precision = inner.inputs[0], softmax.outputs[0].dtype
        if precision is None or not _is_wider(precision, value.dtype):
            return None
    masks: list[Mask] = []
    while (found := _mask(value, taken)) is not None:
        masks.append(found[0])
        value = found[1]
    value, number = _scaled(value, taken)
    if heads is not None:
        split = _taken(value, taken, "Reshape")
        if split is None or _heads_joined(split.inputs[0], split.outputs[0]) != heads:
            return None
        value, inside = _scaled(split.inputs[0], taken)
        number *= inside
    softcap = 0.0
    tanh = _taken(value, taken, "Tanh")
    if tanh is not None:
        softcap = number
        value, inside = _scaled(tanh.inputs[0], taken)
        number *= inside
        if softcap <= 0:
            return None
    products = product(None if value is None else value.producer(), scaled=True)
    if products is None or value is None or only_use(value) is None:
        return None
    taken.append(products.node)
    scale = number * products.left.number * products.right.number
    if not math.isfinite(scale) or scale < 0:
        return None
    return Weights(
        products, scale, softcap, tuple(reversed(masks)), precision, ratio, tuple(reversed(taken)), heads
    )


def _without_join(value: ir.Value | None, taken: list[ir.Node]) -> tuple[ir.Value | None, int | None]:
    """What a Reshape reads that joins batch and heads, and how many heads."""
    node = producer(value, "Reshape")
    if node is None or value is None or only_use(value) is None:
        return value, None
    heads = _heads_joined(value, node.inputs[0])
    if heads is None:
        return value, None
    taken.append(node)
    return node.inputs[0], heads


def _heads_joined(joined: ir.Value | None, split: ir.Value | None) -> int | None:
    """The heads of (batch, heads, queries, keys), if the other value is (batch * heads, queries, keys)."""
    if joined is None or split is None or joined.shape is None or split.shape is None:
        return None
    if (len(joined.shape), len(split.shape)) != (3, 4):
        return None
    pairs = zip(list(joined.shape)[1:], list(split.shape)[2:], strict=True)
    same = all(dim_of(one) is not None and dim_of(one) == dim_of(other) for one, other in pairs)
    heads = split.shape[1]
    return heads if same and isinstance(heads, int) else None


def is_default_scale(scale: float, q: ir.Value | None, axis: int = -1) -> bool:
    """Whether a scale is 1 / sqrt(size) of the queries along an axis, as their type rounds it."""
    size = None if q is None or q.shape is None else q.shape[axis]
    return q is not None and isinstance(size, int) and size > 0 and close(scale, size**-0.5, q.dtype)


def _taken(value: ir.Value | None, taken: list[ir.Node], *op_types: str) -> ir.Node | None:
    """The node of one of these operators that makes a value for one reader; it is noted as taken."""
    node = producer(value, *op_types)
    if node is None or value is None or only_use(value) is None:
        return None
    taken.append(node)
    return node


def _without_dropout(value: ir.Value | None, taken: list[ir.Node]) -> tuple[ir.Value | None, float]:
    """What an inactive Dropout reads, and its ratio."""
    node = producer(value, "Dropout")
    if node is None or value is None or only_use(value) is None:
        return value, 0.0
    ratio = scalar(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else 0.5
    active = len(node.inputs) > 2 and node.inputs[2] is not None
    mask_is_read = len(node.outputs) > 1 and bool(node.outputs[1].uses())
    if ratio is None or active or mask_is_read:
        return value, 0.0
    taken.append(node)
    return node.inputs[0], ratio


def _is_last_axis(softmax: ir.Node) -> bool:
    axis, count = softmax.attributes.get_int("axis", -1), rank(softmax.inputs[0])
    return axis == -1 or (count is not None and axis == count - 1)


def _is_wider(precision: ir.DataType, own: ir.DataType | None) -> bool:
    return own is not None and precision.is_floating_point() and precision.itemsize > own.itemsize


def _mask(value: ir.Value | None, taken: list[ir.Node]) -> tuple[Mask, ir.Value | None] | None:
    """The mask that is applied last, and the scores before it."""
    node = producer(value, "Add", "Sub", "Where")
    if node is None or value is None or only_use(value) is None:
        return None
    if node.op_type == "Where":
        condition, kept, other = node.inputs
        for scores, filler, when in ((kept, other, False), (other, kept, True)):
            number = scalar(filler)
            if (
                condition is not None
                and number is not None
                and number <= _HIDDEN
                and _leads_to_scores(scores)
            ):
                taken.append(node)
                return Hidden(condition, when, number), scores
        return None
    left, right = node.inputs
    if left is None or right is None:
        return None
    sides = [(left, right)] if node.op_type == "Sub" else [(left, right), (right, left)]
    leading = [each for each in sides if _leads_to_scores(each[0]) and each[1].dtype == value.dtype]
    if not leading:
        return None
    taken.append(node)
    return Added(leading[0][1], node.op_type == "Sub"), leading[0][0]


def _leads_to_scores(value: ir.Value | None, depth: int = 12) -> bool:
    """Whether a product stands at the end of what masks, scales and caps a value."""
    node = producer(value, "MatMul", "Einsum", "Add", "Sub", "Where", "Mul", "Div", "Tanh", "Reshape")
    if node is None or value is None or only_use(value) is None or depth == 0:
        return False
    if node.op_type == "Reshape":
        joins = _heads_joined(node.inputs[0], value) is not None
        return joins and _leads_to_scores(node.inputs[0], depth - 1)
    if node.op_type in ("MatMul", "Einsum"):
        return True
    operands = node.inputs[1:] if node.op_type == "Where" else node.inputs
    return any(_leads_to_scores(each, depth - 1) for each in operands)


def _scaled(value: ir.Value | None, taken: list[ir.Node]) -> tuple[ir.Value | None, float]:
    """What is scaled by numbers, and their product."""
    number = 1.0
    while True:
        node = producer(value, "Mul", "Div")
        found = with_scalar(node)
        if node is None or found is None or value is None or only_use(value) is None:
            return value, number
        if node.op_type == "Div" and (found[0] is not node.inputs[0] or found[1] == 0):
            return value, number
        number = number / found[1] if node.op_type == "Div" else number * found[1]
        taken.append(node)
        value = found[0]
