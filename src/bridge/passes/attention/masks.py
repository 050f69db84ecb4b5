"""Masks of attention as the standard's operator takes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, constant, integers, producer, rank, scalar
from bridge.hub.recipe import Array
from bridge.passes.attention.scores import Added, Hidden, Mask

_ABSORBING = -1e38
"""A number that absorbs every score which is added to it, in float32 and in float64.

Not the lowest one: onnxruntime takes that for minus infinity.
"""

_ABSORBED, _HIDDEN = -1e30, -1e3
"""Numbers from here on down absorb scores altogether, and in float32 a part of them."""

_MOVES = (
    "Cast",
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
)
_FINITE = ("Clip", "Cos", "Einsum", "Erf", "Gemm", "MatMul", "Sigmoid", "Sin", "Softmax", "Tanh")
"""What gives no infinity where the model works at all: products of data and weights, bounded functions."""


class MaskBuilder:
    """Makes the `attn_mask` of Attention nodes; equal masks are made once."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._made: dict[tuple[object, ...], ir.Value] = {}

    def combined(self, masks: Iterable[Mask], dtype: ir.DataType) -> ir.Value | None:
        """One mask for a sequence of them, in the order of their application, exact in every row.

        Attention gives zeros where a row hides all keys by minus infinity; arithmetic gives NaN. Where
        that cannot be ruled out the mask itself is made NaN in such a row. None if a mask cannot be told by
        numbers to add.
        """
        masks = tuple(masks)
        if len(masks) == 1 and isinstance(masks[0], Hidden) and never_all(masks[0].condition, masks[0].when):
            return self._visible(masks[0])
        bias: ir.Value | None = None
        for position, mask in enumerate(masks):
            if isinstance(mask, Added):
                added = self._node("Neg", mask.bias) if mask.subtracted else mask.bias
                bias = added if bias is None else self.sum(bias, added)
                continue
            later = masks[position + 1 :]
            number = self._absorbing(mask, dtype)
            if number is None or (np.isfinite(number) and any(isinstance(each, Added) for each in later)):
                return None
            bias = self._where(mask, number, bias, dtype)
        if bias is not None and may_hide_all(bias):
            bias = self._as_arithmetic(bias)
        return bias

    def sum(self, left: ir.Value, right: ir.Value) -> ir.Value:
        """Numbers that are added one after the other."""
        return self._node("Add", left, right)

    def for_one_head(self, mask: ir.Value) -> ir.Value:
        """A mask (batch, length, keys) with an axis of heads."""
        if mask.shape is None or len(mask.shape) < 3:
            return mask
        made = self._node("Unsqueeze", mask, self._constant(np.asarray([1], np.int64)), dtype=mask.dtype)
        made.shape = ir.Shape([mask.shape[0], 1, *mask.shape[1:]])
        return made

    def _absorbing(self, mask: Hidden, dtype: ir.DataType) -> float | None:
        """What is added to hide a score: all scores of a row hidden by one number have equal weights."""
        if np.isneginf(mask.number):
            return mask.number
        return _ABSORBING if dtype in (ir.DataType.FLOAT, ir.DataType.DOUBLE) else None

    def _visible(self, mask: Hidden) -> ir.Value:
        if not mask.when:
            return mask.condition
        node = producer(mask.condition, "Not")
        if node is not None and node.inputs[0] is not None:
            return node.inputs[0]
        return self._node("Not", mask.condition, dtype=ir.DataType.BOOL)

    def _where(self, mask: Hidden, number: float, bias: ir.Value | None, dtype: ir.DataType) -> ir.Value:
        filler = self._number(number, dtype)
        other = self._number(0.0, dtype) if bias is None else bias
        operands = (filler, other) if mask.when else (other, filler)
        return self._node("Where", mask.condition, *operands, dtype=dtype)

    def _as_arithmetic(self, bias: ir.Value) -> ir.Value:
        """Not a number throughout where a row is minus infinity throughout."""
        axes = self._constant(np.asarray([-1], np.int64))
        assert bias.dtype is not None
        greatest = self._node("ReduceMax", bias, axes, dtype=bias.dtype)
        if bias.shape is not None:
            greatest.shape = ir.Shape([*bias.shape[:-1], 1])
        hidden = self._node("Equal", greatest, self._number(-np.inf, bias.dtype), dtype=ir.DataType.BOOL)
        return self._node("Where", hidden, self._number(np.nan, bias.dtype), bias, dtype=bias.dtype)

    def _number(self, number: float, dtype: ir.DataType) -> ir.Value:
        return self._constant(np.asarray(number, dtype.numpy()))

    def _constant(self, array: Array) -> ir.Value:
        key = ("constant", str(array.dtype), array.shape, array.tobytes())
        if key not in self._made:
            self._made[key] = add_constant(self._graph, array, "mask_number")
        return self._made[key]

    def _node(self, op_type: str, *inputs: ir.Value, dtype: ir.DataType | None = None) -> ir.Value:
        key = (op_type, *inputs)
        if key in self._made:
            return self._made[key]
        node = ir.node(op_type, list(inputs))
        after = self._latest(inputs)
        if after is None:
            self._graph.insert_before(self._graph[0], node)
        else:
            metadata.set_scope(node, metadata.scope_of(after))
            self._graph.insert_after(after, node)
        output = node.outputs[0]
        output.type = ir.TensorType(dtype if dtype is not None else inputs[0].dtype or ir.DataType.FLOAT)
        output.shape = _joint_shape(inputs)
        self._made[key] = output
        return output

    def _latest(self, inputs: Iterable[ir.Value]) -> ir.Node | None:
        """The last of the nodes that make the inputs."""
        makers = {node for value in inputs if (node := value.producer()) is not None}
        return next((node for node in reversed(self._graph) if node in makers), None)


def _joint_shape(inputs: Iterable[ir.Value]) -> ir.Shape | None:
    shapes = [value.shape for value in inputs]
    if any(shape is None for shape in shapes):
        return None
    axes: list[int | ir.SymbolicDim] = []
    for shape in shapes:
        assert shape is not None
        missing = len(shape) - len(axes)
        axes = [*([1] * missing), *axes]
        for index, size in enumerate(shape, start=len(axes) - len(shape)):
            axes[index] = size if axes[index] == 1 else axes[index]
    return ir.Shape(axes)


def condition_of(value: ir.Value) -> ir.Value:
    """A condition without what only gives it the shape of the scores: `And` with True."""
    node = producer(value, "And")
    for mask, ones in () if node is None else (node.inputs, tuple(reversed(node.inputs))):
        spread = producer(ones, "Expand", "ConstantOfShape")
        filled = spread.inputs[0] if spread is not None and spread.op_type == "Expand" else None
        array = constant(filled)
        if mask is not None and array is not None and bool(array.all()):
            return mask
    return value


def never_all(condition: ir.Value | None, when: bool) -> bool:
    """Whether no row of a condition is `when` throughout, along the last axis."""
    array = constant(condition)
    if array is not None:
        return array.ndim > 0 and not bool(np.any(np.all(array.astype(bool) == when, axis=-1)))
    node = producer(condition, "Not", *_MOVES)
    if node is None:
        return False
    if node.op_type == "Not":
        return never_all(node.inputs[0], not when)
    return False


def may_hide_all(bias: ir.Value) -> bool:
    """Whether a row of numbers to add may be minus infinity throughout."""
    array = constant(bias)
    if array is not None:
        return array.ndim == 0 or bool(np.any(np.all(np.isneginf(array), axis=-1)))
    if arithmetic_of(bias) is not None:
        return False
    node = producer(bias, "Where")
    if node is not None:
        condition, first, second = node.inputs
        hidden = [may_be_infinite(first), may_be_infinite(second)]
        if all(hidden):
            return True
        return any(hidden) and not never_all(condition, hidden[0])
    return may_be_infinite(bias)


def arithmetic_of(bias: ir.Value) -> ir.Value | None:
    """The numbers that a mask adds, if it is they but for rows that are made NaN."""
    node = producer(bias, "Where")
    equal = None if node is None else producer(node.inputs[0], "Equal")
    greatest = None if equal is None else producer(equal.inputs[0], "ReduceMax")
    if node is None or equal is None or greatest is None or scalar(equal.inputs[1]) != -np.inf:
        return None
    number = scalar(node.inputs[1])
    same = greatest.inputs[0] is node.inputs[2] and integers(greatest.inputs[1]) == (-1,)
    return node.inputs[2] if same and number is not None and np.isnan(number) else None


def visible_of(bias: ir.Value) -> tuple[ir.Value, bool] | None:
    """The condition that is told by zeros and by numbers that absorb all scores, and where it hides."""
    node = producer(bias, "Where")
    if node is None or node.inputs[0] is None:
        return None
    first, second = scalar(node.inputs[1]), scalar(node.inputs[2])
    if first is None or second is None or {0.0} == {first, second}:
        return None
    if second == 0 and -np.inf < first <= _ABSORBED:
        return node.inputs[0], True
    return (node.inputs[0], False) if first == 0 and -np.inf < second <= _ABSORBED else None


def may_be_low(value: ir.Value | None, depth: int = 32) -> bool:
    """Whether numbers to add may be so low that scores are lost beside them."""
    if value is None or depth == 0:
        return True
    if value.const_value is not None and not value.is_graph_input():
        array = value.const_value.numpy()
        return bool(array.size) and bool(np.min(array) < _HIDDEN)
    node = producer(value, "Where", "Add", "Sub", *_MOVES, "MatMul", "Einsum")
    if node is None:
        return True
    if node.op_type in ("MatMul", "Einsum"):
        return False
    data = node.inputs[1:] if node.op_type == "Where" else node.inputs
    if node.op_type in _MOVES and node.op_type != "Concat":
        data = node.inputs[:1]
    if node.op_type == "Where" and any(
        never_all(node.inputs[0], when) and not may_be_low(other, depth - 1)
        for when, other in ((True, node.inputs[2]), (False, node.inputs[1]))
    ):
        return False
    return any(may_be_low(each, depth - 1) for each in data)


def may_be_infinite(value: ir.Value | None, depth: int = 32) -> bool:
    """Whether a value may have elements that are minus infinity, other than by data out of range.

    What a user hands in may, since a mask may; a product of it with a number is a mask of zeros and ones.
    """
    if value is None or depth == 0:
        return True
    if value.dtype is not None and not value.dtype.is_floating_point():
        return False
    if value.const_value is not None:
        return value.is_graph_input() or bool(np.any(np.isneginf(value.const_value.numpy())))
    node = producer(value, "Where", "Mul", "Div", "Add", "Sub", "Neg", *_MOVES, *_FINITE)
    if node is None:
        return True
    if node.op_type in _FINITE:
        return False
    if node.op_type in ("Mul", "Div"):
        numbers = [number for each in node.inputs if (number := scalar(each)) is not None]
        return not numbers or any(np.isinf(number) for number in numbers)
    data = node.inputs[1:] if node.op_type == "Where" else node.inputs
    if node.op_type in _MOVES and node.op_type != "Concat":
        data = node.inputs[:1]
    if node.op_type in ("Add", "Sub") and sum(_is_low(each) for each in data) > 1:
        return True
    return any(may_be_infinite(each, depth - 1) for each in data)


def _is_low(value: ir.Value | None, depth: int = 32) -> bool:
    """Whether a value may have numbers so low that two of them add up to minus infinity."""
    if value is None or depth == 0:
        return True
    if value.dtype is not None and not value.dtype.is_floating_point():
        return False
    if value.const_value is not None:
        array = value.const_value.numpy()
        return bool(array.size) and bool(np.min(array) < -1e37)
    node = value.producer()
    return node is not None and any(
        _is_low(each, depth - 1) for each in node.inputs if each is not None and rank(each) is not None
    )
