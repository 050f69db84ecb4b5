"""TensorFlow's side of `speed`: layers to convert, and timing what was converted to TensorFlow.

`python -m scripts.sequences.speed_tf make KIND WIDTH FILE` or `... time KIND WIDTH DIRECTORY ROUNDS`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scripts.acceptance_probe import load_source
from scripts.sequences.turns import SIZES, in_turns

HEADS = 4


def layer(kind: str, width: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    x = keras.Input((None, width), name="x")
    match kind:
        case "lstm":
            y = keras.layers.LSTM(width, return_sequences=True, name="rnn")(x)
        case "gru":
            y = keras.layers.GRU(width, return_sequences=True, name="rnn")(x)
        case "attention":
            y = keras.layers.MultiHeadAttention(HEADS, width // HEADS, name="attention")(x, x)
        case _:
            y = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(x, y)


def take_weights(native: keras.Model, ours: keras.Model) -> None:
    """Give the handwritten layer the weights of the emitted one: by names of variables, else by shapes."""
    left = list(ours.weights)
    for variable in native.weights:
        same = [each for each in left if each.shape == variable.shape and each.name == variable.name]
        alike = same or [each for each in left if np.prod(each.shape) == np.prod(variable.shape)]
        variable.assign(np.reshape(np.asarray(alike[0]), variable.shape))
        left = [each for each in left if each is not alike[0]]


def measure(kind: str, width: int, directory: Path, rounds: int) -> list[dict[str, Any]]:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    ours, native = load_source(directory), layer(kind, width)
    take_weights(native, ours)
    signature = [tf.TensorSpec([None, None, width], tf.float32)]
    traced = [tf.function(each, input_signature=signature) for each in (ours, native)]
    exported = directory.parent / f"{directory.name}-native"
    native.export(exported, verbose=False)
    loaded = [tf.saved_model.load(str(each)) for each in (directory, exported)]
    served = [each.signatures["serving_default"] for each in loaded]
    steps_of = [_step(each, signature) for each in (ours, native)]
    found = []
    for steps, batch in SIZES:
        x = tf.constant(np.random.default_rng(0).normal(size=(batch, steps, width)).astype(np.float32))
        modes: dict[str, list[Callable[[], Any]]] = {
            "forward, tf.function": [partial(f, x) for f in traced],
            "forward, SavedModel": [partial(f, x=x) for f in served],
            "training, tf.function": [partial(f, x) for f in steps_of],
        }
        if kind not in ("lstm", "gru"):
            modes["forward, eager"] = [partial(f, x) for f in (ours, native)]
        for mode, (one, other) in modes.items():
            series = in_turns(one, other, rounds)
            found.append(
                {"mode": mode, "steps": steps, "batch": batch, "ours": series[0], "native": series[1]}
            )
    return found


def _step(model: keras.Model, signature: list[tf.TensorSpec]) -> Any:
    variables = model.trainable_variables

    @tf.function(input_signature=signature)
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(x)))
        for variable, gradient in zip(variables, tape.gradient(loss, variables), strict=True):
            variable.assign_sub(1e-6 * gradient)
        return loss

    return step


def main() -> None:
    kind, width = sys.argv[2], int(sys.argv[3])
    if sys.argv[1] == "make":
        model = layer(kind, width)
        rng = np.random.default_rng(0)
        for variable in model.weights:
            variable.assign(np.asarray(variable) + rng.normal(0.0, 0.05, size=variable.shape))
        model.save(sys.argv[4])
    else:
        print(json.dumps(measure(kind, width, Path(sys.argv[4]), int(sys.argv[5]))))


if __name__ == "__main__":
    main()
