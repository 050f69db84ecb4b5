from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.double import load_double
from bridge_converters.tf_to_onnx.reader import read
from bridge_converters.tf_to_onnx.tf1 import weight_constants

from bridge.errors import BridgeError, InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata

from .conftest import read_and_compare, scopes, weights

v1 = tf.compat.v1


def save(folder: Path, build: Any, *outputs: str) -> Path:
    """Build a graph, save its checkpoint, and freeze it up to the outputs where there are any."""
    with tf.Graph().as_default() as graph, v1.Session() as session:
        build()
        session.run(v1.global_variables_initializer())
        if v1.global_variables():
            v1.train.Saver().save(session, str(folder / "model.ckpt"))
        if outputs:
            frozen = v1.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), list(outputs)
            )
            (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
    return folder


@pytest.mark.parametrize(
    ("format", "file"),
    [
        ("tf1_checkpoint", "model.ckpt"),
        ("frozen_graph", "frozen.pb"),
        ("saved_model_v1", "saved_model"),
    ],
)
def test_regression(regression: Path, format: str, file: str) -> None:
    hub = read_and_compare(ReadRequest(str(regression / file), format))
    info = metadata.source_info(hub)
    assert (info.inputs, info.outputs, info.format) == (("x",), ("prediction",), format)
    assert {path: (each.kind, each.trainable) for path, each in weights(hub).items()} == {
        "weights": ("parameter", True),
        "bias": ("parameter", True),
    }
    assert [node.op_type for node in hub.graph] == ["MatMul", "Add"]


def network() -> None:
    x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="image")
    rate = v1.placeholder_with_default(0.0, [], name="rate")
    with v1.variable_scope("block"):
        kernel = v1.get_variable("kernel", [3, 3, 3, 4], initializer=v1.random_normal_initializer(seed=3))
        x = tf.nn.conv2d(x, kernel, 1, "SAME")
        scale = v1.get_variable("gamma", [4], initializer=v1.constant_initializer([1, 2, 3, 4.0]))
        offset = v1.get_variable("beta", [4], initializer=v1.constant_initializer([0.5, 1, 0, 1]))
        mean = v1.get_variable("mean", [4], initializer=v1.zeros_initializer(), trainable=False)
        variance = v1.get_variable("var", [4], initializer=v1.ones_initializer(), trainable=False)
        x, _, _ = v1.nn.fused_batch_norm(x, scale, offset, mean, variance, is_training=False, epsilon=0.01)
    x = tf.multiply(tf.reduce_mean(tf.nn.relu(x), [1, 2]), 1.0 - rate)
    tf.identity(tf.nn.softmax(x), name="probabilities")


def test_network_with_statistics_and_switch(tmp_path: Path) -> None:
    save(tmp_path, network, "probabilities")
    for format, file in (("tf1_checkpoint", "model.ckpt"), ("frozen_graph", "frozen.pb")):
        hub = read_and_compare(ReadRequest(str(tmp_path / file), format))
        assert metadata.source_info(hub).inputs == ("image",)
        assert {path: each.kind for path, each in weights(hub).items()} == {
            "block/kernel": "parameter",
            "block/gamma": "parameter",
            "block/beta": "parameter",
            "block/mean": "buffer",
            "block/var": "buffer",
        }
        assert "BatchNormalization" in [node.op_type for node in hub.graph]
        assert "block" in scopes(hub)


def test_resource_variables_and_control_flow(tmp_path: Path) -> None:
    def build() -> None:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        w = v1.get_variable("w", [3, 3], initializer=v1.orthogonal_initializer(seed=1), use_resource=True)
        tf.identity(tf.where(tf.reduce_sum(x) > 0, tf.matmul(x, w), x - 1.0), name="y")

    save(tmp_path, build)
    hub = read_and_compare(ReadRequest(str(tmp_path / "model.ckpt"), "tf1_checkpoint"))
    assert list(weights(hub)) == ["w"]


def test_frozen_graph_without_reads(tmp_path: Path, regression: Path) -> None:
    """Tools that optimise a frozen graph remove the Identity nodes that tell a weight from a constant."""
    graph = v1.GraphDef.FromString((regression / "frozen.pb").read_bytes())
    reads = {node.name: node.input[0] for node in graph.node if node.op == "Identity"}
    kept = v1.GraphDef(versions=graph.versions)
    for node in graph.node:
        if node.name not in reads:
            copy = kept.node.add()
            copy.CopyFrom(node)
            for position, name in enumerate(node.input):
                copy.input[position] = reads.get(name, name)
    assert weight_constants(kept) == ["weights", "bias"]
    (tmp_path / "lean.pb").write_bytes(kept.SerializeToString())
    hub = read_and_compare(ReadRequest(str(tmp_path / "lean.pb"), "frozen_graph"))
    assert list(weights(hub)) == ["weights", "bias"]


def test_unknown_shape_is_asked_for(tmp_path: Path) -> None:
    def build() -> None:
        x = v1.placeholder(tf.float32, name="x")
        w = v1.get_variable("w", [3, 2], initializer=v1.random_normal_initializer(seed=1))
        tf.matmul(x, w, name="y")

    path = str(save(tmp_path, build) / "model.ckpt")
    with pytest.raises(InputError, match="what shape its input 'x' has") as caught:
        read(ReadRequest(path, "tf1_checkpoint"))
    assert caught.value.hint is not None
    assert "--input x=" in caught.value.hint
    read_and_compare(ReadRequest(path, "tf1_checkpoint", inputs=(InputSpec(("N", 3)),)))
    with pytest.raises(InputError, match="no input 'z'"):
        read(ReadRequest(path, "tf1_checkpoint", inputs=(InputSpec(("N", 3), name="z"),)))


def test_missing_and_broken_files(tmp_path: Path, regression: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.ckpt\.meta is missing"):
        read(ReadRequest(str(tmp_path / "gone.ckpt"), "tf1_checkpoint"))
    (tmp_path / "cut.pb").write_bytes((regression / "frozen.pb").read_bytes()[:100])
    with pytest.raises(InputError, match="truncated"):
        read(ReadRequest(str(tmp_path / "cut.pb"), "frozen_graph"))
    (tmp_path / "lone.ckpt.meta").write_bytes((regression / "model.ckpt.meta").read_bytes())
    with pytest.raises(InputError, match="values of the variables cannot be read"):
        read(ReadRequest(str(tmp_path / "lone.ckpt"), "tf1_checkpoint"))


def test_graph_without_inputs(tmp_path: Path) -> None:
    def build() -> None:
        w = v1.get_variable("w", [2, 2], initializer=v1.random_normal_initializer(seed=1))
        tf.matmul(tf.constant([[1.0, 2.0]]), w, name="y")

    with pytest.raises(InputError, match="no output that depends on an input"):
        read(ReadRequest(str(save(tmp_path, build) / "model.ckpt"), "tf1_checkpoint"))


def test_lookup_tables_are_refused_by_name(tmp_path: Path) -> None:
    def build() -> None:
        x = v1.placeholder(tf.int64, [None], name="x")
        table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer([1, 2], [3.0, 4.0], key_dtype=tf.int64), 0.0
        )
        tf.identity(table.lookup(x), name="y")

    save(tmp_path, build, "y")
    with pytest.raises(BridgeError, match="LookupTableFindV2"):
        read(ReadRequest(str(tmp_path / "frozen.pb"), "frozen_graph"))


def test_global_step_is_no_weight_of_the_output(regression: Path) -> None:
    hub = read(ReadRequest(str(regression / "model.ckpt"), "tf1_checkpoint"))
    assert "global_step" not in weights(hub)
    kernel = hub.graph.initializers["weights"].const_value
    assert kernel is not None
    stored = tf.train.load_checkpoint(str(regression / "model.ckpt")).get_tensor("weights")
    np.testing.assert_array_equal(kernel.numpy(), stored)


def branching(folder: Path) -> dict[str, Path]:
    """Weights read in branches and a loop of TensorFlow 1's own control flow, frozen and as a checkpoint."""
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph, v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 4], name="x")
            weights = [
                v1.get_variable(name, [4, 3], initializer=v1.random_normal_initializer(seed=seed))
                for seed, name in enumerate(("first", "second"))
            ]
            y, z = v1.cond(
                tf.reduce_mean(x) > 0,
                lambda: (tf.matmul(x, weights[0]), x * 2),
                lambda: (tf.tanh(tf.matmul(x, weights[1])), x - 1),
            )
            _, h = v1.while_loop(
                lambda i, h: i < 3, lambda i, h: (i + 1, tf.tanh(h + y)), [0, tf.zeros_like(y)]
            )
            tf.identity(h, name="state")
            tf.identity(z, name="scaled")
            session.run(v1.global_variables_initializer())
            frozen = v1.graph_util.convert_variables_to_constants(
                session, graph.as_graph_def(), ["state", "scaled"]
            )
            (folder / "branching.pb").write_bytes(frozen.SerializeToString())
            v1.train.Saver().save(session, str(folder / "branching.ckpt"))
    finally:
        v1.enable_control_flow_v2()
    return {"frozen_graph": folder / "branching.pb", "tf1_checkpoint": folder / "branching.ckpt"}


def test_branches_are_no_outputs_and_their_weights_are_weights(tmp_path: Path) -> None:
    for format, path in branching(tmp_path).items():
        model = read_and_compare(ReadRequest(str(path), format))
        assert sorted(value.name or "" for value in model.graph.outputs) == ["scaled", "state"]
        assert set(weights(model)) == {"first", "second"}
        assert all(info.trainable for info in weights(model).values())


def test_elements_of_an_array_that_nothing_wrote_are_zeros(tmp_path: Path) -> None:
    v1.disable_control_flow_v2()
    try:
        with tf.Graph().as_default() as graph:
            x = v1.placeholder(tf.float32, [2, 3], name="x")
            array = tf.TensorArray(tf.float32, size=4, element_shape=[2, 3])
            array = array.write(0, x).write(2, 2 * x)
            array.stack(name="stacked")
            (tmp_path / "array.pb").write_bytes(graph.as_graph_def().SerializeToString())
    finally:
        v1.enable_control_flow_v2()
    form = load_double(ReadRequest(str(tmp_path / "array.pb"), "frozen_graph"))
    data = np.random.default_rng(0).normal(size=(2, 3))
    (stacked,) = form.run({"x": data})
    np.testing.assert_array_equal(stacked, np.stack([data, 0 * data, 2 * data, 0 * data]))


def classifier() -> None:
    """Logits that only the loss reads, scores that nothing reads, and zeros that nothing uses."""
    x = v1.placeholder(tf.float32, [None, 4], name="x")
    labels = v1.placeholder(tf.int32, [None], name="labels")
    weights = v1.get_variable("weights", [4, 3], initializer=v1.random_normal_initializer(seed=1))
    bias = v1.get_variable("bias", [3], initializer=v1.random_normal_initializer(seed=2))
    hidden = tf.matmul(x, weights)
    tf.zeros([tf.shape(x)[0], 3], name="left_behind")
    logits = tf.add(hidden, bias, name="logits")
    tf.reduce_max(hidden, axis=1, name="scores")
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    v1.train.GradientDescentOptimizer(0.1).minimize(loss)


def test_predictions_of_a_training_graph_are_outputs_beside_others(tmp_path: Path) -> None:
    save(tmp_path, classifier)
    hub = read_and_compare(ReadRequest(str(tmp_path / "model.ckpt"), "tf1_checkpoint"))
    info = metadata.source_info(hub)
    assert (info.inputs, info.outputs) == (("x",), ("logits", "scores"))
