"""Small models with lively weights, saved once a session in every format."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.load import load_runnable
from bridge_converters.tf_to_onnx.reader import read
from keras import layers

from bridge.formats.request import ReadRequest
from bridge.hub import metadata

v1 = tf.compat.v1


def enliven(model: keras.Model) -> keras.Model:
    """Weights that show a fault: no constant tensor, positive variances."""
    generator = np.random.default_rng(5)
    for variable in model.weights:
        if "seed" not in variable.path:
            variable.assign(generator.uniform(0.3, 1.1, variable.shape) - 0.5 * ("kernel" in variable.name))
    return model


def digits_like() -> keras.Model:
    """The usual small CNN, one of its layers frozen."""
    x = image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same", name="conv")(x)
    x = layers.BatchNormalization(momentum=0.9, epsilon=1e-4, name="norm")(x)
    x = layers.ReLU(name="relu")(x)
    x = layers.MaxPooling2D(name="pool")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dropout(0.4, name="dropout")(x)
    model = keras.Model(image, layers.Dense(5, name="classes")(x), name="digits")
    model.get_layer("conv").trainable = False
    return enliven(model)


def nested() -> keras.Model:
    """Two nested models whose layers have equal names, one called twice, beside a layer called twice."""
    inputs = keras.Input((6, 6, 2))
    block = keras.Model(inputs, layers.Conv2D(2, 3, padding="same", name="conv")(inputs), name="block")
    inputs = keras.Input((6, 6, 2))
    other = keras.Sequential([inputs, layers.Conv2D(2, 3, padding="same", name="conv")], name="other")
    shared = layers.Dense(4, activation="tanh", name="shared")
    image = keras.Input((6, 6, 2), name="image")
    x = layers.GlobalAveragePooling2D(name="pool")(other(block(block(image))))
    x = shared(shared(layers.Dense(4, name="narrow")(x)))
    return enliven(keras.Model(image, x, name="outer"))


def rare() -> keras.Model:
    """A Sequential of rarer convolutions."""
    return enliven(
        keras.Sequential(
            [
                keras.Input((8, 8, 4), name="image"),
                layers.Conv2D(8, 3, groups=2, padding="same", name="grouped"),
                layers.DepthwiseConv2D(3, strides=2, padding="same", name="depthwise"),
                layers.SeparableConv2D(6, 3, padding="same", name="separable"),
                layers.Conv2DTranspose(4, 3, strides=2, padding="same", name="transposed"),
                layers.Reshape((64, 4), name="rows"),
                layers.Conv1D(3, 5, strides=2, padding="same", name="rowwise"),
            ],
            name="rare",
        )
    )


def two_ends() -> keras.Model:
    """Two inputs, and outputs in a dictionary."""
    a = keras.Input((3,), name="first")
    b = keras.Input((5,), name="second")
    x = layers.Dense(4, activation="gelu", name="left")(a)
    y = layers.LayerNormalization(epsilon=1e-4, name="right")(b)
    joined = layers.Concatenate(name="joined")([x, y])
    outputs = {"score": layers.Dense(2, name="head")(joined), "raw": joined}
    return enliven(keras.Model([a, b], outputs, name="ends"))


KERAS_MODELS: Mapping[str, Callable[[], keras.Model]] = {
    each.__name__: each for each in (digits_like, nested, rare, two_ends)
}
KERAS_FORMATS = ("keras", "h5", "exported", "saved_model")


@pytest.fixture(scope="session")
def keras_files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], ReadRequest]:
    """A request for a model of KERAS_MODELS in a format of KERAS_FORMATS."""
    folder = tmp_path_factory.mktemp("keras")
    built: dict[str, keras.Model] = {}

    def file(name: str, kind: str) -> ReadRequest:
        model = built.setdefault(name, built.get(name) or KERAS_MODELS[name]())
        path = folder / f"{name}.{kind}"
        if not path.exists():
            if kind == "exported":
                model.export(path, verbose=False)
            elif kind == "saved_model":
                tf.saved_model.save(model, str(path))
            else:
                model.save(path)
        return ReadRequest(str(path), kind if kind in ("keras", "h5") else "saved_model")

    return file


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow 1 regression: `model.ckpt`, `frozen.pb`, `saved_model/` in one directory."""
    folder = tmp_path_factory.mktemp("tf1")
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        y = v1.placeholder(tf.float32, [None, 1], name="y")
        weights = v1.get_variable("weights", [2, 1], initializer=v1.random_normal_initializer(seed=1))
        bias = v1.get_variable("bias", [1], initializer=v1.constant_initializer(0.25))
        steps = v1.train.get_or_create_global_step()
        prediction = tf.add(tf.matmul(x, weights), bias, name="prediction")
        loss = tf.reduce_mean(tf.square(prediction - y)) + 0.01 * tf.nn.l2_loss(weights)
        train = v1.train.GradientDescentOptimizer(0.01).minimize(loss, global_step=steps)
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(train, {x: [[1, 2], [3, 4]], y: [[2], [4]]})
        v1.train.Saver().save(session, str(folder / "model.ckpt"))
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["prediction"])
        (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
        v1.saved_model.simple_save(session, str(folder / "saved_model"), {"x": x}, {"prediction": prediction})
    return folder


def feeds(model: ir.Model, batch: int) -> dict[str, np.ndarray[Any, Any]]:
    """Random inputs for a hub model."""
    generator = np.random.default_rng(batch)
    result = {}
    for value in model.graph.inputs:
        assert value.shape is not None
        assert value.dtype is not None
        shape = [size if isinstance(size, int) else batch for size in value.shape]
        result[value.name or ""] = generator.normal(size=shape).astype(value.dtype.numpy())
    return result


def runtime(model: ir.Model, inputs: Mapping[str, Any]) -> list[Any]:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return list(session.run(None, dict(inputs)))


def read_and_compare(request: ReadRequest, batches: tuple[int, ...] = (1, 3, 17)) -> ir.Model:
    """Read a model, compare onnxruntime with TensorFlow, and return the hub model."""
    model = read(request)
    source = load_runnable(request)
    assert source.input_names == tuple(value.name for value in model.graph.inputs)
    assert source.output_names == tuple(value.name for value in model.graph.outputs)
    for batch in batches:
        inputs = feeds(model, batch)
        expected = source.run(inputs)
        for wanted, got in zip(expected, runtime(model, inputs), strict=True):
            assert np.std(wanted) > 0 or wanted.size == 1
            np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-5 * np.abs(wanted).max())
    return model


def weights(model: ir.Model) -> dict[str, metadata.WeightInfo]:
    """The records of all trained tensors by path."""
    found = [metadata.weight_info(value) for value in model.graph.initializers.values()]
    return {info.path: info for info in found if info is not None}


def scopes(model: ir.Model) -> set[str]:
    """The paths of all modules that nodes come from."""
    found = [metadata.scope_of(node) for node in model.graph]
    return {metadata.scope_path(scope) for scope in found if scope is not None}
