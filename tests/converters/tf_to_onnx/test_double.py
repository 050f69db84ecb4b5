from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.double import load_double
from bridge_converters.tf_to_onnx.load import load_runnable

from bridge.formats.request import ReadRequest

from .conftest import KERAS_FORMATS

v1 = tf.compat.v1


def errors(request: ReadRequest, inputs: dict[str, np.ndarray[Any, Any]]) -> list[float]:
    """The relative error of single precision, per output."""
    single, double = load_runnable(request), load_double(request)
    assert (single.input_names, single.output_names) == (double.input_names, double.output_names)
    result = []
    for rough, exact in zip(single.run(inputs), double.run(inputs), strict=True):
        assert exact.dtype == np.float64
        result.append(float(np.linalg.norm(rough - exact) / np.linalg.norm(exact)))
    return result


@pytest.mark.parametrize("kind", KERAS_FORMATS)
def test_formats(keras_files: Callable[[str, str], ReadRequest], kind: str) -> None:
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype(np.float32)
    request = keras_files("digits_like", kind)
    (name,) = load_runnable(request).input_names
    (error,) = errors(request, {name: x})
    assert 1e-9 < error < 1e-6


def test_keras_and_graph_rewriting_agree(keras_files: Callable[[str, str], ReadRequest]) -> None:
    x = np.random.default_rng(0).normal(size=(5, 8, 8, 4)).astype(np.float32)
    results = []
    for kind in ("keras", "exported"):
        model = load_double(keras_files("rare", kind))
        results.append(model.run({model.input_names[0]: x})[0])
    np.testing.assert_allclose(results[0], results[1], rtol=1e-12, atol=1e-12)


def test_mobilenet_with_calibrated_statistics(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2(weights=None, input_shape=(64, 64, 3), classes=10, alpha=0.35)
    x = np.random.default_rng(0).normal(size=(16, 64, 64, 3)).astype(np.float32)
    norms = [each for each in model.layers if isinstance(each, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    model(x, training=True)
    model.save(tmp_path / "m.keras")
    (error,) = errors(ReadRequest(str(tmp_path / "m.keras"), "keras"), {"input_layer": x})
    assert 1e-8 < error < 1e-5


def test_regression(regression: Path) -> None:
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    for format, file in (
        ("tf1_checkpoint", "model.ckpt"),
        ("frozen_graph", "frozen.pb"),
        ("saved_model_v1", "saved_model"),
    ):
        (error,) = errors(ReadRequest(str(regression / file), format), {"x": x})
        assert error < 3e-7


def test_fused_batch_norm_of_both_layouts(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 4, 4, 3], name="x")
        numbers = [tf.constant([1.0, 2.0, 3.0]) * scale for scale in (1.0, 0.1, 0.3, 0.7)]
        last, _, _ = v1.nn.fused_batch_norm(x, *numbers, is_training=False)
        moved = tf.transpose(x, [0, 3, 1, 2])
        result = tf.raw_ops.FusedBatchNormV3(
            x=moved,
            scale=numbers[0],
            offset=numbers[1],
            mean=numbers[2],
            variance=numbers[3],
            is_training=False,
            data_format="NCHW",
            epsilon=0.001,
        )
        tf.identity(last - 2.0 * tf.transpose(result.y, [0, 2, 3, 1]), name="y")
    (tmp_path / "m.pb").write_bytes(graph.as_graph_def().SerializeToString())
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 3)).astype(np.float32)
    (exact,) = load_double(ReadRequest(str(tmp_path / "m.pb"), "frozen_graph")).run({"x": x})
    scale, offset, mean, variance = (np.array([1.0, 2.0, 3.0]) * each for each in (1.0, 0.1, 0.3, 0.7))
    wanted = -((x - mean) / np.sqrt(variance + np.float32(0.001)) * scale + offset)
    np.testing.assert_allclose(exact, wanted, rtol=1e-5, atol=1e-6)


def test_loops_and_single_precision_operators(tmp_path: Path) -> None:
    x = keras.Input((4, 4, 3), name="x")
    y = keras.layers.UpSampling2D(2, interpolation="bilinear")(x)
    y = keras.layers.Reshape((8, 24))(y)
    model = keras.Model(x, keras.layers.GRU(5)(y))
    model.export(tmp_path / "m", verbose=False)
    value = np.random.default_rng(0).normal(size=(3, 4, 4, 3)).astype(np.float32)
    (error,) = errors(ReadRequest(str(tmp_path / "m"), "saved_model"), {"x": value})
    assert 1e-9 < error < 1e-6


def test_global_settings_are_restored(keras_files: Callable[[str, str], ReadRequest]) -> None:
    load_double(keras_files("nested", "keras"))
    assert keras.config.floatx() == "float32"
    assert keras.config.dtype_policy().name == "float32"
