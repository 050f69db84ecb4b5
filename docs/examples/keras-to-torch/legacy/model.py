"""The classifier."""

from __future__ import annotations

import keras
from keras import layers

from data import CLASSES, SIDE
from legacy.layers import SqueezeExcite, Standardise


def build() -> keras.Model:
    """Images (batch, 8, 8, 1) in, logits (batch, 10) out."""
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = Standardise(name="standardise")(image)
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization(name="stem_norm")(x)
    x = layers.Activation("gelu", name="stem_gelu")(x)
    x = SqueezeExcite(name="attention")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="down")(x)
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    x = layers.Dropout(0.1, name="dropout")(x)
    return keras.Model(image, layers.Dense(CLASSES, name="logits")(x), name="digits")
