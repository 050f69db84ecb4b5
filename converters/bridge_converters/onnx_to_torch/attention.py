"""Attention: softmax of products of queries and keys, as weights of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters._attention import (
    are_grouped,
    attention_refusal,
    causal_conv_refusal,
    flex_attention_refusal,
    flex_precision,
    is_native_precision,
    is_plain_attention,
    linear_attention_refusal,
    native_name,
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


@lowering("Attention", domain="bridge")
def native_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    blind: str = "none",
    dropout: float = 0.0,
    is_causal: int = 0,
    scale: float | None = None,
    training: bool = False,
    input_shapes: tuple[tuple[Any, ...] | None, ...] = (None,) * 3,
) -> Tensor:
    """Attention of four axes, or three; `blind` says what a query gets that the mask hides all keys from."""
    grouped = q.ndim == 4 and are_grouped(input_shapes, None, None)
    options = attention_options(is_causal, scale, grouped)
    if mask is not None and blind == "uniform" and dropout:
        return seen_attention(q, k, v, mask, dropout_p=dropout if training else 0.0, **options)
    if mask is not None and blind == "uniform":
        return seen_attention(q, k, v, mask, **options)
    if mask is not None and blind == "arithmetic" and dropout:
        return biased_attention(q, k, v, mask, dropout_p=dropout if training else 0.0, **options)
    if mask is not None and blind == "arithmetic":
        return biased_attention(q, k, v, mask, **options)
    if mask is None and dropout:
        return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout if training else 0.0, **options)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, **options)
    if dropout:
        return F.scaled_dot_product_attention(
            q, k, v, mask, dropout_p=dropout if training else 0.0, **options
        )
    return F.scaled_dot_product_attention(q, k, v, mask, **options)


def seen_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention to the keys that a query sees; one that sees none weighs all keys alike."""
    some = seen.any(-1, keepdim=True)
    y = F.scaled_dot_product_attention(
        q, k, v, seen | ~some, dropout_p=dropout_p, scale=scale, enable_gqa=enable_gqa
    )
    mean = v.mean(-2, keepdim=True)
    return torch.where(some, y, mean.repeat_interleave(q.shape[1] // v.shape[1], 1) if enable_gqa else mean)


def biased_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    *,
    dropout_p: float = 0.0,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Attention with numbers that are added to scores, however low they are in all of a row.

    The gradients of `F.scaled_dot_product_attention` need a number near zero in each row, and scores beside
    which none is lose all difference.
    """
    top = bias.amax(-1, keepdim=True)
    y = F.scaled_dot_product_attention(
        q, k, v, bias - top, dropout_p=dropout_p, scale=scale, enable_gqa=enable_gqa
    )
    mean = v.mean(-2, keepdim=True)
    mean = mean.repeat_interleave(q.shape[1] // v.shape[1], 1) if enable_gqa else mean
    return torch.where((top < -1e30) & (top > -math.inf), mean, y)


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


@lowering("FlexAttention", domain="ai.onnx.preview", supports=flex_attention_refusal)
def flex_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    prob_mod: Callable[[Tensor], Tensor] | None = None,
    scale: float | None = None,
    score_mod: Callable[[Tensor], Tensor] | None = None,
    softmax_precision: int | None = None,
    input_types: tuple[str, ...] = ("FLOAT",) * 3,
    input_shapes: tuple[tuple[Any, ...] | None, ...] = (None,) * 3,
) -> Tensor:
    """softmax(q @ k.T * scale) @ v with functions of the scores and of the weights between."""
    precision = flex_precision(input_types[0], softmax_precision)
    options = attention_options(0, scale, are_grouped(input_shapes, None, None))
    if score_mod is None and prob_mod is None and precision == native_name(input_types[0]):
        return F.scaled_dot_product_attention(q, k, v, **options)
    return modified_attention(
        q, k, v, score_mod=score_mod, prob_mod=prob_mod, scale=scale, precision=precision
    )


def modified_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    score_mod: Callable[[Tensor], Tensor] | None = None,
    prob_mod: Callable[[Tensor], Tensor] | None = None,
    scale: float | None = None,
    precision: str = "float32",
) -> Tensor:
    """Attention whose scores and weights are changed by functions, from the scores on in one precision."""
    wide = getattr(torch, precision)
    groups = q.shape[1] // k.shape[1]
    root = (q.shape[-1] ** -0.5 if scale is None else scale) ** 0.5
    scores = ((q * root) @ (k.repeat_interleave(groups, 1) * root).mT).to(wide)
    scores = scores if score_mod is None else score_mod(scores)
    weights = torch.softmax(scores, -1)
    weights = weights if prob_mod is None else prob_mod(weights)
    return (weights @ v.repeat_interleave(groups, 1).to(wide)).to(v.dtype)


@lowering("RotaryEmbedding", since=23)
def rotary_embedding(
    x: Tensor,
    cos_cache: Tensor,
    sin_cache: Tensor,
    position_ids: Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> Tensor:
    """Rotate pairs of each head's first elements, halves or neighbours, by the angles of their positions."""
    cos = (cos_cache if position_ids is None else cos_cache[position_ids]).unsqueeze(1)
    sin = (sin_cache if position_ids is None else sin_cache[position_ids]).unsqueeze(1)
    heads = x if x.ndim == 4 else split_heads(x, num_heads)
    width = rotary_embedding_dim or heads.shape[-1]
    turned, rest = heads[..., :width], heads[..., width:]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else turned.chunk(2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        y = torch.cat((torch.stack((real, imaginary), -1).flatten(-2), rest), -1)
    else:
        y = torch.cat((real, imaginary, rest), -1)
    return y if x.ndim == 4 else merge_heads(y)


@lowering("TensorScatter", since=24)
def tensor_scatter(
    past_cache: Tensor,
    update: Tensor,
    write_indices: Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Tensor:
    """The cache with an update along an axis, from an index of each sample on; `circular` wraps around."""
    length, size = update.shape[axis], past_cache.shape[axis]
    if write_indices is None:
        return torch.cat((update, past_cache.narrow(axis, length, size - length)), axis)
    index = write_indices[:, None] + torch.arange(length, device=update.device)
    index = index % size if mode == "circular" else index
    shape = [1] * update.ndim
    shape[0], shape[axis] = index.shape
    places = index.view(shape).expand_as(update)
    if past_cache.is_floating_point():
        return past_cache.scatter(axis, places, update)
    return signed_bits(past_cache).scatter(axis, places, signed_bits(update)).view(past_cache.dtype)


def signed_bits(x: Tensor) -> Tensor:
    """Wide unsigned integers as signed ones of the same bits, which all kernels take; others as they are."""
    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
    return x.view(signed.get(x.dtype, x.dtype))


@lowering("CausalConvWithState", since=27, supports=causal_conv_refusal)
def causal_conv_with_state(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    past_state: Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """A convolution of each channel with what came before, and the last positions, to go on from."""
    before = weight.shape[-1] - 1
    history = F.pad(x, (before, 0)) if past_state is None else torch.cat((past_state, x), -1)
    y = F.conv1d(history, weight, bias, groups=weight.shape[0])
    y = y if activation == "none" else F.silu(y)
    return y, history[..., history.shape[-1] - before :]


@lowering("LinearAttention", since=27, supports=linear_attention_refusal)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past_state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """Attention by a state: the sum of key-value products, which decays (`gated`) or is corrected (`delta`).

    All positions at once: with G the running sum of the decays, position t weighs the update u of
    position i by q_t @ (exp(G_t - G_i) * k_i). The updates of a delta rule solve a triangular system
    (Yang et al., "Parallelizing Linear Transformers with the Delta Rule", arXiv 2406.06484). Takes memory
    for each pair of positions, as attention does; computes in float32 at least.
    """
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k = split_heads(query, q_num_heads).to(wide), split_heads(key, kv_num_heads).to(wide)
    updates = split_heads(value, kv_num_heads).to(wide)
    batch, heads, length, size = k.shape
    state = k.new_zeros(batch, heads, size, updates.shape[-1]) if past_state is None else past_state.to(wide)
    if decay is not None and "gated" in update_rule:
        total = split_heads(decay, kv_num_heads).to(wide).cumsum(2)
    else:
        total = k.new_zeros(1, 1, length, 1)
    earlier = torch.ones(length, length, dtype=torch.bool, device=k.device).tril()[..., None]
    decays = torch.where(earlier, total[..., :, None, :] - total[..., None, :, :], -math.inf).exp()
    if beta is not None and "delta" in update_rule:
        rate = beta.to(wide).transpose(1, 2)[..., None]
        overlap = rate * decayed_products(k, k, decays)
        known = rate * (updates - (k * total.exp()) @ state)
        updates = torch.linalg.solve_triangular(overlap.tril(-1), known, upper=False, unitriangular=True)
    q = q.reshape(batch, heads, -1, length, size)
    read = decayed_products(q, k[:, :, None], decays[:, :, None]) @ updates[:, :, None]
    read = read + (q * total.exp()[:, :, None]) @ state[:, :, None]
    y = merge_heads((read * (scale or size**-0.5)).flatten(1, 2)).to(query.dtype)
    written = (k * decays[..., -1, :, :]).mT @ updates
    present = total[..., -1, :, None].exp() * state + written
    return y, present.to(query.dtype if past_state is None else past_state.dtype)


def decayed_products(a: Tensor, b: Tensor, decays: Tensor) -> Tensor:
    """The products of all a with all b, each element weighed by the decay between their positions."""
    if decays.shape[-1] == 1:
        return (a @ b.mT) * decays[..., 0]
    return torch.einsum("...td,...id,...tid->...ti", a, b, decays)
