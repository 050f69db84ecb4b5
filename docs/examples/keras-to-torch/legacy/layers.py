"""Layers of our own."""

from __future__ import annotations

import keras
from keras import ops


@keras.saving.register_keras_serializable("digits")
class Standardise(keras.layers.Layer):
    """Gives every image mean 0 and standard deviation 1."""

    def call(self, image):
        mean = ops.mean(image, axis=(1, 2, 3), keepdims=True)
        variance = ops.var(image, axis=(1, 2, 3), keepdims=True)
        return (image - mean) / ops.sqrt(variance + 1e-6)


@keras.saving.register_keras_serializable("digits")
class SqueezeExcite(keras.layers.Layer):
    """Weighs the channels by what is in the whole image (Hu et al., 2018)."""

    def __init__(self, reduction=4, **options):
        super().__init__(**options)
        self.reduction = reduction

    def build(self, shape):
        channels = shape[-1]
        self.squeeze = keras.layers.Dense(channels // self.reduction, activation="relu", name="squeeze")
        self.excite = keras.layers.Dense(channels, activation="sigmoid", name="excite")
        self.squeeze.build((shape[0], channels))
        self.excite.build((shape[0], channels // self.reduction))

    def call(self, features):
        weights = self.excite(self.squeeze(ops.mean(features, axis=(1, 2))))
        return features * ops.reshape(weights, (-1, 1, 1, features.shape[-1]))

    def get_config(self):
        return {**super().get_config(), "reduction": self.reduction}
