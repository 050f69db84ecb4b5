"""Marker operators: an ONNX operator written into a TensorFlow graph while tracing.

A marker is a `PyFuncStateless` node, which TensorFlow neither evaluates nor rewrites, whose token holds
the ONNX operator's name and attributes as JSON. It computes nothing in TensorFlow: a graph with
markers is only good for conversion.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from bridge.worker.compatible import zip_equal

PREFIX = "bridge.marker:"
OP_TYPE = "PyFuncStateless"


def mark(
    op_type: str,
    inputs: Sequence[tf.Tensor],
    *,
    shape: tf.TensorShape,
    dtype: tf.DType,
    attributes: Mapping[str, Any] | None = None,
) -> tf.Tensor:
    """A tensor of the given static shape and dtype that ONNX's `op_type` will compute from `inputs`."""
    (result,) = mark_several(op_type, inputs, shapes=[shape], dtype=dtype, attributes=attributes)
    return result


def mark_several(
    op_type: str,
    inputs: Sequence[tf.Tensor | None],
    *,
    shapes: Sequence[tf.TensorShape],
    dtype: tf.DType | Sequence[tf.DType],
    attributes: Mapping[str, Any] | None = None,
) -> list[tf.Tensor]:
    """The outputs of an operator of several, of one dtype or one each; an input that is left out is None."""
    record: dict[str, Any] = {"op": op_type, "attributes": dict(attributes or {})}
    absent = [index for index, value in enumerate(inputs) if value is None]
    if absent:
        record["absent"] = absent
    token = PREFIX + json.dumps(record, sort_keys=True)
    given = [value for value in inputs if value is not None]
    dtypes = [dtype] * len(shapes) if isinstance(dtype, tf.DType) else list(dtype)
    results = tf.raw_ops.PyFuncStateless(input=given, token=token, Tout=dtypes, name=op_type)
    return [tf.ensure_shape(each, shape) for each, shape in zip_equal(results, shapes)]


def parse(token: bytes | str) -> tuple[str, dict[str, Any], list[int]] | None:
    """The ONNX operator, its attributes and the inputs it leaves out, from a token.

    None if the token belongs to somebody's real Python function.
    """
    text = token.decode("utf-8", "replace") if isinstance(token, bytes) else token
    if not text.startswith(PREFIX):
        return None
    record = json.loads(text[len(PREFIX) :])
    return record["op"], record["attributes"], record.get("absent", [])
