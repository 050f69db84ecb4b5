"""Attention: softmax of products of queries and keys, as weights of values."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bridge_converters._attention import (
    are_grouped,
    attention_refusal,
    causal_conv_refusal,
    flex_attention_refusal,
    flex_precision,
    is_plain_attention,
    linear_attention_refusal,
    native_name,
    precision_name,
)
from bridge_converters.onnx_to_tf._table import lowering


@lowering("Attention", since=23, supports=attention_refusal)
def attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    attn_mask: tf.Tensor | None = None,
    past_key: tf.Tensor | None = None,
    past_value: tf.Tensor | None = None,
    nonpad_kv_seqlen: tf.Tensor | None = None,
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
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """softmax(q @ k.T * scale + mask) @ v for each head; the further outputs are the cache and the scores."""
    windows = (left_window_size, right_window_size)
    plain = is_plain_attention(
        input_types, input_shapes, softcap, softmax_precision, is_causal, windows, outputs
    )
    options = attention_options(is_causal, scale)
    if plain and q.ndim == 3:
        return packed_attention(q, k, v, attn_mask, q_heads=q_num_heads, kv_heads=kv_num_heads, **options)
    if plain and attn_mask is None:
        return scaled_dot_product_attention(q, k, v, **options)
    if plain:
        return masked_attention(q, k, v, attn_mask, **options)
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


def attention_options(is_causal: int, scale: float | None) -> dict[str, Any]:
    """The options of `scaled_dot_product_attention` that are not its defaults."""
    options: dict[str, Any] = {}
    if is_causal:
        options["is_causal"] = True
    if scale is not None:
        options["scale"] = scale
    return options


@lowering("Attention", domain="bridge")
def native_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    blind: str = "none",
    is_causal: int = 0,
    scale: float | None = None,
) -> tf.Tensor:
    """Attention of four axes, or three; `blind` says what a query gets that the mask hides all keys from."""
    options = attention_options(is_causal, scale)
    if mask is None:
        return scaled_dot_product_attention(q, k, v, **options)
    if blind == "zeros":
        return masked_attention(q, k, v, mask, **options)
    return scaled_dot_product_attention(q, k, v, mask, **options)


@lowering("AttentionWeights", domain="bridge")
def native_attention_weights(
    q: tf.Tensor,
    k: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    blind: str = "none",
    is_causal: int = 0,
    scale: float | None = None,
) -> tf.Tensor:
    """What attention weighs values by."""
    options = attention_options(is_causal, scale)
    if mask is None:
        return attention_weights(q, k, **options)
    if blind == "zeros":
        return masked_attention_weights(q, k, mask, **options)
    return attention_weights(q, k, mask, **options)


@lowering("AttentionValues", domain="bridge")
def native_attention_values(
    weights: tf.Tensor,
    v: tf.Tensor,
    *,
    input_shapes: tuple[tuple[Any, ...] | None, ...] = (None,) * 2,
) -> tf.Tensor:
    """weights @ v; heads of values may be fewer."""
    if v.ndim == 4 and are_grouped(input_shapes, None, None):
        return tf.matmul(weights, repeat_heads(v, weights))
    return tf.matmul(weights, v)


def scaled_dot_product_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    """softmax(q @ k.T * scale + mask) @ v on (batch, heads, length, size); heads of keys may be fewer."""
    weights = attention_weights(q, k, mask, is_causal=is_causal, scale=scale)
    return tf.matmul(weights, repeat_heads(v, q))


def attention_weights(
    q: tf.Tensor,
    k: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    is_causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    """softmax(q @ k.T * scale + mask); a mask is True for what a query may see, or numbers that are added."""
    q = q / tf.sqrt(tf.cast(tf.shape(q)[-1], q.dtype)) if scale is None else q * scale
    scores = tf.matmul(q, repeat_heads(k, q), transpose_b=True)
    if is_causal:
        seen = tf.range(tf.shape(k)[-2]) <= tf.range(tf.shape(q)[-2])[:, None]
        scores = tf.where(seen, scores, tf.constant(-math.inf, q.dtype))
    return tf.nn.softmax(scores if mask is None else scores + mask_bias(mask, q))


def masked_attention(
    q: tf.Tensor, k: tf.Tensor, v: tf.Tensor, mask: tf.Tensor, *, scale: float | None = None
) -> tf.Tensor:
    """Attention under a mask that may hide all keys from a query, which then gets zeros."""
    bias = mask_bias(mask, q)
    blind = tf.reduce_max(bias, -1, keepdims=True) == -math.inf
    y = scaled_dot_product_attention(q, k, v, tf.where(blind, tf.zeros_like(bias), bias), scale=scale)
    return tf.where(blind, tf.zeros_like(y), y)


def masked_attention_weights(
    q: tf.Tensor, k: tf.Tensor, mask: tf.Tensor, *, scale: float | None = None
) -> tf.Tensor:
    """The weights under a mask that may hide all keys from a query, which then has none."""
    bias = mask_bias(mask, q)
    blind = tf.reduce_max(bias, -1, keepdims=True) == -math.inf
    weights = attention_weights(q, k, tf.where(blind, tf.zeros_like(bias), bias), scale=scale)
    return tf.where(blind, tf.zeros_like(weights), weights)


def packed_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor | None = None,
    *,
    q_heads: int | None,
    kv_heads: int | None,
    is_causal: bool = False,
    scale: float | None = None,
) -> tf.Tensor:
    """Attention on tensors of (batch, length, heads * size)."""
    q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    if mask is None:
        return merge_heads(scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=scale))
    return merge_heads(masked_attention(q, k, v, mask, scale=scale))


def scored_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    mask: tf.Tensor | None = None,
    past_key: tf.Tensor | None = None,
    past_value: tf.Tensor | None = None,
    lengths: tf.Tensor | None = None,
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
) -> tf.Tensor | tuple[tf.Tensor, ...]:
    """Attention with a cache, with limits of what a query sees, with capped scores, or giving scores out.

    `scores_at` says which scores are the fourth output: the products (0), capped (1), masked (2), or the
    weights (3). A query that may see no key gets zeros.
    """
    packed = q.ndim == 3
    q, k, v = split_heads(q, q_heads), split_heads(k, kv_heads), split_heads(v, kv_heads)
    if past_key is not None and past_value is not None:
        k, v = tf.concat((past_key, k), 2), tf.concat((past_value, v), 2)
    past = 0 if past_key is None else tf.shape(past_key)[2]
    mask = visible_keys(q, k, mask, past, lengths, causal=causal, window=window)
    root = tf.cast(tf.shape(q)[-1], q.dtype) ** -0.25 if scale is None else scale**0.5
    products = tf.matmul(q * root, repeat_heads(k, q) * root, transpose_b=True)
    capped = softcap * tf.tanh(products / softcap) if softcap > 0 else products
    bias = None if mask is None else mask_bias(mask, q)
    wide = capped if precision is None else tf.cast(capped, precision)
    weights = tf.nn.softmax(wide) if bias is None else masked_softmax(wide, tf.cast(bias, wide.dtype))
    weights = tf.cast(weights, q.dtype)
    y = tf.matmul(weights, repeat_heads(tf.cast(v, q.dtype), q))
    y = merge_heads(y) if packed else y
    scores = capped if bias is None else capped + bias
    return (y, k, v, (products, capped, scores, weights)[scores_at])[:outputs] if outputs > 1 else y


def split_heads(x: tf.Tensor, heads: int | None) -> tf.Tensor:
    """(batch, length, heads * size) as (batch, heads, length, size); four axes stay as they are."""
    if heads is None:
        return x
    size = -1 if x.shape[-1] is None else x.shape[-1] // heads
    split = tf.reshape(x, (tf.shape(x)[0], tf.shape(x)[1], heads, size))
    return tf.transpose(split, (0, 2, 1, 3))


def merge_heads(x: tf.Tensor) -> tf.Tensor:
    """(batch, heads, length, size) as (batch, length, heads * size)."""
    width = -1 if None in (x.shape[1], x.shape[3]) else x.shape[1] * x.shape[3]
    return tf.reshape(tf.transpose(x, (0, 2, 1, 3)), (tf.shape(x)[0], tf.shape(x)[2], width))


def repeat_heads(x: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """Each head of keys or values for all the heads of queries that share it; three axes have none."""
    if x.ndim == 3:
        return x
    if None in (x.shape[1], q.shape[1]):
        return tf.repeat(x, tf.shape(q)[1] // tf.shape(x)[1], axis=1)
    return x if x.shape[1] == q.shape[1] else tf.repeat(x, q.shape[1] // x.shape[1], axis=1)


def masked_softmax(scores: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
    """Softmax of scores + bias; zeros where all of a row is masked."""
    blind = tf.reduce_max(bias, -1, keepdims=True) == -math.inf
    weights = tf.nn.softmax(tf.where(blind, tf.zeros_like(scores), scores + bias))
    return tf.where(blind, tf.zeros_like(weights), weights)


def mask_bias(mask: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
    """A mask as numbers that are added to scores."""
    if tf.as_dtype(mask.dtype).is_bool:
        return tf.where(mask, tf.zeros((), q.dtype), tf.constant(-math.inf, q.dtype))
    return tf.cast(mask, q.dtype)


def visible_keys(
    q: tf.Tensor,
    k: tf.Tensor,
    mask: tf.Tensor | None,
    past: int | tf.Tensor,
    lengths: tf.Tensor | None,
    *,
    causal: bool,
    window: tuple[int, int],
) -> tf.Tensor | None:
    """One mask for all that limits what a query sees; None where nothing does.

    A query stands behind the `past` keys, or at the end of the first `lengths` keys of each sample. It
    sees the keys from `window[0]` before it to `window[1]` behind it; -1 is no limit.
    """
    if mask is not None:
        edge = [[0, 0]] * (mask.ndim - 1) + [[0, tf.shape(k)[2] - tf.shape(mask)[-1]]]
        hidden = tf.constant(False) if tf.as_dtype(mask.dtype).is_bool else tf.constant(-math.inf, q.dtype)
        mask = tf.pad(
            mask if tf.as_dtype(mask.dtype).is_bool else tf.cast(mask, q.dtype), edge, constant_values=hidden
        )
    keys, positions = tf.range(tf.shape(k)[2]), tf.range(tf.shape(q)[2])[:, None] + past
    if lengths is not None:
        lengths = tf.cast(lengths, tf.int32)[:, None, None, None]
        positions += lengths - tf.shape(q)[2]
        mask = restricted(mask, keys < lengths)
    before, after = window[0], 0 if causal else window[1]
    if after >= 0:
        mask = restricted(mask, keys <= positions + after)
    if before >= 0:
        mask = restricted(mask, keys >= positions - before)
    return mask


def restricted(mask: tf.Tensor | None, visible: tf.Tensor) -> tf.Tensor:
    """A mask under which a query sees no more than `visible`."""
    if mask is None:
        return visible
    if tf.as_dtype(mask.dtype).is_bool:
        return mask & visible
    return tf.where(visible, mask, tf.constant(-math.inf, mask.dtype))


@lowering("FlexAttention", domain="ai.onnx.preview", supports=flex_attention_refusal)
def flex_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    *,
    prob_mod: Callable[[tf.Tensor], tf.Tensor] | None = None,
    scale: float | None = None,
    score_mod: Callable[[tf.Tensor], tf.Tensor] | None = None,
    softmax_precision: int | None = None,
    input_types: tuple[str, ...] = ("FLOAT",) * 3,
) -> tf.Tensor:
    """softmax(q @ k.T * scale) @ v with functions of the scores and of the weights between."""
    precision = flex_precision(input_types[0], softmax_precision)
    options = attention_options(0, scale)
    if score_mod is None and prob_mod is None and precision == native_name(input_types[0]):
        return scaled_dot_product_attention(q, k, v, **options)
    return modified_attention(
        q, k, v, score_mod=score_mod, prob_mod=prob_mod, scale=scale, precision=precision
    )


def modified_attention(
    q: tf.Tensor,
    k: tf.Tensor,
    v: tf.Tensor,
    *,
    score_mod: Callable[[tf.Tensor], tf.Tensor] | None = None,
    prob_mod: Callable[[tf.Tensor], tf.Tensor] | None = None,
    scale: float | None = None,
    precision: str = "float32",
) -> tf.Tensor:
    """Attention whose scores and weights are changed by functions, from the scores on in one precision."""
    root = tf.cast(tf.shape(q)[-1], q.dtype) ** -0.25 if scale is None else scale**0.5
    scores = tf.cast(tf.matmul(q * root, repeat_heads(k, q) * root, transpose_b=True), precision)
    scores = scores if score_mod is None else score_mod(scores)
    weights = tf.nn.softmax(scores)
    weights = weights if prob_mod is None else prob_mod(weights)
    return tf.cast(tf.matmul(weights, tf.cast(repeat_heads(v, q), precision)), v.dtype)


@lowering("RotaryEmbedding", since=23)
def rotary_embedding(
    x: tf.Tensor,
    cos_cache: tf.Tensor,
    sin_cache: tf.Tensor,
    position_ids: tf.Tensor | None = None,
    *,
    interleaved: int = 0,
    num_heads: int | None = None,
    rotary_embedding_dim: int = 0,
) -> tf.Tensor:
    """Rotate pairs of each head's first elements, halves or neighbours, by the angles of their positions."""
    cos = (cos_cache if position_ids is None else tf.gather(cos_cache, position_ids))[:, None]
    sin = (sin_cache if position_ids is None else tf.gather(sin_cache, position_ids))[:, None]
    heads = x if x.ndim == 4 else split_heads(x, num_heads)
    width = rotary_embedding_dim or heads.shape[-1]
    turned, rest = heads[..., :width], heads[..., width:]
    a, b = (turned[..., ::2], turned[..., 1::2]) if interleaved else tf.split(turned, 2, -1)
    real, imaginary = cos * a - sin * b, sin * a + cos * b
    if interleaved:
        y = tf.concat((tf.reshape(tf.stack((real, imaginary), -1), tf.shape(turned)), rest), -1)
    else:
        y = tf.concat((real, imaginary, rest), -1)
    y = tf.ensure_shape(y, heads.shape)
    return y if x.ndim == 4 else merge_heads(y)


@lowering("TensorScatter", since=24)
def tensor_scatter(
    past_cache: tf.Tensor,
    update: tf.Tensor,
    write_indices: tf.Tensor | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> tf.Tensor:
    """The cache with an update along an axis, from an index of each sample on; `circular` wraps around."""
    axis = axis % past_cache.ndim
    batch, size, length = tf.shape(past_cache)[0], tf.shape(past_cache)[axis], tf.shape(update)[axis]
    begin = tf.zeros((batch,), tf.int32) if write_indices is None else tf.cast(write_indices, tf.int32)
    place = tf.range(size) - begin[:, None]
    place = place % size if mode == "circular" else place
    fresh = tf.gather(update, tf.clip_by_value(place, 0, tf.maximum(length - 1, 0)), axis=axis, batch_dims=1)
    written = (place >= 0) & (place < length)
    shape = [batch, *[1] * (axis - 1), size, *[1] * (past_cache.ndim - axis - 1)]
    return tf.where(tf.reshape(written, shape), fresh, past_cache)


@lowering("CausalConvWithState", since=27, supports=causal_conv_refusal)
def causal_conv_with_state(
    x: tf.Tensor,
    weight: tf.Tensor,
    bias: tf.Tensor | None = None,
    past_state: tf.Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[tf.Tensor, tf.Tensor]:
    """A convolution of each channel with what came before, and the last positions, to go on from.

    Sums in float32 at least.
    """
    taps, length = weight.shape[-1], tf.shape(x)[2]
    if past_state is None:
        history = tf.pad(x, ((0, 0), (0, 0), (taps - 1, 0)))
    else:
        history = tf.concat((past_state, x), -1)
    wide = tf.float64 if x.dtype == tf.float64 else tf.float32
    terms, factors = tf.cast(history, wide), tf.cast(weight, wide)
    y = tf.add_n([terms[..., i : i + length] * factors[:, :, i] for i in range(taps)])
    y = y if bias is None else y + tf.cast(bias, wide)[:, None]
    y = tf.cast(y if activation == "none" else tf.nn.silu(y), x.dtype)
    return tf.ensure_shape(y, x.shape), history[..., length:]


@lowering("LinearAttention", since=27, supports=linear_attention_refusal)
def linear_attention(
    query: tf.Tensor,
    key: tf.Tensor,
    value: tf.Tensor,
    past_state: tf.Tensor | None = None,
    decay: tf.Tensor | None = None,
    beta: tf.Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[tf.Tensor, tf.Tensor]:
    """Attention by a state: the sum of key-value products, which decays (`gated`) or is corrected (`delta`).

    All positions at once: with G the running sum of the decays, position t weighs the update u of
    position i by q_t @ (exp(G_t - G_i) * k_i). The updates of a delta rule solve a triangular system
    (Yang et al., "Parallelizing Linear Transformers with the Delta Rule", arXiv 2406.06484). Takes memory
    for each pair of positions, as attention does; computes in float32 at least.
    """
    wide = tf.float64 if query.dtype == tf.float64 else tf.float32
    q, k = split_heads(tf.cast(query, wide), q_num_heads), split_heads(tf.cast(key, wide), kv_num_heads)
    updates = split_heads(tf.cast(value, wide), kv_num_heads)
    batch, length, size = tf.shape(k)[0], tf.shape(k)[2], k.shape[3]
    if past_state is None:
        state = tf.zeros((batch, kv_num_heads, size, updates.shape[3]), wide)
    else:
        state = tf.cast(past_state, wide)
    if decay is not None and "gated" in update_rule:
        total = tf.cumsum(split_heads(tf.cast(decay, wide), kv_num_heads), 2)
    else:
        total = tf.zeros((1, 1, length, 1), wide)
    earlier = (tf.range(length) <= tf.range(length)[:, None])[..., None]
    between = total[..., :, None, :] - total[..., None, :, :]
    decays = tf.exp(tf.where(earlier, between, tf.constant(-math.inf, wide)))
    if beta is not None and "delta" in update_rule:
        rate = tf.transpose(tf.cast(beta, wide), (0, 2, 1))[..., None]
        overlap = tf.linalg.set_diag(rate * decayed_products(k, k, decays), tf.ones(tf.shape(k)[:3], wide))
        known = rate * (updates - tf.matmul(k * tf.exp(total), state))
        updates = tf.linalg.triangular_solve(overlap, known)
    q = tf.reshape(q, (batch, kv_num_heads, q_num_heads // kv_num_heads, length, size))
    read = tf.matmul(decayed_products(q, k[:, :, None], decays[:, :, None]), updates[:, :, None])
    read += tf.matmul(q * tf.exp(total)[:, :, None], state[:, :, None])
    heads = tf.reshape(read * (scale or size**-0.5), (batch, q_num_heads, length, updates.shape[3]))
    written = tf.matmul(k * decays[..., -1, :, :], updates, transpose_a=True)
    present = tf.exp(total)[..., -1, :, None] * state + written
    narrow = query.dtype if past_state is None else past_state.dtype
    return tf.cast(merge_heads(heads), query.dtype), tf.cast(present, narrow)


def decayed_products(a: tf.Tensor, b: tf.Tensor, decays: tf.Tensor) -> tf.Tensor:
    """The products of all a with all b, each element weighed by the decay between their positions."""
    if decays.shape[-1] == 1:
        return tf.matmul(a, b, transpose_b=True) * decays[..., 0]
    return tf.einsum("...td,...id,...tid->...ti", a, b, decays)
