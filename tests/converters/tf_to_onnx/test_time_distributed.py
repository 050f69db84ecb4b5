"""TimeDistributed with an unknown number of steps, which Keras itself computes rightly only eagerly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
from bridge_converters.tf_to_onnx.keras_source import plain_signature, trace_keras
from bridge_converters.tf_to_onnx.reader import convert, read
from keras import layers

from bridge.errors import BridgeError
from bridge.formats.request import ReadRequest

from .conftest import enliven, runtime


def gated() -> keras.Model:
    """A functional model in which an operation that is no layer takes part."""
    x = keras.Input((6,))
    return keras.Model(x, keras.ops.softmax(layers.Dense(3)(x), axis=0))


INNER: dict[str, tuple[Callable[[], layers.Layer], tuple[int, ...], bool]] = {
    "dense": (lambda: layers.Dense(5), (6,), True),
    "conv": (lambda: layers.Conv2D(2, 3, activation="relu"), (6, 6, 2), True),
    "norm": (lambda: layers.BatchNormalization(), (6,), True),
    "flatten": (lambda: layers.Flatten(), (6, 2), True),
    "nested": (lambda: layers.TimeDistributed(layers.Dense(3)), (4, 6), True),
    "model": (lambda: keras.Sequential([keras.Input((6, 3)), layers.GRU(4), layers.Dense(2)]), (6, 3), True),
    "over samples": (lambda: layers.Softmax(axis=0), (6,), False),
    "no layer": (gated, (6,), False),
}


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("steps", [None, 4])
def test_every_step_is_computed(name: str, steps: int | None) -> None:
    make, shape, together = INNER[name]
    x = keras.Input((steps, *shape), name="x")
    model = enliven(keras.Model(x, layers.TimeDistributed(make(), name="steps")(x)))
    hub = convert(trace_keras(model))
    data = np.random.default_rng(2).normal(size=(3, steps or 5, *shape)).astype(np.float32)
    wanted = np.asarray(model(data))
    np.testing.assert_allclose(runtime(hub, {"x": data})[0], wanted, rtol=1e-5, atol=1e-5)
    plain = keras.tree.flatten(plain_signature(model).function(keras.ops.convert_to_tensor(data)))[0]
    np.testing.assert_allclose(np.asarray(plain), wanted, rtol=1e-5, atol=1e-5)
    assert not any(node.op_type == "Loop" and (together or steps) for node in hub.graph)


def test_keras_is_restored() -> None:
    before = layers.TimeDistributed.call
    x = keras.Input((None, 3), name="x")
    plain_signature(keras.Model(x, layers.TimeDistributed(layers.Dense(2))(x)))
    assert layers.TimeDistributed.call is before


def test_a_layer_that_keeps_its_state_is_refused(tmp_path: Path) -> None:
    x = keras.Input(batch_shape=(3, 5, 2), name="x")
    model = keras.Model(x, layers.LSTM(4, stateful=True, name="memory")(x))
    model.save(tmp_path / "model.keras")
    with pytest.raises(BridgeError, match="the LSTM 'memory' keeps its state") as caught:
        read(ReadRequest(str(tmp_path / "model.keras"), "keras"))
    assert "initial_state" in str(caught.value.hint)
