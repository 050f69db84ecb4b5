from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
from bridge_converters.tf_to_onnx.keras_source import load_keras, trace_keras
from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables
from bridge_converters.tf_to_onnx.reader import convert, read
from keras import layers

from bridge.errors import BridgeError, InputError, TrustError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata

from .conftest import digits_like, feeds, read_and_compare, runtime, scopes, weights

FACTORY = """
import keras
from keras import layers

@keras.saving.register_keras_serializable("shop")
class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")
    def call(self, x):
        return x * self.factor

def build():
    x = keras.Input((3,), name="x")
    return keras.Model(x, Scale(name="scale")(layers.Dense(2, name="d")(x)))

def wrong():
    return 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop_of_layers.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    return "shop_of_layers"


class Twin(keras.Model):
    """A subclass whose layers have one name, and a variable of its own."""

    def __init__(self) -> None:
        super().__init__(name="twin")
        self.first = layers.Dense(4, name="dense")
        self.second = layers.Dense(4, name="dense")
        self.gain = self.add_weight(shape=(4,), initializer="ones", name="gain")

    def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
        return self.second(self.first(x)) * self.gain


def test_layers_of_equal_names(tmp_path: Path) -> None:
    model = Twin()
    model(np.zeros((2, 4), np.float32))
    model.export(tmp_path / "twin", verbose=False)
    expected = ["dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias", "gain"]
    assert sorted(each.path for each in variables(model, layer_paths(model))) == sorted(expected)
    live = convert(trace_keras(model))
    exported = read_and_compare(ReadRequest(str(tmp_path / "twin"), "saved_model"))
    for hub in (live, exported):
        assert sorted(weights(hub)) == sorted(expected)
        assert scopes(hub) == {"", "dense", "dense_1"}
        assert all(each.kind == "parameter" for each in weights(hub).values())


def test_subclass_needs_no_example_once_built() -> None:
    model = Twin()
    model(np.zeros((2, 4), np.float32))
    hub = convert(trace_keras(model))
    assert hub.graph.inputs[0].shape is not None
    assert str(hub.graph.inputs[0].shape[0]) == "batch"
    with pytest.raises(InputError, match="does not say what its inputs are"):
        trace_keras(Twin())


def test_lambda_needs_trust(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    model = keras.Model(x, layers.Lambda(lambda value: value * 2.0, name="twice")(x))
    for suffix in ("keras", "h5"):
        path = str(tmp_path / f"m.{suffix}")
        model.save(path)
        with pytest.raises(TrustError) as caught:
            read(ReadRequest(path, suffix))
        assert caught.value.hint is not None
        assert "--trust" in caught.value.hint
        hub = read(ReadRequest(path, suffix, trust=True))
        assert [node.op_type for node in hub.graph] == ["Mul"]


def test_custom_classes_are_asked_for(tmp_path: Path, module: str) -> None:
    import importlib

    model = importlib.import_module(module).build()
    model.save(tmp_path / "m.keras")
    keras.saving.get_custom_objects().clear()
    request = ReadRequest(str(tmp_path / "m.keras"), "keras")
    with pytest.raises(InputError) as caught:
        read(request)
    assert caught.value.hint is not None
    assert "--custom-objects pkg.mod" in caught.value.hint
    import sys

    del sys.modules[module]
    hub = read(ReadRequest(request.path, "keras", custom_objects=module))
    assert sorted(weights(hub)) == ["d/bias", "d/kernel", "scale/factor"]
    with pytest.raises(InputError, match="no module named 'no_such_module'"):
        read(ReadRequest(request.path, "keras", custom_objects="no_such_module"))


def test_weights_only_file_needs_a_factory(tmp_path: Path, module: str) -> None:
    import importlib

    model = importlib.import_module(module).build()
    model.get_layer("d").bias.assign([3.0, 4.0])
    model.save_weights(tmp_path / "m.weights.h5")
    path = str(tmp_path / "m.weights.h5")
    with pytest.raises(InputError, match="weights only") as caught:
        read(ReadRequest(path, "h5_weights"))
    assert caught.value.hint == (
        "name a function that builds the model: bridge convert m.weights.h5 --model pkg.mod:build"
    )
    hub = read_and_compare(ReadRequest(path, "h5_weights", model=f"{module}:build"))
    bias = hub.graph.initializers["d/bias"].const_value
    assert bias is not None
    np.testing.assert_array_equal(bias.numpy(), [3.0, 4.0])
    with pytest.raises(InputError, match="returned a int"):
        read(ReadRequest(path, "h5_weights", model=f"{module}:wrong"))
    with pytest.raises(InputError, match="is not a function"):
        read(ReadRequest(path, "h5_weights", model=f"{module}:missing"))


def test_weights_that_do_not_fit(tmp_path: Path, module: str) -> None:
    digits_like().save_weights(tmp_path / "other.weights.h5")
    with pytest.raises(InputError, match="weights do not fit"):
        read(ReadRequest(str(tmp_path / "other.weights.h5"), "h5_weights", model=f"{module}:build"))


def test_string_input_is_refused_by_name() -> None:
    x = keras.Input((1,), dtype="string", name="words")
    model = keras.Model(x, layers.TextVectorization(vocabulary=["a", "b"], output_sequence_length=3)(x))
    with pytest.raises(InputError, match="the input 'words' is a string"):
        trace_keras(model)


def test_python_functions_are_refused_with_their_layer() -> None:
    import tensorflow as tf

    class Foreign(layers.Layer):
        def call(self, x: tf.Tensor) -> tf.Tensor:
            return tf.ensure_shape(tf.numpy_function(np.sin, [x], tf.float32), x.shape)

        def compute_output_shape(self, shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
            return shape

    x = keras.Input((3,), name="x")
    with pytest.raises(BridgeError, match=r"PyFunc.*in foreign: it runs Python code"):
        convert(trace_keras(keras.Model(x, Foreign(name="foreign")(x))))


def test_dropout_in_training_is_refused() -> None:
    class Noisy(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.drop = layers.Dropout(0.5)

        def call(self, x: keras.KerasTensor) -> keras.KerasTensor:
            return self.drop(x, training=True)

    model = Noisy()
    model(np.zeros((2, 3), np.float32))
    with pytest.raises(BridgeError, match="changes a variable while it computes"):
        trace_keras(model)


def test_given_shapes_fix_dynamic_axes() -> None:
    x = keras.Input((None, None, 3), name="image")
    model = keras.Model(x, layers.Conv2D(2, 3, name="conv")(x))
    hub = convert(trace_keras(model, inputs=(InputSpec(("N", 8, 9, 3)),)))
    assert [str(axis) for axis in hub.graph.inputs[0].shape or ()] == ["batch", "8", "9", "3"]
    hub = convert(trace_keras(model))
    assert [str(axis) for axis in hub.graph.inputs[0].shape or ()] == ["batch", "image_1", "image_2", "3"]
    with pytest.raises(InputError, match="2 were specified"):
        trace_keras(model, inputs=(InputSpec((1,)), InputSpec((1,))))
    with pytest.raises(InputError, match="no input 'other'"):
        trace_keras(model, inputs=(InputSpec(("N", 8, 9, 3), name="other"),))


def test_unused_layers_and_shared_outputs() -> None:
    class Half(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.used = layers.Dense(2, name="used")
            self.spare = layers.Dense(2, name="spare")
            self.spare.build((None, 3))

        def call(self, x: keras.KerasTensor) -> list[keras.KerasTensor]:
            y = self.used(x)
            return [y, x, y]

    model = Half()
    model(np.zeros((1, 3), np.float32))
    hub = convert(trace_keras(model))
    info = metadata.source_info(hub)
    assert info.unused_weights == ("spare/kernel", "spare/bias")
    assert info.outputs == ("output_0", "output_1", "output_2")
    inputs = feeds(hub, 2)
    for got, wanted in zip(runtime(hub, inputs), model(inputs["input_0"]), strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted), rtol=1e-5)


@pytest.mark.parametrize("layer", [layers.LSTM, layers.GRU, layers.SimpleRNN])
def test_recurrent_layers_are_loops(layer: Callable[..., layers.Layer]) -> None:
    x = keras.Input((5, 3), name="x")
    model = keras.Model(x, layers.Bidirectional(layer(4, return_sequences=True))(x))
    hub = convert(trace_keras(model))
    inputs = feeds(hub, 3)
    np.testing.assert_allclose(runtime(hub, inputs)[0], np.asarray(model(inputs["x"])), atol=1e-5)
    assert len(weights(hub)) == 6
    assert not [name for node in hub.graph for name in [node.name or ""] if "__" in name]


def test_not_a_keras_file(tmp_path: Path) -> None:
    (tmp_path / "bad.keras").write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(InputError, match="Keras cannot load the model"):
        read(ReadRequest(str(tmp_path / "bad.keras"), "keras"))


def _saved(tmp_path: Path, activation: str, version: str, suffix: str) -> str:
    """A model as another version of Keras would have written it."""
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2, activation=activation)])
    path = str(tmp_path / f"model{suffix}")
    model.save(path)
    if suffix == ".h5":
        with h5py.File(path, "a") as file:
            file.attrs["keras_version"] = version
        return path
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["metadata.json"] = json.dumps({"keras_version": version}).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_what_keras_2_computes_otherwise_is_refused(tmp_path: Path, suffix: str) -> None:
    format = suffix[1:]
    with pytest.raises(InputError, match="slope 1/5") as caught:
        load_keras(ReadRequest(_saved(tmp_path, "hard_sigmoid", "2.15.0", suffix), format))
    assert "--source-env" in (caught.value.hint or "")
    for activation, version in (("hard_sigmoid", keras.__version__), ("sigmoid", "2.15.0")):
        load_keras(ReadRequest(_saved(tmp_path, activation, version, suffix), format))


@pytest.mark.parametrize("content", [b"[", b"[]", b"\xff", b'{"keras_version": 3}'])
def test_metadata_that_tell_nothing_leave_the_rest_to_keras(tmp_path: Path, content: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "bad.keras", "w") as archive:
        archive.writestr("metadata.json", content)
        archive.writestr("config.json", "{}")
    with pytest.raises(InputError, match="Keras cannot load the model"):
        load_keras(ReadRequest(str(tmp_path / "bad.keras"), "keras"))


def test_the_seed_of_a_recurrent_dropout_is_no_obstacle() -> None:
    x = keras.Input((6, 5), name="x")
    model = keras.Model(x, layers.LSTM(4, dropout=0.2, recurrent_dropout=0.1, name="lstm")(x))
    bundle = trace_keras(model)
    assert {weight.path.split("/")[0] for weight in bundle.weights} == {"lstm"}
    assert not any(node.op.startswith("Assign") for node in bundle.graph.node)
