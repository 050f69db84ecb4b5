"""Sources that bridge converts: smaller members of families of `keras.applications`, with seeded weights.

Their builders are not exported, only the members of published sizes are.
"""

from __future__ import annotations

import keras
import numpy as np
from keras.src.applications import convnext, efficientnet, mobilenet, resnet

from scripts.proof.pairs.tf_models.registry import tf_model
from scripts.proof.pairs.tf_models.weights import Weights

_SEED = 20


def _trained(model: keras.Model) -> keras.Model:
    """Random norm scales and shifts, and the running statistics of real activations."""
    generator = np.random.default_rng(_SEED)
    for variable in model.trainable_variables:
        if variable.name == "gamma":
            variable.assign(generator.uniform(0.6, 1.4, variable.shape))
        elif variable.name in ("beta", "bias"):
            variable.assign(generator.normal(0.0, 0.2, variable.shape))
    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 0.0
    if norms:
        model(generator.standard_normal((64, *model.input_shape[1:])).astype("float32"), training=True)
    for each, momentum in zip(norms, momenta, strict=True):
        each.momentum = momentum
    return model


@tf_model("keras_mobilenet")
def keras_mobilenet(w: Weights) -> keras.Model:
    keras.utils.set_random_seed(_SEED)
    inputs = keras.Input((32, 32, 3), name="x")
    return _trained(
        mobilenet.MobileNet(
            alpha=0.25, weights=None, input_tensor=inputs, classes=10, classifier_activation=None
        )
    )


@tf_model("keras_efficientnet")
def keras_efficientnet(w: Weights) -> keras.Model:
    keras.utils.set_random_seed(_SEED)
    inputs = keras.Input((32, 32, 3), name="x")
    model = efficientnet.EfficientNet(
        0.3, 0.4, 32, weights=None, input_tensor=inputs, classes=10, classifier_activation=None
    )
    return _trained(model)


@tf_model("keras_convnext")
def keras_convnext(w: Weights) -> keras.Model:
    keras.utils.set_random_seed(_SEED)
    model = convnext.ConvNeXt(
        depths=(1, 1, 2, 1),
        projection_dims=(12, 16, 24, 32),
        layer_scale_init_value=0.5,
        weights=None,
        input_tensor=keras.Input((32, 32, 3), name="x"),
        classes=10,
        classifier_activation=None,
    )
    return _trained(model)


@tf_model("keras_resnet")
def keras_resnet(w: Weights) -> keras.Model:
    keras.utils.set_random_seed(_SEED)

    def stacks(x: keras.KerasTensor) -> keras.KerasTensor:
        x = resnet.stack_residual_blocks_v1(x, 8, 2, stride1=1, name="conv2")
        return resnet.stack_residual_blocks_v1(x, 16, 2, name="conv3")

    model = resnet.ResNet(
        stacks,
        preact=False,
        use_bias=True,
        weights=None,
        input_tensor=keras.Input((32, 32, 3), name="x"),
        classes=10,
        classifier_activation=None,
    )
    return _trained(model)


@tf_model("keras_transformer")
def keras_transformer(w: Weights) -> keras.Model:
    keras.utils.set_random_seed(_SEED)
    layers = keras.layers
    x = inputs = keras.Input((8, 16), name="x")
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        x = layers.Add()([x, layers.MultiHeadAttention(4, 4)(y, y)])
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(16)(layers.Dense(32, activation="gelu")(y))
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))
    return _trained(keras.Model(inputs, layers.Dense(5)(x)))
