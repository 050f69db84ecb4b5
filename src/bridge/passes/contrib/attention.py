"""Attention as onnxruntime fuses it: with projections, masks by length, and caches."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.contrib.builder import Builder, InexpressibleError, expansion

_MASKED = -10000.0
"""What onnxruntime adds to the scores of masked keys where nothing else is said."""


@expansion("MultiHeadAttention")
def multi_head_attention(op: Builder) -> None:
    """Attention, with the biases of the projections before it."""
    op.absent(8, 9)
    heads = op.attribute("num_heads")
    q, k, v = _operands(op, heads)
    if op.input(3) is not None:
        q, k, v = _with_biases(op, q, k, v)
    keys_past = op.input(6)
    length = _total_length(op, k, keys_past)
    mask = _joined(op, _padding(op, op.input(4), op[0], length), op.input(5))
    packed = op.rank(op[0]) == 3
    cached = op.rank(k) == 4 if k.shape is not None else False
    if cached:
        q = op("Transpose", op.reshape(q, 0, 0, heads, -1), perm=[0, 2, 1, 3])
    counts = {} if cached else {"q_num_heads": heads, "kv_num_heads": heads}
    wanted = 3 if op.reads(1) or op.reads(2) else 1
    outputs = op.several(
        "Attention",
        wanted,
        *(q, k, v, mask, keys_past, op.input(7)),
        is_causal=op.attribute("unidirectional"),
        scale=op.attribute("scale") or None,
        **counts,
    )
    y = outputs[0]
    if cached and packed:
        y = op.reshape(op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)
    op.give(y, *outputs[1:])


def _operands(op: Builder, heads: int) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Queries, keys and values, each of (batch, length, heads * size) unless the keys are a cache."""
    q, k, v = op[0], op.input(1), op.input(2)
    if k is None:
        parts = op.several("Split", 3, q, axis=3, num_outputs=3)
        q, k, v = (op.reshape(op("Squeeze", each, op.integers(3)), 0, 0, -1) for each in parts)
    elif v is None:
        parts = op.several("Split", 2, k, axis=3, num_outputs=2)
        k, v = (op.reshape(op("Squeeze", each, op.integers(3)), 0, 0, -1) for each in parts)
    elif op.rank(k) == 4 and op.input(3) is not None:
        raise InexpressibleError("its keys are a cache, and it has biases")
    return q, k, v


def _with_biases(op: Builder, q: ir.Value, k: ir.Value, v: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    if op.rank(op[0]) == 5:
        sizes = [op.size(op[0], 2) * op.size(op[0], 4)] * 3
    else:
        width = op.size(op[0], -1)
        sizes = [width, width, op.size(op[3], 0) - 2 * width]
    biases = op.several("Split", 3, op[3], op.integers(*sizes, hint="sizes"), axis=0)
    first, second, third = (op("Add", x, bias) for x, bias in zip((q, k, v), biases, strict=True))
    return first, second, third


def _total_length(op: Builder, k: ir.Value, past: ir.Value | None) -> ir.Value | None:
    """The number of past and new keys, where a mask needs it."""
    axis = 2 if k.shape is not None and len(k.shape) == 4 else 1
    length = op.length(k, axis)
    return length if past is None else op("Add", op.length(past, 2), length)


def _padding(op: Builder, mask: ir.Value | None, data: ir.Value, length: ir.Value | None) -> ir.Value | None:
    """A mask of keys as numbers to add: ones for keys to see, or the number of them in each sample."""
    if mask is None:
        return None
    rank = op.rank(mask)
    if rank == 1:
        batch, count = data.shape[0] if data.shape is not None else None, mask.shape and mask.shape[0]
        if isinstance(batch, int) and isinstance(count, int) and batch != count:
            raise InexpressibleError("its mask gives begins and ends of the keys")
        assert length is not None
        seen = op(
            "Less", op("Cast", op.positions(length), to=mask.dtype), op("Unsqueeze", mask, op.integers(1))
        )
    else:
        seen = op("Greater", mask, op("CastLike", op.index(0), mask))
    if rank in (1, 2):
        seen = op("Unsqueeze", seen, op.integers(1, 2))
    elif rank == 3:
        seen = op("Unsqueeze", seen, op.integers(1))
    else:
        raise InexpressibleError("its mask has 4 axes")
    filter_value = op.attribute("mask_filter_value")
    return op("Where", seen, op.number(0, "seen"), op.number(filter_value or _MASKED, "masked"))


def _joined(op: Builder, mask: ir.Value | None, bias: ir.Value | None) -> ir.Value | None:
    """One mask to add."""
    if mask is None or bias is None:
        return bias if mask is None else mask
    return op("Add", bias, mask)


@expansion("Attention")
def attention(op: Builder) -> None:
    """Projections by one weight, then attention; past and present are keys and values in one tensor."""
    op.absent(6)
    if op.attribute("do_rotary") or op.attribute("past_present_share_buffer"):
        raise InexpressibleError("it rotates by positions, or writes into a shared buffer")
    heads, bias = op.attribute("num_heads"), op.input(2)
    sizes = list(op.attribute("qkv_hidden_sizes") or [op.size(op[1], 1) // 3] * 3)
    projected = op("MatMul", op[0], op[1])
    projected = projected if bias is None else op("Add", projected, bias)
    q, k, v = op.several("Split", 3, projected, op.integers(*sizes, hint="sizes"), axis=-1)
    past_key = past_value = None
    if (past := op.input(4)) is not None:
        past_key, past_value = (op("Gather", past, op.index(each), axis=0) for each in range(2))
    new = op.length(op[0], 1)
    length = new if past_key is None else op("Add", op.length(past_key, 2), new)
    mask = _joined(op, _padding(op, op.input(3), op[0], length), op.input(5))
    outputs = op.several(
        "Attention",
        3 if op.reads(1) else 1,
        *(q, k, v, mask, past_key, past_value),
        q_num_heads=heads,
        kv_num_heads=heads,
        is_causal=op.attribute("unidirectional"),
        scale=op.attribute("scale") or None,
    )
    present = None
    if op.reads(1):
        keys, values = (op("Unsqueeze", each, op.integers(0)) for each in outputs[1:])
        present = op("Concat", keys, values, axis=0)
    op.give(outputs[0], present)


@expansion("RotaryEmbedding")
def rotary_embedding(op: Builder) -> None:
    """The standard's RotaryEmbedding; one position is that of the first token."""
    if op.attribute("is_packed_batching"):
        raise InexpressibleError("its batches are packed")
    if op.attribute("scale", 1.0) != 1.0:
        raise InexpressibleError("it scales")
    x, positions = op[0], op[1]
    rank = op.rank(x)
    if op.rank(positions) == 1:
        steps = op("Add", op.positions(op.length(x, rank - 2)), positions)
        batch = op("Expand", op.index(0), op("Concat", op.length(x, 0), op.integers(1), axis=0))
        positions = op("Add", op("Unsqueeze", steps, op.integers(0)), batch)
    heads = op.attribute("num_heads") or (op.size(x, -1) // (2 * op.size(op[2], 1)) if rank == 3 else None)
    op.give(rotated(op, x, op[2], op[3], positions, heads if rank == 3 else None))


def rotated(
    op: Builder, x: ir.Value, cos: ir.Value, sin: ir.Value, positions: ir.Value, heads: int | None
) -> ir.Value:
    """Heads whose first elements are turned by the angles of their positions."""
    interleaved = op.attribute("interleaved") or op.attribute("rotary_interleaved") or 0
    return op(
        "RotaryEmbedding",
        *(x, cos, sin, positions),
        interleaved=interleaved,
        num_heads=heads,
        rotary_embedding_dim=2 * op.size(cos, 1),
    )


@expansion("GroupQueryAttention")
def group_query_attention(op: Builder) -> None:
    """Causal attention of a few heads of keys, which are appended to the valid part of a cache.

    `seqlens_k` is the length of each sample with its new tokens, less one. New keys stand behind the
    old ones of their sample, so that samples may be of different lengths.
    """
    op.absent(11, 12, 13, 14, 15, 16)
    refused = {
        "it smooths softmax": op.attribute("smooth_softmax", -1) > 0,
        "its cache is a window": bool(op.attribute("sliding_window_cache")),
        "its cache is quantised": op.attribute("k_quant_type", "NONE") != "NONE",
    }
    for reason, applies in refused.items():
        if applies:
            raise InexpressibleError(reason)
    heads, groups = op.attribute("num_heads"), op.attribute("kv_num_heads")
    q, k, v = op[0], op.input(1), op.input(2)
    if k is None or v is None:
        size = op.size(q, -1) // (heads + 2 * groups)
        sizes = op.integers(heads * size, groups * size, groups * size, hint="sizes")
        q, k, v = op.several("Split", 3, q, sizes, axis=-1)
    new = op.length(op[0], 1)
    total = op("Add", op("Cast", op("Reshape", op[5], op.integers(-1)), to=ir.DataType.INT64), op.index(1))
    past = op("Max", op("Sub", total, new), op.index(0))
    places = op("Add", op("Unsqueeze", past, op.integers(1)), op.positions(new))
    if op.attribute("do_rotary"):
        turn = op.input(9) if op.input(9) is not None else places
        assert turn is not None
        q, k = (rotated(op, x, op[7], op[8], turn, count) for x, count in ((q, heads), (k, groups)))
    q, k, v = (
        op("Transpose", op.reshape(x, 0, 0, count, -1), perm=[0, 2, 1, 3])
        for x, count in ((q, heads), (k, groups), (v, groups))
    )
    if op.input(3) is not None:
        k, v = (_appended(op, op[i], fresh, past, new) for i, fresh in ((3, k), (4, v)))
    mask = _joined(op, _seen(op, places, k, total), op.input(10))
    y = op(
        "Attention",
        *(q, k, v, mask),
        scale=op.attribute("scale") or None,
        softcap=op.attribute("softcap") or None,
    )
    op.give(op.reshape(op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1), k, v)


def _appended(op: Builder, cache: ir.Value, fresh: ir.Value, past: ir.Value, new: ir.Value) -> ir.Value:
    """A cache with new entries behind the old ones of each sample, as long as the longest needs."""
    needed = op("Cast", op("Reshape", op[6], op.integers(1)), to=ir.DataType.INT64)
    missing = op("Max", op("Sub", needed, op.length(cache, 2)), op.index(0))
    zeros = op.integers(0, 0, 0, 0, 0, 0, hint="none")
    longer = op("Pad", cache, op("Concat", zeros, missing, op.integers(0), axis=0))
    return op("TensorScatter", longer, fresh, past, axis=2)


def _seen(op: Builder, places: ir.Value, keys: ir.Value, total: ir.Value) -> ir.Value:
    """What each query sees, as numbers to add: keys up to its own place, not beyond the window before it."""
    columns = op.positions(op.length(keys, 2))
    rows = op("Unsqueeze", places, op.integers(1, 3))
    if op.attribute("causal", 1):
        seen = op("LessOrEqual", columns, rows)
    else:
        seen = op("Less", columns, op("Unsqueeze", total, op.integers(1, 2, 3)))
    window = op.attribute("local_window_size", -1)
    if window > 0:
        seen = op("And", seen, op("Greater", columns, op("Sub", rows, op.index(window))))
    if op.input(10) is None:
        return seen
    return op("Where", seen, op.number(0, "seen"), op.number(float("-inf"), "hidden"))
