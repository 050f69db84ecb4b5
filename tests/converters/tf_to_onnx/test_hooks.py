from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx import hooks
from bridge_converters.tf_to_onnx.keras_source import trace_function, trace_keras
from bridge_converters.tf_to_onnx.reader import convert
from keras import layers


class OwnCell(layers.GRUCell):
    """A cell of which nobody knows what it computes."""


def model_of(*chain: layers.Layer, shape: tuple[int, ...] = (4, 6)) -> keras.Model:
    x = inputs = keras.Input(shape, name="x")
    for layer in chain:
        x = layer(x)
    return keras.Model(inputs, x)


def markers(model: keras.Model) -> list[str]:
    function, _, _ = trace_function(model, (), static_batch=False, hooks=True)
    nodes = list(function.graph.as_graph_def().node)
    return [node.name.split("/")[-1] for node in nodes if node.op == "PyFuncStateless"]


@pytest.mark.parametrize(
    ("layer", "hook", "expected"),
    [
        (lambda: layers.BatchNormalization(), "batch_normalization", ["BatchNormalization"]),
        (lambda: layers.LayerNormalization(axis=[1, 2]), "layer_normalization", ["LayerNormalization"]),
        (lambda: layers.LayerNormalization(axis=1), "layer_normalization", ["LayerNormalization"]),
        (lambda: layers.RMSNormalization(), "rms_normalization", ["RMSNormalization"]),
        (lambda: layers.Activation("gelu"), "gelu", ["Gelu"]),
        (lambda: layers.Dropout(0.25), "dropout", ["Dropout"]),
        (lambda: layers.Normalization(), "normalization", []),
        (lambda: layers.ReLU(), "layer", []),
        (lambda: layers.LSTM(3), "recurrence", ["LSTM"]),
        (lambda: layers.GRU(3, reset_after=False, go_backwards=True), "recurrence", ["GRU"]),
        (lambda: layers.SimpleRNN(3, return_sequences=True), "recurrence", ["RNN"]),
        (lambda: layers.Bidirectional(layers.LSTM(3)), "recurrence", ["LSTM", "LSTM"]),
        (lambda: layers.LSTM(3, recurrent_activation="hard_sigmoid"), "recurrence", ["LSTM"]),
        (lambda: layers.RNN(layers.LSTMCell(3)), "recurrence", ["LSTM"]),
        (lambda: layers.RNN([layers.GRUCell(3), layers.LSTMCell(2)]), "recurrence", ["GRU", "LSTM"]),
    ],
)
def test_every_hook_fires(layer: Callable[[], layers.Layer], hook: str, expected: list[str]) -> None:
    model = model_of(layer())
    _, _, recorder = trace_function(model, (), static_batch=False, hooks=True)
    assert recorder.fired[hook] > 0, f"Keras {keras.__version__} no longer goes through the hook for {hook}"
    assert markers(model) == expected


@pytest.mark.parametrize(
    "layer",
    [
        lambda: layers.LayerNormalization(rms_scaling=True),
        lambda: layers.Dropout(0.0),
        lambda: layers.Dropout(0.5, noise_shape=(None, 1, 6)),
        lambda: layers.UnitNormalization(),
        lambda: layers.LSTM(3, recurrent_activation="silu"),
        lambda: layers.RNN(OwnCell(3)),
    ],
)
def test_what_onnx_has_no_operator_for_stays_plain(layer: Callable[[], layers.Layer]) -> None:
    assert markers(model_of(layer())) == []


def test_keras_is_restored() -> None:
    before = [getattr(owner, name) for owner, name, _ in hooks._HOOKS]
    trace_keras(model_of(layers.BatchNormalization()))
    failing = model_of(layers.ReLU())
    failing.call = lambda *args, **kwargs: 1 / 0  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        trace_keras(failing)
    assert [getattr(owner, name) for owner, name, _ in hooks._HOOKS] == before


def test_model_computes_the_same_after_a_trace() -> None:
    model = model_of(layers.BatchNormalization(), layers.Dense(3, activation="gelu"), layers.Dropout(0.5))
    x = np.random.default_rng(0).normal(size=(2, 4, 6)).astype(np.float32)
    before = np.asarray(model(x))
    trace_keras(model)
    np.testing.assert_array_equal(np.asarray(model(x)), before)


def test_layers_that_only_train_are_noted() -> None:
    bundle = trace_keras(model_of(layers.SpatialDropout1D(0.5, name="drop"), layers.Dense(2)))
    assert bundle.notes == ("SpatialDropout1D 'drop' is inactive in inference and is not carried over",)


def test_batch_normalization_of_any_axis() -> None:
    for shape, axis in (((6,), -1), ((4, 6), 1), ((3, 4, 6), -1), ((3, 4, 6), 2), ((2, 3, 4, 6), -1)):
        model = model_of(layers.BatchNormalization(axis=axis, scale=axis != 1, name="bn"), shape=shape)
        for weight in model.weights:
            weight.assign(np.random.default_rng(1).uniform(0.5, 1.5, weight.shape))
        hub = convert(trace_keras(model))
        assert [node.op_type for node in hub.graph].count("BatchNormalization") == 1
        from .conftest import feeds, runtime

        inputs = feeds(hub, 2)
        np.testing.assert_allclose(
            runtime(hub, inputs)[0], np.asarray(model(inputs["x"])), rtol=1e-5, atol=1e-5
        )


def test_normalization_is_computed_from_the_layers_weights() -> None:
    layer = layers.Normalization(name="scale")
    model = model_of(layer)
    layer.adapt(np.random.default_rng(0).normal(3.0, 2.0, size=(50, 4, 6)))
    bundle = trace_keras(model)
    assert {weight.path: weight.kind for weight in bundle.weights} == {
        "scale/mean": "buffer",
        "scale/variance": "buffer",
    }
    assert not tf.is_symbolic_tensor(layer.mean)


def test_given_statistics_are_buffers() -> None:
    model = model_of(layers.Normalization(mean=[1.0] * 6, variance=[4.0] * 6, name="scale"))
    assert [weight.path for weight in trace_keras(model).weights] == ["scale/mean", "scale/variance"]
