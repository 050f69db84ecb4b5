"""Give a Keras model the weights of a PyTorch version: layers are called like the modules."""

from __future__ import annotations

import keras
import numpy as np

from scripts.proof.pairs.tf_models.weights import Array, Weights, conv_kernel, depthwise_kernel

_NAMES = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}


def with_weights(model: keras.Model, weights: Weights) -> keras.Model:
    """The model, each layer's variables set from the module of the same name ("_" in place of ".")."""
    paths = {path.rpartition(".")[0].replace(".", "_"): path.rpartition(".")[0] for path in weights.arrays}
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_layer_weights(layer, weights, paths[layer.name]))
    return model


def _layer_weights(layer: keras.layers.Layer, weights: Weights, path: str) -> list[Array]:
    arrays = weights.arrays
    if isinstance(layer, keras.layers.LSTM):
        bias = arrays[f"{path}.bias_ih_l0"] + arrays[f"{path}.bias_hh_l0"]
        return [arrays[f"{path}.weight_ih_l0"].T, arrays[f"{path}.weight_hh_l0"].T, bias]
    found = []
    for variable in layer.weights:
        if variable.name == "kernel":
            array = arrays[f"{path}.weight"]
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                array = depthwise_kernel(array)
            else:
                array = np.transpose(array) if array.ndim == 2 else conv_kernel(array)
        else:
            array = arrays[f"{path}.{_NAMES.get(variable.name, variable.name)}"]
        found.append(array)
    return found
