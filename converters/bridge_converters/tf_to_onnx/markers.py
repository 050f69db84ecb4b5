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
    token = PREFIX + json.dumps({"op": op_type, "attributes": dict(attributes or {})}, sort_keys=True)
    (result,) = tf.raw_ops.PyFuncStateless(input=list(inputs), token=token, Tout=[dtype], name=op_type)
    return tf.ensure_shape(result, shape)


def parse(token: bytes | str) -> tuple[str, dict[str, Any]] | None:
    """The ONNX operator and attributes in a token; None if it belongs to somebody's real Python function."""
    text = token.decode("utf-8", "replace") if isinstance(token, bytes) else token
    if not text.startswith(PREFIX):
        return None
    record = json.loads(text[len(PREFIX) :])
    return record["op"], record["attributes"]
