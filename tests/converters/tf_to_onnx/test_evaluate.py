"""Graphs evaluated operator by operator: what TensorFlow lacks in float64 is made of what it has."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.double import function_form
from bridge_converters.tf_to_onnx.form import Form
from bridge_converters.tf_to_onnx.functions import signature_of

Array = np.ndarray[Any, np.dtype[Any]]
Function = Callable[[tf.Tensor], tf.Tensor]

_GENERATOR = np.random.default_rng(0)
_X = _GENERATOR.normal(size=(2, 8, 8, 4)).astype(np.float32)
_KERNEL = _GENERATOR.normal(size=(3, 3, 4, 6)).astype(np.float32)
_GROUPED = _GENERATOR.normal(size=(3, 3, 2, 6)).astype(np.float32)
_STATISTICS = _GENERATOR.uniform(0.5, 1.5, 4).astype(np.float32)
_NCHW = [0, 3, 1, 2]


def _volume(x: tf.Tensor) -> tf.Tensor:
    return tf.stack([x, 2.0 * x, x * x, x], 1)


def _batch_norm(x: tf.Tensor, **options: Any) -> Any:
    numbers = dict.fromkeys(("scale", "offset", "mean", "variance"), _STATISTICS)
    return tf.raw_ops.FusedBatchNormV3(x=x, **numbers, **options)


_FUNCTIONS: Mapping[str, Function] = {
    "average pool, 3d": lambda x: tf.nn.avg_pool3d(_volume(x), [2, 3, 2], [1, 2, 2], "SAME"),
    "batch norm": lambda x: _batch_norm(x, is_training=False).y,
    "batch norm, channels first": lambda x: (
        _batch_norm(tf.transpose(x, _NCHW), is_training=False, data_format="NCHW").y
    ),
    "batch norm, training": lambda x: _batch_norm(x, is_training=True).y,
    "bilinear": lambda x: tf.image.resize(x, [5, 13]),
    "bilinear, corners": lambda x: tf.compat.v1.image.resize_bilinear(x, [5, 13], align_corners=True),
    "bilinear, one row": lambda x: tf.compat.v1.image.resize_bilinear(x, [1, 3], align_corners=True),
    "bilinear, plain": lambda x: tf.compat.v1.image.resize_bilinear(x, [13, 5]),
    "branches": lambda x: tf.switch_case(tf.constant(7), [lambda: x, lambda: x * 2.0, lambda: x * 3.0]),
    "choice": lambda x: tf.cond(tf.reduce_mean(x) > 9, lambda: x * 2.0, lambda: tf.sin(x)),
    "compiled": tf.function(lambda x: tf.nn.conv2d(x, _GROUPED, 1, "SAME"), jit_compile=True),
    "convolution, 3d, dilated": lambda x: tf.nn.conv3d(
        _volume(x), _KERNEL[np.newaxis], [1, 1, 1, 1, 1], "SAME", dilations=[1, 1, 2, 1, 1]
    ),
    "convolution, channels first": lambda x: tf.nn.conv2d(
        tf.transpose(x, _NCHW), _KERNEL, [1, 1, 2, 2], "SAME", data_format="NCHW"
    ),
    "convolution, dilated": lambda x: tf.nn.conv2d(x, _KERNEL, 1, "VALID", dilations=[1, 2, 3, 1]),
    "convolution, explicit padding": lambda x: tf.nn.conv2d(
        x, _KERNEL, 1, [[0, 0], [1, 2], [0, 1], [0, 0]], dilations=2
    ),
    "convolution, grouped": lambda x: tf.nn.conv2d(x, _GROUPED, 2, "SAME"),
    "half": lambda x: tf.cast(tf.cast(x, tf.float16) * tf.constant(0.5, tf.float16), tf.float32),
    "local response": lambda x: tf.nn.local_response_normalization(x, 1, 1.5, 0.1, 0.7),
    "map": lambda x: tf.map_fn(lambda row: tf.nn.softmax(row * 2.0), x),
    "pool, channels first": lambda x: tf.nn.max_pool2d(
        tf.transpose(x, _NCHW), [3, 2], 2, "SAME", data_format="NCHW"
    ),
    "scan": lambda x: tf.scan(lambda total, row: total * 0.5 + row, tf.transpose(x, [1, 0, 2, 3])),
    "spectrum": lambda x: tf.abs(tf.signal.rfft(x)),
}


def _form(function: Function, dtype: str = "float64") -> tuple[Form, Any]:
    spec = tf.TensorSpec([None, 8, 8, 4], tf.float32, name="x")
    traced = tf.function(function, input_signature=[spec], autograph=False).get_concrete_function()
    return function_form(signature_of(traced, None), dtype=dtype), traced


@pytest.mark.parametrize("name", _FUNCTIONS)
def test_float64_and_its_gradient(name: str) -> None:
    form, traced = _form(_FUNCTIONS[name])
    single = np.asarray(traced(tf.constant(_X)))
    (double,) = form.run({"x": _X})
    assert double.dtype == np.float64
    assert not form.single
    np.testing.assert_allclose(single, double, rtol=2e-3 if name == "half" else 1e-4, atol=1e-5)
    direction = np.random.default_rng(1).normal(size=_X.shape)
    cotangent = np.random.default_rng(2).normal(size=double.shape)
    moved = [(form.run({"x": _X + step * direction})[0] * cotangent).sum() for step in (1e-6, -1e-6)]
    _, gradients, _ = form.vjp({"x": _X}, lambda outputs: [cotangent])
    np.testing.assert_allclose(
        (moved[0] - moved[1]) / 2e-6, (gradients["x"] * direction).sum(), rtol=1e-5, atol=1e-6
    )


def test_statistics_of_a_training_batch_norm() -> None:
    for factor in (1.0, 0.25):
        form, _ = _form(
            lambda x, factor=factor: (
                _batch_norm(  # type: ignore[misc]
                    x, is_training=True, exponential_avg_factor=factor
                ).batch_variance
            )
        )
        wanted = _X.astype(np.float64).var((0, 1, 2), ddof=1) * factor + _STATISTICS * (1 - factor)
        np.testing.assert_allclose(form.run({"x": _X})[0], wanted, rtol=1e-6)


def test_operators_of_single_precision_are_named() -> None:
    form, traced = _form(lambda x: 3.0 * tf.image.resize(x * 2.0, [5, 13], "bicubic"))
    (double,) = form.run({"x": _X})
    assert form.single == {"ResizeBicubic"}
    np.testing.assert_allclose(traced(tf.constant(_X)), double, rtol=1e-4, atol=1e-5)
    _, gradients, _ = form.vjp({"x": _X}, lambda outputs: [np.ones_like(outputs[0])])
    assert gradients["x"].dtype == np.float64


def test_bits_are_read_in_the_type_that_has_them() -> None:
    form, _ = _form(lambda x: tf.bitcast(tf.bitcast(x, tf.int32) & 0x7FFFFFFF, tf.float32))
    np.testing.assert_array_equal(form.run({"x": _X})[0], np.abs(_X))
    assert not form.single


def test_operators_without_a_gradient() -> None:
    form, _ = _form(lambda x: tf.image.resize(x, [4, 4], "area"))
    with pytest.raises(NotImplementedError, match="ResizeArea"):
        form.vjp({"x": _X}, lambda outputs: [np.ones_like(outputs[0])])
    form, _ = _form(lambda x: tf.stop_gradient(x) * 2.0)
    assert form.vjp({"x": _X}, lambda outputs: [np.ones_like(outputs[0])])[1] == {}


def test_half_precision() -> None:
    form, _ = _form(
        lambda x: _batch_norm(tf.nn.conv2d(x, _KERNEL[..., :4], 1, "SAME"), is_training=False).y, "float16"
    )
    (half,) = form.run({"x": _X})
    assert half.dtype == np.float16


def test_noise_leaves_what_needs_no_rounding() -> None:
    form, _ = _form(lambda x: tf.nn.relu(tf.concat([x[:, ::2], -x[:, 1::2]], 1)))
    np.testing.assert_array_equal(form.run({"x": _X})[0], form.run_noisy({"x": _X}, 1e-3, 0)[0])
    form, _ = _form(lambda x: x * 2.0)
    ratio = form.run_noisy({"x": _X}, 1e-3, 0)[0] / form.run({"x": _X})[0] - 1
    assert 0.9e-3 < np.abs(ratio).max() <= 1e-3
    assert abs(ratio.mean()) < 2e-4


def test_intermediates_name_calls_and_leave_out_iterations() -> None:
    @tf.function
    def inner(x: tf.Tensor) -> tf.Tensor:
        return tf.sin(x, name="wave")

    def outer(x: tf.Tensor) -> tf.Tensor:
        (y,) = tf.while_loop(lambda y: tf.reduce_max(y) < 100.0, lambda y: [y * 2.0 + 1.0], [inner(x)])
        return tf.identity(y, name="end")

    form, _ = _form(outer)
    records = [record for record, _ in form.intermediates({"x": _X})]
    names = [record["name"] for record in records]
    assert names[0] == "x:0"
    assert [name for name in names if name.endswith("PartitionedCall/wave:0")]
    assert len(names) == len(set(names))
    operators = [record["operator"] for record in records]
    assert "StatelessWhile" in operators
    assert "AddV2" not in operators
