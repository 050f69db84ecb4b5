from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.double import load_double
from bridge_converters.tf_to_onnx.objects import export_object, trace_object
from bridge_converters.tf_to_onnx.reader import convert, read

from bridge.errors import BridgeError, InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata

from .conftest import digits_like, feeds, read_and_compare, runtime, two_ends, weights


class Dense(tf.Module):
    def __init__(self, inputs: int, outputs: int, name: str | None = None) -> None:
        super().__init__(name=name)
        generator = np.random.default_rng(inputs)
        self.w = tf.Variable(generator.normal(size=(inputs, outputs)), dtype=tf.float32)
        self.b = tf.Variable(generator.normal(size=outputs), dtype=tf.float32)
        self.scale = tf.Variable(generator.uniform(1, 2, outputs), dtype=tf.float32, trainable=False)

    @tf.Module.with_name_scope
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(x @ self.w + self.b) * self.scale


class Network(tf.Module):
    """Modules in attributes and in a list, without Keras."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Dense(3, 4, name="stem")
        self.blocks = [Dense(4, 4, name="one"), Dense(4, 4, name="two")]
        self.idle = tf.Variable([1.0, 2.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="features")])
    def __call__(self, features: tf.Tensor) -> dict[str, tf.Tensor]:
        x = self.stem(features)
        for block in self.blocks:
            x = block(x)
        return {"scores": x, "chosen": tf.argmax(x, 1)}


def test_plain_module_live_and_saved(tmp_path: Path) -> None:
    module = Network()
    tf.saved_model.save(module, str(tmp_path / "saved"))
    live = convert(trace_object(module))
    saved = read_and_compare(ReadRequest(str(tmp_path / "saved"), "saved_model"), batches=(3, 17))
    for hub in (live, saved):
        assert {path: (each.kind, each.trainable) for path, each in weights(hub).items()} == {
            f"{owner}/{name}": ("buffer", False) if name == "scale" else ("parameter", True)
            for owner in ("stem", "blocks/0", "blocks/1")
            for name in ("w", "b", "scale")
        }
        info = metadata.source_info(hub)
        assert (info.inputs, info.outputs) == (("features",), ("chosen", "scores"))
        assert info.unused_weights == ("idle",)
        matmuls = [metadata.scope_of(node) for node in hub.graph if node.op_type == "MatMul"]
        assert [scope and metadata.scope_path(scope) for scope in matmuls] == ["stem", "blocks.0", "blocks.1"]
    assert metadata.source_info(live).root_type == "Network"


def test_functions_and_what_they_capture() -> None:
    offset = tf.constant(np.arange(200, dtype=np.float32))
    weight = tf.Variable(np.ones((3, 200), np.float32) * 0.5, name="weight")

    @tf.function
    def compute(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return x @ weight + offset, y

    with pytest.raises(InputError, match="has no input signature") as caught:
        trace_object(compute)
    assert caught.value.hint is not None
    assert "--input" in caught.value.hint
    hub = convert(trace_object(compute, (InputSpec(("N", 3)), InputSpec(("M",), "int64"))))
    assert [(value.name, str(value.shape)) for value in hub.graph.inputs] == [
        ("x", "[x_0,3]"),
        ("y", "[y_0]"),
    ]
    assert {path: each.kind for path, each in weights(hub).items()} == {
        "weight": "parameter",
        "constant": "buffer",
    }
    x, y = np.ones((2, 3), np.float32), np.arange(4)
    first, second = runtime(hub, {"x": x, "y": y})
    np.testing.assert_allclose(first, np.asarray(compute(x, y)[0]), rtol=1e-6)
    np.testing.assert_array_equal(second, y)


def test_weights_inside_control_flow() -> None:
    weight = tf.Variable(np.diag([0.5, 0.25, 2.0]).astype(np.float32), name="weight")
    table = tf.Variable(np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), name="table")

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def compute(x: tf.Tensor) -> tf.Tensor:
        count = tf.constant(0)
        while count < 3:
            x = x @ weight + tf.gather(table, count)
            count += 1
        return tf.cond(tf.reduce_sum(x) > 0, lambda: x @ weight, lambda: -x)

    hub = convert(trace_object(compute))
    assert sorted(weights(hub)) == ["table", "weight"]
    for sign in (1.0, -20.0):
        x = np.full((2, 3), sign, np.float32)
        np.testing.assert_allclose(runtime(hub, {"x": x})[0], np.asarray(compute(x)), rtol=1e-5)


@pytest.mark.parametrize("make", [digits_like, two_ends, Network])
def test_directory_for_workers(tmp_path: Path, make: Any) -> None:
    source = make()
    export_object(source, tmp_path / "bundle")
    request = ReadRequest(str(tmp_path / "bundle"), "tf_bundle")
    hub = read_and_compare(request, batches=(3,))
    direct = convert(trace_object(source))
    assert weights(hub) == weights(direct)
    assert [node.name for node in hub.graph] == [node.name for node in direct.graph]
    double = load_double(request)
    inputs = feeds(hub, 4)
    for wanted, got in zip(double.run(inputs), runtime(hub, inputs), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def test_other_objects_are_refused() -> None:
    with pytest.raises(InputError, match="a int is no TensorFlow model"):
        trace_object(3)
    with pytest.raises(InputError, match="a Module is no TensorFlow model"):
        trace_object(tf.Module())


def test_state_that_changes_is_refused() -> None:
    count = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32)])
    def compute(x: tf.Tensor) -> tf.Tensor:
        return x + count.assign_add(1.0)

    with pytest.raises(BridgeError, match="changes a variable while it computes"):
        trace_object(compute)


def test_tables_and_strings_are_refused() -> None:
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2.0], tf.int64), 0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    def look_up(x: tf.Tensor) -> tf.Tensor:
        return table.lookup(x)

    with pytest.raises(InputError, match="no variable"):
        trace_object(look_up)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="words")])
    def length(words: tf.Tensor) -> tf.Tensor:
        return tf.strings.length(words)

    with pytest.raises(InputError, match="'words' is a string"):
        trace_object(length)


def test_every_unsupported_operator_is_listed() -> None:
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="x")])
    def compute(x: tf.Tensor) -> tf.Tensor:
        return tf.math.igamma(x, x) + tf.math.betainc(x, x, x)

    with pytest.raises(BridgeError) as caught:
        convert(trace_object(compute))
    assert "Igamma" in str(caught.value)
    assert "Betainc" in str(caught.value)


def test_several_signatures(tmp_path: Path) -> None:
    module = tf.Module()
    spec = [tf.TensorSpec([None], tf.float32, name="x")]
    module.one = tf.function(lambda x: {"y": x + 1.0}, input_signature=spec)
    module.two = tf.function(lambda x: {"y": x + 2.0}, input_signature=spec)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"one": module.one, "two": module.two})
    with pytest.raises(InputError, match="signatures one, two, and none is the default"):
        read(ReadRequest(str(tmp_path / "m"), "saved_model"))
    tf.saved_model.save(module, str(tmp_path / "n"), signatures={"one": module.one})
    hub = read_and_compare(ReadRequest(str(tmp_path / "n"), "saved_model"))
    assert metadata.source_info(hub).outputs == ("y",)


def test_module_without_signature(tmp_path: Path) -> None:
    module = tf.Module()
    module.w = tf.Variable([2.0, 3.0])
    module.scale = tf.function(lambda x: x * module.w)
    module.scale(tf.zeros([2]))
    tf.saved_model.save(module, str(tmp_path / "m"))
    hub = read_and_compare(ReadRequest(str(tmp_path / "m"), "saved_model"))
    assert list(weights(hub)) == ["w"]


def test_broken_saved_model(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01junk")
    with pytest.raises(InputError, match="TensorFlow cannot load the SavedModel"):
        read(ReadRequest(str(tmp_path), "saved_model"))


def test_bundles_round_trip_and_refuse_others(tmp_path: Path) -> None:
    bundle = trace_object(digits_like())
    bundle.save(tmp_path / "b")
    again = Bundle.load(tmp_path / "b")
    assert (again.inputs, again.outputs, again.weights, again.scopes) == (
        bundle.inputs,
        bundle.outputs,
        bundle.weights,
        bundle.scopes,
    )
    for name, value in bundle.values.items():
        np.testing.assert_array_equal(again.values[name], value)
    with pytest.raises(InputError, match="not a traced model"):
        Bundle.load(tmp_path)
    signature = tmp_path / "b" / "signature.json"
    signature.write_text(signature.read_text().replace('"version": 1', '"version": 9'))
    with pytest.raises(InputError, match="version 9"):
        Bundle.load(tmp_path / "b")


class Divisions(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([None], tf.int64)])
    def __call__(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "floor_div": x // y,
            "floor_mod": x % y,
            "truncate_div": tf.truncatediv(x, y),
            "truncate_mod": tf.truncatemod(x, y),
        }


def test_integers_are_divided_as_integers_of_either_sign(tmp_path: Path) -> None:
    tf.saved_model.save(Divisions(), str(tmp_path / "saved"))
    model = read(ReadRequest(str(tmp_path / "saved"), "saved_model"))
    x = np.array([7, -7, 7, -7, 6, 2**40 + 1, -(2**40) - 1])
    y = np.array([2, 2, -2, -2, 3, 1, 2])
    names = [value.name for value in model.graph.outputs]
    results = dict(zip(names, runtime(model, {"x": x, "y": y}), strict=True))
    assert results["floor_div"].tolist() == (x // y).tolist()
    assert results["floor_mod"].tolist() == (x % y).tolist()
    assert results["truncate_mod"].tolist() == np.fmod(x, y).tolist()
    assert results["truncate_div"].tolist() == ((x - np.fmod(x, y)) // y).tolist()
