"""`aten.scaled_dot_product_attention` as ONNX's Attention, whatever its ranks and heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset23

op: Any = opset23
"""While the exporter records, onnxscript's operators take and return graph values, unlike their types."""

_RANK = 4


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operator of `torch.nn.functional.scaled_dot_product_attention`."""
    return {torch.ops.aten.scaled_dot_product_attention.default: _attention}


def _attention(
    query: ir.Value,
    key: ir.Value,
    value: ir.Value,
    attn_mask: ir.Value | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> ir.Value:
    """Attention over tensors (..., heads, length, size); the last two axes alone are a single head.

    One head of keys and values serves all queries, as with broadcasting. Dropout is inactive.
    """
    rank = _rank(query)
    each_batch = (query, _batch_of(query, key), _batch_of(query, value))
    operands = [_with_rank(each, rank) for each in each_batch]
    mask = None if attn_mask is None else _mask(attn_mask, query, rank)
    result, _, _, _ = op.Attention(*operands, mask, scale=scale, is_causal=int(is_causal))
    return _original(result, query, rank)


def _with_rank(x: ir.Value, rank: int) -> ir.Value:
    """(batch, heads, length, size): more axes before the heads become one; without heads there is one."""
    if rank < _RANK:
        return op.Unsqueeze(x, [0, 1] if rank == 2 else [1])  # type: ignore[no-any-return]
    if rank > _RANK:
        return op.Reshape(x, op.Concat(_vector(-1), op.Shape(x, start=-3), axis=0))  # type: ignore[no-any-return]
    return x


def _mask(mask: ir.Value, query: ir.Value, rank: int) -> ir.Value:
    """A mask of 2 to 4 axes that is broadcast as the source's is."""
    own = _rank(mask)
    if own < 2:
        mask, own = op.Unsqueeze(mask, list(range(2 - own))), 2
    if rank == 3 and own == 3:
        mask = op.Unsqueeze(mask, [1])
    elif own > _RANK:
        each = op.Concat(op.Shape(query, end=-3), _vector(1, 1, 1), axis=0)
        mask = op.Expand(mask, each)
        mask = op.Reshape(mask, op.Concat(_vector(-1), op.Shape(mask, start=-3), axis=0))
    return mask


def _original(result: ir.Value, query: ir.Value, rank: int) -> ir.Value:
    if rank < _RANK:
        return op.Squeeze(result, [0, 1] if rank == 2 else [1])  # type: ignore[no-any-return]
    if rank > _RANK:
        shape = op.Concat(op.Shape(query, end=-3), op.Shape(result, start=1), axis=0)
        return op.Reshape(result, shape)  # type: ignore[no-any-return]
    return result


def _batch_of(query: ir.Value, x: ir.Value) -> ir.Value:
    """Keys or values for every sample of the queries; one sample of them serves all."""
    ours, theirs = _leading(query), _leading(x)
    if len(ours) != len(theirs):
        raise NotImplementedError("scaled_dot_product_attention of queries and keys of different ranks")
    if all(one == other or str(one) == str(other) for one, other in zip(ours, theirs, strict=True)):
        return x
    return op.Expand(x, op.Concat(op.Shape(query, end=-3), _vector(1, 1, 1), axis=0))  # type: ignore[no-any-return]


def _vector(*numbers: int) -> ir.Value:
    constant: ir.Value = op.Constant(value_ints=numbers)
    return constant


def _leading(x: ir.Value) -> list[Any]:
    assert x.shape is not None
    return list(x.shape)[: max(len(x.shape) - 3, 0)]


def _rank(x: ir.Value) -> int:
    if x.shape is None:
        raise NotImplementedError("scaled_dot_product_attention of tensors of unknown rank")
    return len(x.shape)
