"""Support vector machines, as libsvm makes and ONNX stores them."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from bridge.hub.recipe import Array
from bridge.passes.classical.builder import OWN, Builder
from bridge.passes.classical.scores import (
    beside,
    class_labels,
    greatest,
    label_of,
    refuse_single,
    transformed,
)

_FLOAT = ir.DataType.FLOAT


def svm_regressor(build: Builder) -> None:
    """The kernels of X with the support vectors times their coefficients; the sign, for one class."""
    refuse_single(build, 1)
    coefficients, rho = build.numbers("coefficients"), build.numbers("rho")
    x = build.cast(build.x, _FLOAT)
    supports = build.attribute("n_supports")
    if supports:
        kernels = _kernels(build, x, build.numbers("support_vectors").reshape(supports, -1))
    else:
        kernels = _kernel_of_dots(build, x)
    column = build.constant(coefficients.reshape(-1, 1), "coefficients")
    score = build.call("MatMul", kernels, column, rank=2)
    score = build.call("Add", score, build.constant(rho[:1], "rho"), rank=2)
    if build.attribute("one_class"):
        zero, one, minus_one = (np.asarray(each, np.float32) for each in (0, 1, -1))
        inside = build.call("Greater", score, build.constant(zero, "zero"))
        score = build.call(
            "Where",
            inside,
            build.constant(one, "inside"),
            build.constant(minus_one, "outside"),
            dtype=_FLOAT,
        )
    build.replace(transformed(build, score, build.attribute("post_transform")))


def svm_classifier(build: Builder) -> None:
    """The label that wins most pairs of classes; the probabilities, or the decision values of the pairs."""
    ints, texts = "classlabels_ints", "classlabels_strings"
    labels = class_labels(build, ints, texts)
    transform = build.attribute("post_transform")
    per_class = build.attribute("vectors_per_class") or []
    x = build.cast(build.x, _FLOAT)
    rho = build.numbers("rho")
    if not per_class:
        matrix = build.numbers("coefficients").reshape(len(labels), -1).T
        product = build.call(
            "MatMul", x, build.constant(np.ascontiguousarray(matrix), "coefficients"), rank=2
        )
        scores = build.call("Add", product, build.constant(rho[:1], "rho"), rank=2)
        label = label_of(build, greatest(build, scores), labels)
        build.replace(label, transformed(build, scores, transform))
        return
    classes = len(per_class)
    vectors = build.numbers("support_vectors").reshape(sum(per_class), -1)
    weights = _pair_weights(build.numbers("coefficients").reshape(classes - 1, -1), per_class)
    product = build.call(
        "MatMul", _kernels(build, x, vectors), build.constant(weights, "coefficients"), rank=2
    )
    decisions = build.call("Add", product, build.constant(rho, "rho"), rank=2)
    label = label_of(build, greatest(build, _votes(build, decisions, classes)), labels)
    slopes = build.numbers("prob_a")
    if slopes.size:
        scores = build.call(
            "CoupledProbabilities",
            decisions,
            build.constant(slopes, "prob_a"),
            build.constant(build.numbers("prob_b"), "prob_b"),
            domain=OWN,
            classes=classes,
        )
        build.replace(label, transformed(build, scores, transform))
        return
    if classes == 2:
        if transform not in ("NONE", "LOGISTIC"):
            raise build.fault(f"{transform} of the decision values of two classes is not specified")
        decisions = beside(build, build.call("Neg", decisions), decisions)
    build.replace(label, transformed(build, decisions, transform))


def _kernels(build: Builder, x: ir.Value, vectors: Array) -> ir.Value:
    """The kernel of each row of x with each support vector: (N, vectors)."""
    dots = build.call("MatMul", x, build.constant(np.ascontiguousarray(vectors.T), "support_vectors"), rank=2)
    kind = build.attribute("kernel_type")
    if kind != "RBF":
        return _kernel_of_dots(build, dots)
    gamma = float(build.numbers("kernel_params")[0])
    own = build.call("ReduceSumSquare", x, build.constant(np.asarray([1]), "axis"), keepdims=1)
    sums = build.call(
        "Add", own, build.constant(np.asarray(np.sum(vectors * vectors, 1), np.float32), "squares"), rank=2
    )
    twice = build.call("Mul", dots, build.constant(np.asarray(2, np.float32), "two"))
    distances = build.call("Sub", sums, twice)
    scale = build.constant(np.asarray(-gamma, np.float32), "gamma")
    return build.call("Exp", build.call("Mul", distances, scale))


def _kernel_of_dots(build: Builder, dots: ir.Value) -> ir.Value:
    kind = build.attribute("kernel_type")
    if kind == "LINEAR":
        return dots
    gamma, shift, degree = (np.asarray(each, np.float32) for each in build.attribute("kernel_params")[:3])
    scaled = build.call("Mul", dots, build.constant(gamma, "gamma"))
    moved = build.call("Add", scaled, build.constant(shift, "coef0"))
    if kind == "POLY":
        return build.call("Pow", moved, build.constant(degree, "degree"))
    if kind == "SIGMOID":
        return build.call("Tanh", moved)
    raise build.fault(f"the kernel {kind!r} is unknown")


def _pair_weights(coefficients: Array, per_class: list[int]) -> Array:
    """What each support vector weighs in the decision of each pair of classes: (vectors, pairs).

    libsvm keeps, for the vectors of class i, a row of coefficients for every other class.
    """
    starts = np.cumsum([0, *per_class])
    pairs = list(itertools.combinations(range(len(per_class)), 2))
    weights = np.zeros((starts[-1], len(pairs)), np.float32)
    for column, (i, j) in enumerate(pairs):
        first, second = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[first, column] = coefficients[j - 1, first]
        weights[second, column] = coefficients[i, second]
    return weights


def _votes(build: Builder, decisions: ir.Value, classes: int) -> ir.Value:
    """How many pairs each class wins: the first of a pair where the decision value is positive."""
    pairs = list(itertools.combinations(range(classes), 2))
    wins, losses = (np.zeros((len(pairs), classes), np.float32) for _ in range(2))
    for row, (i, j) in enumerate(pairs):
        wins[row, i], losses[row, j] = 1, 1
    zero = build.constant(np.asarray(0, np.float32), "zero")
    positive = build.cast(build.call("Greater", decisions, zero), _FLOAT)
    change = build.call("MatMul", positive, build.constant(wins - losses, "wins"), rank=2)
    return build.call("Add", change, build.constant(np.asarray(losses.sum(0)), "losses"), rank=2)
