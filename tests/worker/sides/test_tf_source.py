"""What the side of a TensorFlow file answers, format by format."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.objects import export_object
from bridge_converters.tf_to_onnx.reader import read
from tensorflow.python.ops import control_flow_util

from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata
from bridge.worker.sides import tf_source
from bridge.worker.sides.tf_object import TensorFlowObjectSide
from tests.worker.sides import tf_nets
from tests.worker.sides.tf_nets import check_gradient, check_precisions, cotangents

v1 = tf.compat.v1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    module = tf_nets.Hand()
    tf.saved_model.save(module, str(folder / "hand"), signatures=module.__call__.get_concrete_function())
    tf_nets.two_towers().save(folder / "towers.keras")
    return folder


@pytest.fixture(scope="module")
def hand(folder: Path) -> Any:
    return tf_source.load(ReadRequest(str(folder / "hand"), "saved_model").to_json())


@pytest.fixture(scope="module")
def towers(folder: Path) -> Any:
    return tf_source.load(ReadRequest(str(folder / "towers.keras"), "keras").to_json())


def test_saved_model(hand: Any) -> None:
    assert [(each["name"], each["limit"]) for each in hand.inputs] == [("image", None), ("tokens", 11)]
    check_precisions(hand, tf_nets.hand_feeds())
    assert hand.notes == []
    for path in ("kernel", "depthwise", "gamma", "recurrent", "table"):
        check_gradient(hand, tf_nets.hand_feeds(), path)
    outputs, by_input, by_weight = hand.vjp(tf_nets.hand_feeds(), cotangents, False)
    assert set(by_input) == {"image"}
    assert set(hand.state()) - set(by_weight) == {"mean", "variance"}
    for plain, differentiated in zip(hand.run_fp64(tf_nets.hand_feeds()), outputs, strict=True):
        np.testing.assert_allclose(plain, differentiated, rtol=1e-11, atol=1e-13)


def test_weights_are_the_model_s_own_and_the_state_is_wider(hand: Any) -> None:
    weights, state = hand.weights(), hand.state()
    assert set(weights) == set(state)
    for path, stored in weights.items():
        assert (stored.dtype, state[path].dtype) == (np.float32, np.float64)
        np.testing.assert_array_equal(stored, state[path])


def test_an_inference_function_cannot_be_trained(hand: Any) -> None:
    with pytest.raises(NotImplementedError, match="inference function only"):
        hand.vjp(tf_nets.hand_feeds(), cotangents, True)


@pytest.mark.parametrize("name", ["hand", "towers"])
def test_intermediates_are_what_the_hub_calls_them(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    side = request.getfixturevalue(name)
    feeds = tf_nets.hand_feeds() if name == "hand" else tf_nets.tower_feeds()
    found = {
        record["name"]: (record, value, grad) for record, value, grad in side.intermediates(feeds, cotangents)
    }
    file = folder / ("hand" if name == "hand" else "towers.keras")
    hub = read(ReadRequest(str(file), "saved_model" if name == "hand" else "keras"))
    values = [*hub.graph.inputs, *(value for node in hub.graph for value in node.outputs)]
    sources = {metadata.source_value(value) for value in values} - {None}
    unknown = {each for each in sources if each not in found}
    markers = ("BatchNormalization", "LayerNormalization", "Gelu", "Dropout")
    assert len(sources) > 20
    wholes = (*markers, "norm", "gru", "attention")  # what the reader takes whole has other steps in the hub
    assert [value for value in unknown if not any(each in value for each in wholes)] == []
    for record, value, gradient in found.values():
        assert record["operator"]
        assert value.dtype.name not in ("float32", "float16")
        assert gradient is None or gradient.shape == value.shape
    outputs = side.run_fp64(feeds)
    last = [value for _, value, _ in found.values() if value.shape == outputs[-1].shape]
    np.testing.assert_allclose(last[-1], outputs[-1], rtol=1e-12)
    _, by_input, _ = side.vjp(feeds, cotangents, False)
    np.testing.assert_allclose(found["image:0"][2], by_input["image"], rtol=1e-6)


def test_keras(towers: Any) -> None:
    feeds = tf_nets.tower_feeds()
    assert [each["limit"] for each in towers.inputs] == [None, 13]
    check_precisions(towers, feeds)
    scopes = {record["scope"] for record, _ in towers.intermediates(feeds)}
    assert {"conv", "gru", "attention.query", "head"} <= scopes
    assert set(towers.state()) == set(towers.weights())
    for training in (False, True):
        for path in ("conv/kernel", "norm/gamma", "gru/gru_cell/recurrent_kernel", "head/bias"):
            check_gradient(towers, feeds, path, training=training)


def test_training_moves_statistics_and_drops_nothing(towers: Any) -> None:
    feeds = tf_nets.tower_feeds()
    state = towers.state()
    inferred, _, gradients = towers.vjp(feeds, cotangents, False)
    assert all(np.array_equal(value, state[path]) for path, value in towers.state().items())
    assert "embedding/embeddings" not in gradients
    trained, _, _ = towers.vjp(feeds, cotangents, True)
    moved = {path for path, value in towers.state().items() if not np.array_equal(value, state[path])}
    assert moved == {"norm/moving_mean", "norm/moving_variance"}
    towers.assign(state)
    again, _, _ = towers.vjp(feeds, cotangents, True)
    np.testing.assert_array_equal(trained[0], again[0])
    assert np.abs(trained[0] - inferred[0]).max() > 1e-6
    towers.assign(state)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", ["hand", "towers.keras"])
def test_narrower_dtypes(folder: Path, name: str, dtype: str) -> None:
    request = ReadRequest(str(folder / name), "keras" if name.endswith("keras") else "saved_model")
    feeds = tf_nets.tower_feeds() if name.endswith("keras") else tf_nets.hand_feeds()
    side = tf_source.load({**request.to_json(), "dtype": dtype})
    for rough, exact in zip(side.run(feeds), side.run_fp64(feeds), strict=True):
        if exact.dtype.kind == "f":
            assert rough.dtype.name == dtype
            error = np.abs(rough.astype(np.float64) - exact).max() / np.abs(exact).max()
            assert 1e-6 < error < (0.2 if dtype == "bfloat16" else 0.02)


def test_operators_without_a_narrow_kernel_are_named(tmp_path: Path) -> None:
    module = tf.Module()
    spec = [tf.TensorSpec([None, 4, 4, 3], tf.float32, name="x")]
    module.f = tf.function(lambda x: tf.raw_ops.Qr(input=x * 2.0).q, input_signature=spec)
    tf.saved_model.save(module, str(tmp_path / "m"), signatures=module.f.get_concrete_function())
    feeds = {"x": np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)}
    side = tf_source.load({**ReadRequest(str(tmp_path / "m"), "saved_model").to_json(), "dtype": "bfloat16"})
    with pytest.raises(NotImplementedError, match="Qr"):
        side.run(feeds)


@pytest.fixture(scope="module")
def loops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TensorFlow 1 graph with the control flow of TensorFlow 1."""
    folder = tmp_path_factory.mktemp("tf1")
    with pytest.MonkeyPatch.context() as patch, tf.Graph().as_default(), v1.Session() as session:
        patch.setattr(control_flow_util, "ENABLE_CONTROL_FLOW_V2", False)
        x = v1.placeholder(tf.float32, [None, 6, 3], name="x")
        scale = v1.placeholder_with_default(tf.constant(1.5), [], name="scale")
        initial = v1.random_normal_initializer(seed=1, stddev=0.4)
        weight = v1.get_variable("weight", [7, 4], initializer=initial)
        bias = v1.get_variable("bias", [4], initializer=initial, use_resource=True)

        def step(t: Any, h: Any, array: Any) -> tuple[Any, Any, Any]:
            h = tf.tanh(tf.matmul(tf.concat([x[:, t], h], 1), weight) + bias)
            h = tf.cond(tf.reduce_sum(h) > 0, lambda: h * 1.5, lambda: h - 0.1)
            return t + 1, h, array.write(t, h)

        array = tf.TensorArray(tf.float32, size=6)
        start = tf.zeros([tf.shape(x)[0], 4])
        _, _, array = v1.while_loop(lambda t, *_: t < 6, step, [0, start, array])
        y = tf.transpose(array.stack(), [1, 0, 2]) * scale
        y = tf.cond(tf.reduce_mean(x) > 0, lambda: tf.reduce_max(y, 1), lambda: tf.reduce_min(y, 1))
        y = tf.identity(y, "y")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "m.ckpt"))
        v1.saved_model.simple_save(session, str(folder / "saved"), {"x": x}, {"y": y})
    return folder


@pytest.mark.parametrize(("format", "file"), [("tf1_checkpoint", "m.ckpt"), ("saved_model_v1", "saved")])
def test_tensorflow_1(loops: Path, format: str, file: str) -> None:
    side = tf_source.load(ReadRequest(str(loops / file), format).to_json())
    feeds = {"x": np.random.default_rng(0).normal(size=(3, 6, 3)).astype(np.float32)}
    single, double = side.run(feeds)[-1], side.run_fp64(feeds)[-1]
    assert 0 < np.abs(single - double).max() < 1e-5
    check_gradient(side, feeds, "weight")
    check_gradient(side, feeds, "bias")
    assert set(side.weights()) == set(side.state()) == {"weight", "bias"}
    names = [record["name"] for record, _ in side.intermediates(feeds)]
    assert names[-1] == "y:0"
    assert len(set(names)) == len(names)


def test_regression_in_every_format_of_tensorflow_1(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        weight = v1.get_variable("weight", [2, 1], initializer=v1.random_normal_initializer(seed=1))
        tf.matmul(x, weight, name="y")
        session.run(v1.global_variables_initializer())
        frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), ["y"])
    (tmp_path / "m.pb").write_bytes(frozen.SerializeToString())
    side = tf_source.load(ReadRequest(str(tmp_path / "m.pb"), "frozen_graph").to_json())
    feeds = {"x": np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)}
    check_precisions(side, feeds)
    check_gradient(side, feeds, "weight")


@pytest.mark.parametrize("kind", ["module", "keras"])
def test_objects_traced_in_another_process(tmp_path: Path, kind: str) -> None:
    source = tf_nets.Hand() if kind == "module" else tf_nets.two_towers()
    feeds = tf_nets.hand_feeds() if kind == "module" else tf_nets.tower_feeds()
    export_object(source, tmp_path / "object")
    side = tf_source.load(ReadRequest(str(tmp_path / "object"), "tf_bundle").to_json())
    check_precisions(side, feeds)
    path = "kernel" if kind == "module" else "conv/kernel"
    check_gradient(side, feeds, path)
    _, _, gradients = side.vjp(feeds, cotangents, False)
    assert ("mean" if kind == "module" else "embedding/embeddings") not in gradients
    live = TensorFlowObjectSide(source, ReadRequest("tests.worker.sides.tf_nets:two_towers", "factory"))
    assert set(live.weights() or ()) == set(side.weights())
    for path, value in side.weights().items():
        np.testing.assert_array_equal(value, (live.weights() or {})[path])


def test_tensors_that_an_object_keeps_without_variables(tmp_path: Path) -> None:
    x = keras.Input((3,), name="x")
    normalized = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 9.0, 1.0], name="norm")(x)
    export_object(keras.Model(x, keras.layers.Dense(2, name="dense")(normalized)), tmp_path / "object")
    side = tf_source.load(ReadRequest(str(tmp_path / "object"), "tf_bundle").to_json())
    weights = side.weights() or {}
    assert set(weights) == {"norm/mean", "norm/variance", "dense/kernel", "dense/bias"}
    np.testing.assert_array_equal(weights["norm/mean"].reshape(-1), [1, 2, 3])


def test_factories() -> None:
    inputs = (InputSpec(("N", 3)),)
    request = ReadRequest("tests.worker.sides.tf_nets:subclassed", "factory", inputs=inputs)
    side = TensorFlowObjectSide(tf_nets.lively(tf_nets.subclassed()), request)
    feeds = {side.inputs[0]["name"]: np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)}
    check_precisions(side, feeds)
    assert set(side.weights() or ()) == set(side.state())
    for path in side.weights() or {}:
        if "moving" not in path:
            check_gradient(side, feeds, path, training=True)
    assert keras.config.floatx() == "float32"


def test_live_modules_and_functions() -> None:
    module = tf_nets.Hand()
    for source in (module, module.__call__):
        side = TensorFlowObjectSide(source, ReadRequest("tests.worker.sides.tf_nets:Hand", "factory"))
        check_precisions(side, tf_nets.hand_feeds())
        _, _, gradients = side.vjp(tf_nets.hand_feeds(), cotangents, False)
        assert len(gradients) == 8
        check_gradient(side, tf_nets.hand_feeds(), min(gradients))


def test_statistics_that_a_layer_keeps_without_variables_are_weights(tmp_path: Path) -> None:
    scale = keras.layers.Normalization(axis=-1, mean=[1.0, 2.0], variance=[4.0, 9.0], name="scale")
    model = keras.Sequential([keras.Input((2,), name="x"), scale, keras.layers.Dense(1, name="out")])
    model.save(tmp_path / "scaled.keras")
    request = ReadRequest(str(tmp_path / "scaled.keras"), "keras")
    weights = tf_source.load(request.to_json()).weights()
    assert weights is not None
    hub = read(request)
    read_ones = [metadata.weight_info(value) for value in hub.graph.initializers.values()]
    assert {each.path for each in read_ones if each is not None} == set(weights)
    assert weights["scale/mean"].reshape(-1).tolist() == [1.0, 2.0]
