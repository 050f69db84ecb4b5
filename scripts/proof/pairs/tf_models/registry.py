"""Registration and saving of the TensorFlow versions."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from scripts.proof.pairs.catalog import PAIRS, Pair
from scripts.proof.pairs.tf_models.weights import Weights

Factory = Callable[..., Any]
_FACTORIES: dict[str, Factory] = {}


def tf_model(name: str) -> Callable[[Factory], Factory]:
    """Register the TensorFlow version of a pair.

    Of a `.keras` pair it is a function of the weights that makes a Keras model; of any other, a function
    of the weights and the input tensors that gives a tensor, a tuple or a dictionary of tensors.
    """

    def register(factory: Factory) -> Factory:
        if name in _FACTORIES:
            raise ValueError(f"{name!r} is registered twice")
        _FACTORIES[name] = factory
        return factory

    return register


def names() -> set[str]:
    """The names under which TensorFlow versions are registered."""
    for family in {pair.family for pair in PAIRS.values()}:
        importlib.import_module(f"scripts.proof.pairs.tf_models.{family}")
    return set(_FACTORIES)


class Model(tf.Module):
    """A function over variables with one plain signature."""

    def __init__(self, function: Factory, weights: Weights, pair: Pair) -> None:
        super().__init__()
        specs = [
            tf.TensorSpec(
                [size if isinstance(size, int) else None for size in each.shape], each.dtype, each.name
            )
            for each in pair.inputs
        ]

        def call(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return _named(function(weights, *inputs))

        self.call = tf.function(call, input_signature=specs)
        self.call.get_concrete_function()  # makes the variables
        self.variables_by_name = dict(weights.variables)


def _named(outputs: Any) -> dict[str, tf.Tensor]:
    """Outputs as a signature gives them: it sorts them by name."""
    if isinstance(outputs, dict):
        return outputs
    several = outputs if isinstance(outputs, tuple) else (outputs,)
    return {f"output_{position}": output for position, output in enumerate(several)}


def make(name: str, weights: Weights) -> Any:
    """The TensorFlow version over weights: a Keras model or a `Model`."""
    pair = PAIRS[name]
    importlib.import_module(f"scripts.proof.pairs.tf_models.{pair.family}")
    factory = _FACTORIES[pair.defined_as]
    return factory(weights) if pair.keras else Model(factory, weights, pair)


def save(model: Any, pair: Pair, path: Path) -> None:
    """Write a model as `.keras` or as a SavedModel, whichever the pair says."""
    if pair.keras:
        model.save(path)
    else:
        tf.saved_model.save(model, str(path), signatures={"serving_default": model.call})


def write(name: str, directory: Path) -> None:
    """Write `model.keras` or `saved_model` of a pair, over its `weights.npz` if it has a PyTorch version."""
    file = directory / "weights.npz"
    arrays = dict(np.load(file)) if file.is_file() else {}
    pair = PAIRS[name]
    save(make(name, Weights(arrays)), pair, directory / ("model.keras" if pair.keras else "saved_model"))
