"""From scores to classes and probabilities, as classifiers and regressors of `ai.onnx.ml` do."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.recipe import Array
from bridge.passes.classical.builder import OWN, Builder

_TRANSFORMS = {"LOGISTIC": ("Sigmoid", ""), "SOFTMAX": ("Softmax", ""), "PROBIT": ("Probit", OWN)}


def transformed(build: Builder, scores: ir.Value, transform: str) -> ir.Value:
    """Scores (N, targets) after `post_transform`."""
    if transform == "NONE":
        return scores
    if transform == "SOFTMAX_ZERO":
        return build.call("SoftmaxZero", scores, domain=OWN)
    if transform not in _TRANSFORMS:
        raise build.fault(f"the post_transform {transform!r} is unknown")
    op_type, domain = _TRANSFORMS[transform]
    return build.call(op_type, scores, domain=domain)


def refuse_single(build: Builder, targets: int) -> None:
    """Refuse what the standard and onnxruntime see differently: a transform of a single target."""
    transform = build.attribute("post_transform")
    if targets == 1 and transform not in ("NONE", "PROBIT"):
        raise build.fault(
            f"{transform} of a single target: the standard applies it, onnxruntime does not; "
            "write NONE and put the function behind it"
        )


def class_labels(build: Builder, integers: str, texts: str) -> Array:
    """The labels of the classes, integers or text."""
    listed = build.attribute(integers)
    if listed:
        return np.asarray(listed, np.int64)
    named = build.attribute(texts)
    if not named:
        raise build.fault("it has no class labels")
    return np.asarray(named, object)


def label_of(build: Builder, index: ir.Value, labels: Array) -> ir.Value | None:
    """The label at the index of each row; None if nothing reads it."""
    if not build.is_read(0):
        return None
    if labels.dtype != object and np.array_equal(labels, np.arange(len(labels))):
        return index
    dtype = ir.DataType.STRING if labels.dtype == object else ir.DataType.INT64
    return build.call("Gather", build.constant(labels, "labels"), index, dtype=dtype, rank=1, axis=0)


def greatest(build: Builder, scores: ir.Value) -> ir.Value:
    """The first column with the greatest score of each row."""
    return build.call("ArgMax", scores, dtype=ir.DataType.INT64, rank=1, axis=1, keepdims=0)


def exceeds(build: Builder, scores: ir.Value, threshold: float) -> ir.Value:
    """1 for each row whose only score is above a threshold, 0 for the others."""
    bound = build.constant(np.asarray(threshold, np.float32), "threshold")
    above = build.call("Greater", scores, build.cast(bound, scores.dtype or ir.DataType.FLOAT))
    axis = build.constant(np.asarray([1]), "axis")
    return build.cast(build.call("Squeeze", above, axis, rank=1), ir.DataType.INT64)


def beside(build: Builder, first: ir.Value, second: ir.Value) -> ir.Value:
    """Two columns side by side."""
    return build.call("Concat", first, second, axis=1)
