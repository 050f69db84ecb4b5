"""Single layers with fixed weights, to be held against their ports one by one."""

from __future__ import annotations

import keras
import numpy as np

from legacy.layers import SqueezeExcite, Standardise


def standardise() -> keras.Model:
    image = keras.Input((8, 8, 1), name="image")
    return keras.Model(image, Standardise()(image))


def squeeze_excite() -> keras.Model:
    features = keras.Input((6, 6, 16), name="features")
    model = keras.Model(features, SqueezeExcite()(features))
    model.set_weights(list(weights()))
    return model


def weights():
    """The kernels and biases of a SqueezeExcite of 16 channels, in Keras' order and layout."""
    rng = np.random.default_rng(5)
    for shape in ((16, 4), (4,), (4, 16), (16,)):
        yield rng.normal(0, 0.5, shape).astype(np.float32)
