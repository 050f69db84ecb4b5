"""Attention: softmax of products of queries and keys, as weights of values."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters._attention import (
    are_grouped,
    attention_refusal,
    is_native_precision,
    is_plain_attention,
    precision_name,
)
from bridge_converters.onnx_to_torch._table import lowering


@lowering("Attention", since=23, supports=attention_refusal)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    nonpad_kv_seqlen: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    outputs: int = 1,
    input_types: tuple[str, ...] = ("FLOAT",) * 3,
    input_shapes: tuple[tuple[Any, ...] | None, ...] = (None,) * 3,
) -> Tensor | tuple[Tensor, ...]:
    """softmax(q @ k.T * scale + mask) @ v for each head; the further outputs are the cache and the scores."""
    windows = (left_window_size, right_window_size)
    plain = is_plain_attention(
        input_types, input_shapes, softcap, softmax_precision, is_causal, windows, outputs
    )
    grouped = are_grouped(input_shapes, q_num_heads, kv_num_heads)
    options = attention_options(is_causal, scale, grouped)
    if plain and q.ndim == 3:
        return packed_attention(q, k, v, attn_mask, q_heads=q_num_heads, kv_heads=kv_num_heads, **options)
    if plain and attn_mask is None:
        return F.scaled_dot_product_attention(q, k, v, **options)
    if plain:
        return F.scaled_dot_product_attention(q, k, v, attn_mask, **options)
    if softcap == 0 and outputs < 4 and is_native_precision(input_types, softmax_precision):
        return masked_attention(
            q,
            k,
            v,
            attn_mask,
            past_key,
            past_value,
            nonpad_kv_seqlen,
            q_heads=q_num_heads,
            kv_heads=kv_num_heads,
            causal=is_causal == 1,
            window=windows,
            scale=scale,
            outputs=outputs,
        )
    return scored_attention(
        q,
        k,
        v,
        attn_mask,
        past_key,
        past_value,
        nonpad_kv_seqlen,
        q_heads=q_num_heads,
        kv_heads=kv_num_heads,
        causal=is_causal == 1,
        window=windows,
        scale=scale,
        softcap=softcap,
        precision=precision_name(softmax_precision),
        scores_at=qk_matmul_output_mode,
        outputs=outputs,
    )


def attention_options(is_causal: int, scale: float | None, grouped: bool) -> dict[str, Any]:
    """The options of `F.scaled_dot_product_attention` that are not its defaults."""
    options: dict[str, Any] = {}
    if is_causal:
        options["is_causal"] = True
    if scale is not None:
        options["scale"] = scale
    if grouped:
        options["enable_gqa"] = True
    return options


def split_heads(x: Tensor, heads: int | None) -> Tensor:
    """(batch, length, heads * size) as (batch, heads, length, size); four axes stay as they are."""
    return x if heads is None else x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(batch, heads, length, size) as (batch, length, heads * size)."""
    return x.transpose(1, 2).flatten(2)


def packed_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    q_heads: int | None,
    kv_heads: int | None,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention on tensors of (batch, length, heads * size)."""
    y = F.scaled_dot_product_attention(
        split_heads(q, q_heads),
        split_heads(k, kv_heads),
        split_heads(v, kv_heads),
        mask,
        is_causal=is_causal,
        scale=scale,
        enable_gqa=enable_gqa,
    )
    return merge_heads(y)


def masked_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    q_heads: int | None = None,
    kv_heads: int | None = None,
    causal: bool = False,
    window: tuple[int, int] = (-1, -1),
    scale: float | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Attention under a mask of what each query may see; the further outputs are the new cache."""
    packed = q.ndim == 3
    q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    mask, k, v = mask_and_cache(q, k, v, mask, past_key, past_value, lengths, causal=causal, window=window)
    grouped = q.shape[1] != k.shape[1]
    y = F.scaled_dot_product_attention(q, k, v.to(q.dtype), mask, scale=scale, enable_gqa=grouped)
    y = merge_heads(y) if packed else y
    return (y, k, v)[:outputs] if outputs > 1 else y


def scored_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    q_heads: int | None = None,
    kv_heads: int | None = None,
    causal: bool = False,
    window: tuple[int, int] = (-1, -1),
    scale: float | None = None,
    softcap: float = 0.0,
    precision: str | None = None,
    scores_at: int = 0,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """Attention step by step, where its scores are capped, given out, or normalised in another precision.

    `scores_at` says which scores are the fourth output: the products (0), capped (1), masked (2), or the
    weights (3). A query that may see no key gets zeros.
    """
    packed = q.ndim == 3
    q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    mask, k, v = mask_and_cache(q, k, v, mask, past_key, past_value, lengths, causal=causal, window=window)
    groups = q.shape[1] // k.shape[1]
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    products = (q * root) @ (k.repeat_interleave(groups, 1) * root).mT
    capped = softcap * torch.tanh(products / softcap) if softcap > 0 else products
    scores = capped if mask is None else capped + mask_bias(mask, q)
    blind = None if mask is None else torch.amax(mask_bias(mask, q), -1, keepdim=True) == -math.inf
    seen = scores if blind is None else scores.masked_fill(blind, 0)
    weights = torch.softmax(seen, -1, dtype=None if precision is None else getattr(torch, precision))
    weights = (weights if blind is None else weights.masked_fill(blind, 0)).to(q.dtype)
    y = weights @ v.to(q.dtype).repeat_interleave(groups, 1)
    y = merge_heads(y) if packed else y
    return (y, k, v, (products, capped, scores, weights)[scores_at])[:outputs] if outputs > 1 else y


def mask_and_cache(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    past_key: Tensor | None,
    past_value: Tensor | None,
    lengths: Tensor | None,
    *,
    causal: bool,
    window: tuple[int, int],
) -> tuple[Tensor | None, Tensor, Tensor]:
    """One mask for all that limits what a query sees, and the keys and values behind the past ones.

    A query stands behind the past keys, or at the end of the first `lengths` keys of each sample. It
    sees the keys from `window[0]` before it to `window[1]` behind it; -1 is no limit.
    """
    offset: int | Tensor = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    if lengths is not None:
        lengths = lengths.view(-1, 1, 1, 1)
        offset = lengths - q.shape[2]
    if mask is not None:
        mask = mask if mask.dtype == torch.bool else mask.to(q.dtype)
        mask = mask if mask.ndim > 1 else mask[None]
        missing = k.shape[2] - mask.shape[-1]
        mask = F.pad(mask, (0, missing), value=False if mask.dtype == torch.bool else -math.inf)
    before, after = window[0], 0 if causal else window[1]
    keys = torch.arange(k.shape[2], device=q.device)
    positions = torch.arange(q.shape[2], device=q.device)[:, None] + offset
    if after >= 0:
        mask = restricted(mask, keys <= positions + after)
    if before >= 0:
        mask = restricted(mask, keys >= positions - before)
    if lengths is not None:
        mask = restricted(mask, keys < lengths)
    return mask, k, v


def restricted(mask: Tensor | None, visible: Tensor) -> Tensor:
    """A mask under which a query sees no more than `visible`."""
    if mask is None:
        return visible
    if mask.dtype == torch.bool:
        return mask & visible
    return torch.where(visible, mask, -math.inf)


def mask_bias(mask: Tensor, q: Tensor) -> Tensor:
    """A mask as numbers that are added to scores."""
    if mask.dtype == torch.bool:
        return torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    return mask
