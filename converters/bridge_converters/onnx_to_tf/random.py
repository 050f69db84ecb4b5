"""Random numbers: from TensorFlow's global generator, or stateless ones where a seed is given."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._dtypes import dtype_of
from bridge_converters.onnx_to_tf._table import lowering


@lowering("RandomNormal")
def random_normal(
    *,
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    shape: tuple[int, ...],
) -> tf.Tensor:
    """Normally distributed numbers; the same ones in every call if there is a seed."""
    return normal_numbers(shape, dtype_of(dtype), mean, scale, seed)


@lowering("RandomNormalLike")
def random_normal_like(
    x: tf.Tensor,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> tf.Tensor:
    """Normally distributed numbers in the shape of x; the same ones in every call if there is a seed."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return tf.ensure_shape(normal_numbers(tf.shape(x), kind, mean, scale, seed), x.shape)


@lowering("RandomUniform")
def random_uniform(
    *,
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
    shape: tuple[int, ...],
) -> tf.Tensor:
    """Uniformly distributed numbers from low to high; the same ones in every call if there is a seed."""
    return uniform_numbers(shape, dtype_of(dtype), low, high, seed)


@lowering("RandomUniformLike")
def random_uniform_like(
    x: tf.Tensor,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> tf.Tensor:
    """Uniformly distributed numbers in the shape of x; the same ones in every call if there is a seed."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    return tf.ensure_shape(uniform_numbers(tf.shape(x), kind, low, high, seed), x.shape)


@lowering("Bernoulli")
def bernoulli(x: tf.Tensor, *, dtype: int | None = None, seed: float | None = None) -> tf.Tensor:
    """1 with the probabilities x, 0 otherwise; the same draws in every call if there is a seed."""
    kind = tf.float64 if x.dtype == tf.float64 else tf.float32
    drawn = uniform_numbers(tf.shape(x), kind, 0.0, 1.0, seed) < tf.cast(x, kind)
    return tf.ensure_shape(tf.cast(drawn, x.dtype if dtype is None else dtype_of(dtype)), x.shape)


@lowering("Multinomial")
def multinomial(
    x: tf.Tensor,
    *,
    dtype: int = 6,
    sample_size: int = 1,
    seed: float | None = None,
) -> tf.Tensor:
    """Classes drawn by the unnormalised log-probabilities in the rows of x, with replacement."""
    if seed is None:
        return tf.random.categorical(x, sample_size, dtype_of(dtype))
    return tf.random.stateless_categorical(x, sample_size, (int(seed), 0), dtype_of(dtype))


def normal_numbers(
    shape: tf.Tensor | tuple[int, ...], dtype: tf.DType, mean: float, scale: float, seed: float | None
) -> tf.Tensor:
    """Numbers of a normal distribution; the same ones in every call if there is a seed."""
    if seed is None:
        return tf.random.normal(shape, mean, scale, dtype)
    return tf.random.stateless_normal(shape, (int(seed), 0), mean, scale, dtype)


def uniform_numbers(
    shape: tf.Tensor | tuple[int, ...], dtype: tf.DType, low: float, high: float, seed: float | None
) -> tf.Tensor:
    """Numbers of a uniform distribution; the same ones in every call if there is a seed."""
    if seed is None:
        return tf.random.uniform(shape, low, high, dtype)
    return tf.random.stateless_uniform(shape, (int(seed), 0), low, high, dtype)
