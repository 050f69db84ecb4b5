"""Ensembles of decision trees as arrays over all their nodes.

Leaves are numbered first, so that the node at which a row ends is its row in the table of weights, and
lead to themselves, so that all rows and trees walk down for as many steps as the deepest tree needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from bridge.hub.recipe import Array
from bridge.passes.classical.builder import OWN, Builder
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
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_ACCEPTED = {
    "BRANCH_LEQ": (True, True, False),
    "BRANCH_LT": (True, False, False),
    "BRANCH_GTE": (False, True, True),
    "BRANCH_GT": (False, False, True),
    "BRANCH_EQ": (False, True, False),
    "BRANCH_NEQ": (True, False, True),
}
"""Whether a mode takes the true branch where the feature is less than, equal to, greater than the split."""


@dataclass
class Branches:
    """The inner nodes of all trees: children are numbers of inner nodes, or -1 - number for leaves."""

    features: Array
    splits: Array
    modes: list[str]
    true: Array
    false: Array
    missing_is_true: Array
    roots: Array


def tree_ensemble_regressor(build: Builder) -> None:
    """The sum, mean, least or greatest of the weights at the leaves that a row reaches."""
    targets = build.attribute("n_targets")
    refuse_single(build, targets)
    branches, weights = _listed(build, "target", targets)
    scores = _scores(build, branches, weights, build.attribute("aggregate_function"))
    scores = _plus(build, scores, build.numbers("base_values", scores.dtype.numpy()))  # type: ignore[union-attr]
    build.replace(build.cast(transformed(build, scores, build.attribute("post_transform")), _FLOAT))


def tree_ensemble_classifier(build: Builder) -> None:
    """The class with the greatest sum of weights at the leaves that a row reaches, and these sums.

    Two labels of which only one has weights: what the score of the other is, the standard does not say;
    it is as in onnxruntime, which tells by the signs of the weights whether scores are probabilities.
    """
    labels = class_labels(build, "classlabels_int64s", "classlabels_strings")
    used = {int(each) for each in build.numbers("class_ids", np.int64)}
    transform = build.attribute("post_transform")
    branches, weights = _listed(build, "class", len(labels))
    base = build.numbers("base_values", weights.dtype)
    if len(labels) == 2 and len(used) == 1:
        _binary(build, branches, weights, labels, used.pop(), base)
        return
    scores = _plus(build, _scores(build, branches, weights, "SUM"), base)
    label = label_of(build, greatest(build, scores), labels)
    build.replace(label, build.cast(transformed(build, scores, transform), _FLOAT))


def _binary(
    build: Builder, branches: Branches, weights: Array, labels: Array, column: int, base: Array
) -> None:
    transform = build.attribute("post_transform")
    if transform == "PROBIT" or len(base) > 1 or (len(base) and column == 1):
        raise build.fault("these base_values or this post_transform of a single class are not specified")
    score = _plus(build, _scores(build, branches, weights[:, column : column + 1], "SUM"), base)
    positive = not np.any(weights < 0)
    label = label_of(build, exceeds(build, score, 0.5 if positive else 0.0), labels)
    zero, one = (build.constant(np.asarray(each, weights.dtype), "number") for each in (0, 1))
    if column == 1:
        both = beside(build, build.call("Mul", score, zero), score)
        build.replace(label, build.cast(transformed(build, both, transform), _FLOAT))
        return
    if positive and transform != "LOGISTIC":
        other = build.call("Sub", one, score, rank=2)
    else:
        other = build.call("Neg", score)
    both = beside(build, other, score)
    if transform == "LOGISTIC":
        both = build.call("Sigmoid", both)
    build.replace(label, build.cast(both, _FLOAT))


def tree_ensemble(build: Builder) -> None:
    """The form of version 5: inner nodes and leaves apart, tests of membership."""
    dtype = build.input_type().numpy()
    targets = build.attribute("n_targets")
    transform = _TRANSFORMS[build.attribute("post_transform")]
    if targets == 1 and transform not in ("NONE", "PROBIT"):
        raise build.fault(f"{transform} of a single target means nothing or is left out by onnxruntime")
    leaf_weights = np.asarray(build.attribute("leaf_weights"), dtype)
    leaf_targets = build.numbers("leaf_targetids", np.int64)
    weights = np.full((len(leaf_weights), targets), np.nan, dtype)
    weights[np.arange(len(leaf_weights)), leaf_targets] = leaf_weights
    codes = [int(each) for each in np.asarray(build.attribute("nodes_modes"))]
    missing = build.numbers("nodes_missing_value_tracks_true", np.int64)
    children = []
    for side in ("true", "false"):
        numbers = build.numbers(f"nodes_{side}nodeids", np.int64)
        leaf = build.numbers(f"nodes_{side}leafs", np.int64).astype(bool)
        children.append(np.where(leaf, -1 - numbers, numbers))
    branches = Branches(
        build.numbers("nodes_featureids", np.int64),
        np.asarray(build.attribute("nodes_splits"), dtype),
        ["BRANCH_MEMBER" if each == 6 else _MODES[each] for each in codes],
        children[0],
        children[1],
        missing.astype(bool) if missing.size else np.zeros(len(codes), bool),
        build.numbers("tree_roots", np.int64),
    )
    members = build.attribute("membership_values")
    _expand_members(build, branches, np.asarray([] if members is None else members, dtype))
    aggregate = _AGGREGATES[build.attribute("aggregate_function")]
    scores = _scores(build, branches, weights, aggregate)
    build.replace(transformed(build, scores, transform))


def _expand_members(build: Builder, branches: Branches, members: Array) -> None:
    """Replace a test of membership by tests of equality, one after the other; NaN ends each set."""
    sets: list[list[float]] = [[]]
    for each in members:
        if np.isnan(each):
            sets.append([])
        else:
            sets[-1].append(each)
    places = [i for i, mode in enumerate(branches.modes) if mode == "BRANCH_MEMBER"]
    if len(places) > len(sets):
        raise build.fault("there are fewer sets of members than nodes that test for them")
    for place, values in zip(places, sets, strict=False):
        branches.modes[place] = "BRANCH_EQ"
        branches.splits[place] = values[0] if values else np.nan
        last = place
        for value in values[1:]:
            new = len(branches.modes)
            branches.modes.append("BRANCH_EQ")
            branches.splits = np.append(branches.splits, value).astype(branches.splits.dtype)
            branches.features = np.append(branches.features, branches.features[place])
            branches.missing_is_true = np.append(branches.missing_is_true, branches.missing_is_true[place])
            branches.true = np.append(branches.true, branches.true[place])
            branches.false = np.append(branches.false, branches.false[last])
            branches.false[last] = new
            last = new


def _listed(build: Builder, role: str, targets: int) -> tuple[Branches, Array]:
    """The trees of versions 1 and 3, whose nodes are rows of parallel lists."""
    double = build.input_type() == ir.DataType.DOUBLE
    dtype = np.dtype(np.float64 if double else np.float32)
    keys = list(zip(build.attribute("nodes_treeids"), build.attribute("nodes_nodeids"), strict=True))
    modes = build.attribute("nodes_modes")
    numbers: dict[tuple[int, int], int] = {}
    counts = {True: 0, False: 0}
    for key, mode in zip(keys, modes, strict=True):
        leaf = mode == "LEAF"
        numbers[key] = -1 - counts[True] if leaf else counts[False]
        counts[leaf] += 1
    inner = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    sides = []
    reached: set[tuple[int, int]] = set()
    for side in ("true", "false"):
        ids = build.attribute(f"nodes_{side}nodeids")
        targets_of = [(keys[i][0], ids[i]) for i in inner]
        reached.update(targets_of)
        if not all(each in numbers for each in targets_of):
            raise build.fault("a branch leads to a node that does not exist")
        sides.append(np.asarray([numbers[each] for each in targets_of], np.int64))
    missing = build.numbers("nodes_missing_value_tracks_true", np.int64).astype(bool)
    branches = Branches(
        build.numbers("nodes_featureids", np.int64)[inner],
        build.numbers("nodes_values", dtype)[inner],
        [modes[i] for i in inner],
        sides[0],
        sides[1],
        missing[inner] if missing.size else np.zeros(len(inner), bool),
        np.asarray([numbers[key] for key in keys if key not in reached], np.int64),
    )
    weights = np.full((counts[True], targets), np.nan, dtype)
    rows = zip(
        build.attribute(f"{role}_treeids"),
        build.attribute(f"{role}_nodeids"),
        build.attribute(f"{role}_ids"),
        build.numbers(f"{role}_weights", dtype),
        strict=True,
    )
    for tree, node, target, weight in rows:
        number = numbers.get((tree, node), 0)
        if number >= 0 or not 0 <= target < targets:
            raise build.fault("a weight belongs to no leaf or to no target")
        place = -1 - number, target
        weights[place] = weight if np.isnan(weights[place]) else weights[place] + weight
    return branches, weights


def _scores(build: Builder, branches: Branches, weights: Array, aggregate: str) -> ir.Value:
    """The aggregated weights of each row of X: (N, targets). NaN weights are none."""
    leaves = len(weights)
    yes, no = (_numbered(children, leaves) for children in (branches.true, branches.false))
    itself = np.arange(leaves)
    yes, no = np.concatenate([itself, yes]), np.concatenate([itself, no])
    roots = _numbered(branches.roots, leaves)
    steps = _depth(build, roots, yes, no, leaves)
    dtype = ir.DataType.from_numpy(weights.dtype)
    features = np.concatenate([np.zeros(leaves, np.int64), branches.features])
    splits = np.concatenate([np.zeros(leaves, weights.dtype), branches.splits])
    missing = np.asarray(
        [
            bool(flag) or mode == "BRANCH_NEQ"
            for flag, mode in zip(branches.missing_is_true, branches.modes, strict=True)
        ],
        bool,
    )
    kinds = set(branches.modes)
    comparison = kinds.pop() if len(kinds) == 1 else "BRANCH_LEQ" if not kinds else ""
    accepts = None
    if comparison not in ("BRANCH_LEQ", "BRANCH_LT"):
        comparison = ""
        table = np.asarray([_ACCEPTED[mode] for mode in branches.modes], bool)
        padding = np.zeros((leaves, 3), bool)
        accepts = build.constant(np.concatenate([padding, table]), "accepts")
    neutral = {"MIN": np.inf, "MAX": -np.inf}.get(aggregate, 0.0)
    value = build.call(
        "TreeEnsemble",
        build.cast(build.x, dtype),
        build.constant(roots, "roots"),
        build.constant(features, "features"),
        build.constant(splits, "splits"),
        build.constant(yes, "true_nodes"),
        build.constant(no, "false_nodes"),
        build.constant(np.where(np.isnan(weights), neutral, weights).astype(weights.dtype), "weights"),
        accepts,
        build.constant(np.concatenate([np.zeros(leaves, bool), missing]), "missing_is_true")
        if missing.any()
        else None,
        dtype=dtype,
        rank=2,
        domain=OWN,
        depth=steps,
        aggregate=aggregate,
        comparison=comparison,
    )
    if np.isfinite(neutral):
        return value
    zero = build.constant(np.asarray(0, weights.dtype), "zero")
    nothing = build.call("Equal", value, build.constant(np.asarray(neutral, weights.dtype), "neutral"))
    return build.call("Where", nothing, zero, value, dtype=dtype, rank=2)


def _numbered(children: Array, leaves: int) -> Array:
    """Numbers in which leaves come first, from those of inner nodes and -1 - number for leaves."""
    return np.where(children < 0, -1 - children, children + leaves).astype(np.int64)


def _depth(build: Builder, roots: Array, yes: Array, no: Array, leaves: int) -> int:
    """How many steps the deepest tree takes from its root to its leaves."""
    level, steps = np.unique(roots), 0
    while len(level := level[level >= leaves]):
        if steps > len(yes) or level.max() >= len(yes):
            raise build.fault("its branches do not form trees")
        level = np.unique(np.concatenate([yes[level], no[level]]))
        steps += 1
    return steps


def _plus(build: Builder, scores: ir.Value, base: Array) -> ir.Value:
    if not base.size:
        return scores
    return build.call("Add", scores, build.constant(base, "base_values"), rank=2)


TREES: dict[str, Callable[[Builder], None]] = {
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleClassifier": tree_ensemble_classifier,
    "TreeEnsembleRegressor": tree_ensemble_regressor,
}
