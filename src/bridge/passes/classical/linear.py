"""Linear models."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.passes.classical.builder import Builder
from bridge.passes.classical.scores import (
    beside,
    class_labels,
    exceeds,
    greatest,
    label_of,
    refuse_single,
    transformed,
)

_FLOAT = ir.DataType.FLOAT


def linear_regressor(build: Builder) -> None:
    """X @ coefficients.T + intercepts."""
    targets = build.attribute("targets")
    refuse_single(build, targets)
    build.replace(transformed(build, _product(build, targets), build.attribute("post_transform")))


def linear_classifier(build: Builder) -> None:
    """The label with the greatest X @ coefficients.T + intercepts, and these scores.

    A single row of coefficients for two labels speaks for the second one, whose score s it gives; the
    first has 1 - s. What no version of the standard says (how `post_transform` treats that score) is as
    in onnxruntime.
    """
    labels = class_labels(build, "classlabels_ints", "classlabels_strings")
    intercepts = build.numbers("intercepts")
    rows = len(intercepts) or len(labels)
    transform = build.attribute("post_transform")
    scores = _product(build, rows)
    if rows == 1 and len(labels) == 2:
        label = label_of(build, exceeds(build, scores, 0.0), labels)
        build.replace(label, _both(build, scores, transform))
        return
    label = label_of(build, greatest(build, scores), labels)
    build.replace(label, transformed(build, scores, transform))


def _both(build: Builder, scores: ir.Value, transform: str) -> ir.Value:
    if transform == "PROBIT":
        raise build.fault("PROBIT of the single score of a binary classifier is not specified")
    if transform == "LOGISTIC":
        return build.call("Sigmoid", beside(build, build.call("Neg", scores), scores))
    one = build.constant(np.asarray(1, np.float32), "one")
    rank = None if scores.shape is None else len(scores.shape)
    return beside(
        build, build.call("Sub", build.cast(one, scores.dtype or _FLOAT), scores, rank=rank), scores
    )


def _product(build: Builder, targets: int) -> ir.Value:
    coefficients = build.numbers("coefficients")
    if targets < 1 or coefficients.size % targets:
        raise build.fault(f"{coefficients.size} coefficients cannot be those of {targets} targets")
    x = build.cast(build.x, _FLOAT)
    matrix = build.constant(np.ascontiguousarray(coefficients.reshape(targets, -1).T), "coefficients")
    product = build.call("MatMul", x, matrix, rank=2)
    intercepts = build.numbers("intercepts")
    if not intercepts.size or not np.any(intercepts):
        return product
    return build.call("Add", product, build.constant(intercepts, "intercepts"), rank=2)
