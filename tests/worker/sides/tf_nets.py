"""TensorFlow models for tests of sides, and what is checked of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

Array = np.ndarray[Any, np.dtype[Any]]

UNIT = 2.0**-24


def cotangents(outputs: Sequence[Array]) -> list[Array | None]:
    """Fixed cotangents, None for integers."""
    generator = np.random.default_rng(7)
    return [generator.normal(size=each.shape) if each.dtype.kind == "f" else None for each in outputs]


def product(outputs: Sequence[Array]) -> float:
    """The function whose gradient a vjp with these cotangents is."""
    pairs = zip(outputs, cotangents(outputs), strict=True)
    return float(sum((output * given).sum() for output, given in pairs if given is not None))


def check_gradient(side: Any, feeds: dict[str, Array], path: str, *, training: bool = False) -> None:
    """The weight's gradient against a difference quotient, at the element where it is largest."""
    state = side.state()
    _, _, gradients = side.vjp(feeds, cotangents, training)
    index = np.unravel_index(np.abs(gradients[path]).argmax(), gradients[path].shape)
    values = []
    for step in (1e-6, -1e-6):
        moved = state[path].copy()
        moved[index] += step
        side.assign({**state, path: moved})
        values.append(product(side.vjp(feeds, cotangents, training)[0]))
    side.assign(state)
    np.testing.assert_allclose((values[0] - values[1]) / 2e-6, gradients[path][index], rtol=1e-5, atol=1e-9)


def check_precisions(side: Any, feeds: dict[str, Array]) -> None:
    """float64 is near float32 and not it; noise is as small as rounding, and follows from its seed."""
    single, double = side.run(feeds), side.run_fp64(feeds)
    noisy = [side.run_noisy(feeds, UNIT, seed) for seed in (1, 1, 2)]
    moved = False
    for position, (rough, exact) in enumerate(zip(single, double, strict=True)):
        first, again, other = (each[position] for each in noisy)
        np.testing.assert_array_equal(first, again)
        if exact.dtype.kind != "f":
            np.testing.assert_array_equal(rough, exact)
            continue
        assert exact.dtype == first.dtype == np.float64
        scale = np.abs(exact).max()
        assert 0 < np.abs(rough - exact).max() < 1e-5 * scale
        assert 0 < np.abs(first - exact).max() < 1e-5 * scale
        moved = moved or not np.array_equal(first, other)
    assert moved


class Hand(tf.Module):
    """Written without layers: convolutions, batch normalizations, resizing, an LSTM in a loop, lookups."""

    def __init__(self) -> None:
        super().__init__()
        generator = np.random.default_rng(0)

        def weight(*shape: int) -> tf.Variable:
            return tf.Variable(generator.normal(size=shape).astype(np.float32) * 0.4)

        self.table = weight(11, 6)
        self.kernel, self.depthwise = weight(3, 3, 3, 4), weight(3, 3, 4, 1)
        self.gamma, self.beta = weight(4), weight(4)
        self.mean = tf.Variable(generator.normal(size=4).astype(np.float32), trainable=False)
        self.variance = tf.Variable(np.full(4, 0.7, np.float32), trainable=False)
        self.inner, self.recurrent, self.head = weight(6, 20), weight(5, 20), weight(5, 3)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image"),
            tf.TensorSpec([None, None], tf.int32, name="tokens"),
        ]
    )
    def __call__(self, image: tf.Tensor, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        features = self._features(image)
        embedded = tf.gather(self.table, tf.cast(tokens, tf.int64))
        start = tf.zeros([tf.shape(embedded)[0], 5])

        def step(t: tf.Tensor, h: tf.Tensor, c: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            gates = tf.matmul(embedded[:, t], self.inner) + tf.matmul(h, self.recurrent)
            i, f, g, o = tf.split(gates, 4, 1)
            c = tf.sigmoid(f) * c + tf.sigmoid(i) * tf.tanh(g)
            return t + 1, tf.sigmoid(o) * tf.tanh(c), c

        _, h, _ = tf.while_loop(lambda t, h, c: t < tf.shape(embedded)[1], step, [0, start, start])
        logits = tf.einsum("bi,ij->bj", h, self.head) + tf.reduce_mean(features, [1, 2])[:, :3]
        return {"features": features, "label": tf.argmax(logits, 1), "logits": tf.nn.softmax(logits)}

    def _features(self, image: tf.Tensor) -> tf.Tensor:
        x = tf.nn.conv2d(image, self.kernel, 1, "SAME", dilations=2)
        x = tf.nn.batch_normalization(x, self.mean, self.variance, self.beta, self.gamma, 1e-3)
        y, _, _ = tf.compat.v1.nn.fused_batch_norm(
            x, self.gamma, self.beta, self.mean, self.variance, is_training=False
        )
        x = tf.nn.gelu(y) + tf.nn.gelu(y, approximate=True)
        x = tf.nn.depthwise_conv2d(x, self.depthwise, [1, 1, 1, 1], "SAME", dilations=[2, 2])
        x = tf.image.resize(tf.nn.max_pool2d(x, 2, 2, "SAME"), [7, 9])
        x = tf.image.resize(x, [5, 5], method="nearest")
        x = tf.nn.avg_pool2d(x, 2, 1, "VALID")[:, ::2, 1:]
        mean, variance = tf.nn.moments(x, [-1], keepdims=True)
        return (x - mean) * tf.math.rsqrt(variance + 1e-5)


def hand_feeds() -> dict[str, Array]:
    generator = np.random.default_rng(1)
    image = generator.normal(size=(3, 8, 8, 3)).astype(np.float32)
    return {"image": image, "tokens": generator.integers(0, 11, (3, 4)).astype(np.int32)}


def lively(model: keras.Model) -> keras.Model:
    """Weights that show a fault, positive variances."""
    generator = np.random.default_rng(5)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(generator.uniform(0.3, 1.1, variable.shape) - 0.6 * ("kernel" in variable.name))
    return model


def two_towers() -> keras.Model:
    """Keras layers of many kinds, with two inputs, dropout in several places, and a frozen layer."""
    x = image = keras.Input((8, 8, 4), name="image")
    x = layers.Conv2D(8, 3, padding="same", groups=2, dilation_rate=2, name="conv")(x)
    x = layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = layers.Dropout(0.3, name="dropout")(layers.Activation("gelu", name="gelu")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    y = layers.Embedding(13, 6, name="embedding")(tokens)
    y = layers.GRU(8, dropout=0.2, name="gru")(y)
    x, y = layers.Reshape((2, 4), name="left")(x), layers.Reshape((2, 4), name="right")(y)
    z = layers.MultiHeadAttention(2, 4, dropout=0.1, name="attention")(x, y)
    z = layers.Flatten(name="flat")(layers.LayerNormalization(name="layer_norm")(z))
    model = keras.Model([image, tokens], layers.Dense(3, name="head")(z), name="towers")
    model.get_layer("embedding").trainable = False
    return lively(model)


def tower_feeds() -> dict[str, Array]:
    generator = np.random.default_rng(1)
    image = generator.normal(size=(3, 8, 8, 4)).astype(np.float32)
    return {"image": image, "tokens": generator.integers(0, 13, (3, 5)).astype(np.int32)}


class Subclassed(keras.Model):
    """A model that no configuration describes; its factory does."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.narrow = [layers.Dense(width), layers.BatchNormalization()]

    def call(self, x: Any, training: bool = False) -> Any:
        for layer in self.narrow:
            x = layer(x, training=training) if isinstance(layer, layers.BatchNormalization) else layer(x)
        return x * tf.constant(0.3, x.dtype)


def subclassed() -> keras.Model:
    model = Subclassed()
    model(np.zeros((1, 3), np.float32))
    return model
