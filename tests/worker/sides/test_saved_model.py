"""What a directory with a SavedModel and a model.py answers: values at the places that its anchors name."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bridge_converters.onnx_to_tf._saver import save

from bridge.emit.dialect import Signature
from bridge.hub.anchors import Anchor, Anchors
from bridge.worker.sides import saved_model
from tests.worker.sides.tf_nets import check_gradient, check_precisions, cotangents

_MODEL = '''
"""Net as a Keras model on TensorFlow.

Inputs:
    tokens: int32 (batch, 3)
    image: float32 (batch, 4, 5, 3)
Outputs:
    y: float32 (batch, 4)
    b: int64 (batch,)
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


class Block(keras.layers.Layer):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fc = keras.layers.Dense(3, name="fc")
        self.drop = keras.layers.Dropout(0.5, name="drop")

    def build(self, input_shape: Any = None) -> None:
        self.fc.build((None, 3))

    def call(self, x: tf.Tensor) -> tf.Tensor:
        y = self.fc(x)
        y = self.drop(y)
        return y * tf.constant(0.1, tf.float32)


class Pair(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.sin(x), tf.cos(x)


class Net(keras.Model):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.embedding = keras.layers.Embedding(7, 3, name="embedding")
        self.block = Block(name="block")
        self.layers_ = keras.Sequential(
            [
                keras.layers.Dense(4, name="0"),
                keras.Sequential([keras.layers.Activation("sigmoid", name="0"), Block3(name="1")], name="1"),
                keras.layers.BatchNormalization(momentum=0.9, name="2"),
            ],
            name="layers",
        )
        self.pair = Pair(name="pair")
        self.embedding.build((None, 3))
        self.block.build()
        self.layers_.build((None, 3))
        self.built = True

    def call(self, tokens: tf.Tensor, image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x = tf.transpose(image, (0, 2, 3, 1))
        x = tf.reduce_mean(tf.transpose(x, (0, 3, 1, 2)), (1, 2))
        x = x + tf.reduce_mean(self.embedding(tokens), 1)
        x = self.block(x)
        x = self.block(x)
        y, z = self.pair(x)
        x = self.layers_(tf.cast(x, tf.float32) + y * z)
        y = tf.argmax(x, -1)
        return (x, y)


class Block3(keras.layers.Layer):
    def call(self, x: tf.Tensor) -> tf.Tensor:
        return x * 2.0


def load(path: str | None = None) -> Net:
    model = Net()
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.2, 0.9, variable.shape).astype("float32"))
    return model
'''.lstrip()


def _line(text: str) -> int:
    return _MODEL[: _MODEL.index(text)].count("\n") + 1


def _anchor(
    hub: str,
    module: str,
    call: Sequence[int],
    text: str,
    variable: str,
    permutation: tuple[int, ...] | None = None,
) -> Anchor:
    return Anchor(
        hub, f"{hub}:0", module, None, "Op", module, tuple(call), _line(text), variable, permutation
    )


_CONTAINER = "x = self.layers_("
_ANCHORS = (
    _anchor("moved", "", (), "x = tf.transpose(image", "x", (0, 2, 3, 1)),
    _anchor("mean", "", (), "x = tf.reduce_mean", "x"),
    _anchor("fc", "block", (0,), "y = self.fc", "y"),
    _anchor("block", "block", (0,), "return y * tf.constant", ""),
    _anchor("fc_1", "block", (1,), "y = self.fc", "y"),
    _anchor("block_1", "block", (1,), "return y * tf.constant", ""),
    _anchor("sine", "pair", (0,), "return tf.sin", ""),
    _anchor("cosine", "pair", (0,), "return tf.sin", ""),
    _anchor("dense", "layers", (0,), _CONTAINER, ""),
    _anchor("sigmoid", "layers.1", (0, 0), _CONTAINER, ""),
    _anchor("double", "layers.1.1", (0, 0, 0), "return x * 2.0", ""),
    _anchor("norm", "layers", (0,), _CONTAINER, ""),
    _anchor("b", "", (), "y = tf.argmax", "y"),
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("converted")
    (directory / "model.py").write_text(_MODEL, encoding="utf-8")
    Anchors("model.py", _ANCHORS).save(directory / "anchors.json")
    inputs = Signature(("tokens", "image"), ("int32", "float32"), (("batch", 3), ("batch", 4, 5, 3)))
    outputs = Signature(("y", "b"), ("float32", "int64"), (("batch", 4), ("batch",)))
    save(directory, inputs, outputs)
    return directory


@pytest.fixture(scope="module")
def side(directory: Path) -> Any:
    return saved_model.load({"path": str(directory)})


@pytest.fixture
def feeds() -> dict[str, Any]:
    generator = np.random.default_rng(3)
    tokens = generator.integers(0, 7, (5, 3)).astype(np.int32)
    return {"tokens": tokens, "image": generator.normal(size=(5, 4, 5, 3)).astype(np.float32)}


def test_interface_has_the_order_of_the_model(side: Any) -> None:
    assert [(each["name"], each["limit"]) for each in side.inputs] == [("tokens", 7), ("image", None)]
    assert side.outputs == ["y", "b"]


def test_precisions(side: Any, feeds: dict[str, Any]) -> None:
    check_precisions(side, feeds)


def test_the_saved_model_s_own_weights(side: Any, directory: Path, tmp_path: Path) -> None:
    weights = side.weights()
    assert set(weights) == set(side.state())
    assert "layers/2/moving_mean" in weights
    for path, value in side.state().items():
        np.testing.assert_array_equal(weights[path], value)
    shutil.copytree(directory, tmp_path / "m")
    text = (tmp_path / "m" / "model.py").read_text(encoding="utf-8")
    (tmp_path / "m" / "model.py").write_text(text.replace("0.2, 0.9", "0.3, 0.9"), encoding="utf-8")
    other = saved_model.load({"path": str(tmp_path / "m")})
    assert not np.array_equal(other.weights()["block/fc/kernel"], other.state()["block/fc/kernel"])


def test_intermediates(side: Any, feeds: dict[str, Any]) -> None:
    found = {record["name"]: (record, value) for record, value in side.intermediates(feeds)}
    assert set(found) == {anchor.hub for anchor in _ANCHORS}
    record, moved = found["moved"]
    assert record["location"] == f"model.py:{_line('x = tf.transpose(image')}"
    assert record["source"] == "moved:0"
    np.testing.assert_array_equal(moved, feeds["image"])
    state = side.state()
    kernel, bias = state["block/fc/kernel"], state["block/fc/bias"]
    for number in ("", "_1"):
        np.testing.assert_allclose(found[f"block{number}"][1], found[f"fc{number}"][1] * 0.1, rtol=1e-14)
    np.testing.assert_allclose(found["fc_1"][1], found["block"][1] @ kernel + bias, rtol=1e-13)
    np.testing.assert_array_equal(found["cosine"][1], np.cos(found["block_1"][1]))
    np.testing.assert_allclose(found["sigmoid"][1], 1 / (1 + np.exp(-found["dense"][1])), rtol=1e-13)
    np.testing.assert_array_equal(found["double"][1], 2 * found["sigmoid"][1])
    y, b = side.run_fp64(feeds)
    np.testing.assert_allclose(found["norm"][1], y, rtol=1e-6)
    np.testing.assert_array_equal(found["b"][1], b)


def test_gradients_of_intermediates_have_the_axes_of_the_hub(side: Any, feeds: dict[str, Any]) -> None:
    found = {record["name"]: gradient for record, _, gradient in side.intermediates(feeds, cotangents)}
    _, by_input, _ = side.vjp(feeds, cotangents)
    np.testing.assert_allclose(found["moved"], by_input["image"], rtol=1e-12)
    np.testing.assert_array_equal(found["norm"], cotangents(side.run_fp64(feeds))[0])
    assert found["b"] is None


def test_gradients_and_training(side: Any, feeds: dict[str, Any]) -> None:
    state = side.state()
    for training in (False, True):
        for path in ("block/fc/kernel", "layers/0/bias", "layers/2/gamma", "embedding/embeddings"):
            check_gradient(side, feeds, path, training=training)
    side.vjp(feeds, cotangents, True)
    moved = {path for path, value in side.state().items() if not np.array_equal(value, state[path])}
    assert moved == {"layers/2/moving_mean", "layers/2/moving_variance"}
    side.assign(state)


def test_a_narrower_dtype(directory: Path, feeds: dict[str, Any]) -> None:
    half = saved_model.load({"path": str(directory), "dtype": "float16"})
    y, b = half.run(feeds)
    assert (y.dtype, b.dtype) == (np.float16, np.int64)
    np.testing.assert_allclose(y, half.run_fp64(feeds)[0], rtol=0.05, atol=0.01)


def test_a_model_that_float64_breaks(directory: Path, feeds: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "m")
    text = (tmp_path / "m" / "model.py").read_text(encoding="utf-8")
    broken = text.replace("(0, 2, 3, 1))", "(0, 2, 3, 1)) + np.zeros(1, np.dtype('f'))")
    assert broken != text
    (tmp_path / "m" / "model.py").write_text(broken, encoding="utf-8")
    side = saved_model.load({"path": str(tmp_path / "m")})
    found = {record["name"]: value for record, value in side.intermediates(feeds)}
    assert found["norm"].dtype == np.float64
    np.testing.assert_allclose(found["norm"], side.run_fp64(feeds)[0], rtol=1e-6)
    check_gradient(side, feeds, "block/fc/kernel", training=True)


def test_an_undocumented_order_is_not_guessed(directory: Path, feeds: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(directory, tmp_path / "m")
    (tmp_path / "m" / "model.py").write_text("", encoding="utf-8")
    side = saved_model.load({"path": str(tmp_path / "m")})
    assert len(side.run_fp64(feeds)) == 2
    with pytest.raises(NotImplementedError, match="does not document"):
        side.intermediates(feeds)
