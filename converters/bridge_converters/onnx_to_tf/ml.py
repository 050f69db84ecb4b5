"""Classical machine learning, in the form that `bridge.passes.classical` gives it."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering


@lowering("TreeEnsemble", domain="bridge")
def tree_ensemble(
    x: tf.Tensor,
    roots: tf.Tensor,
    features: tf.Tensor,
    splits: tf.Tensor,
    true_nodes: tf.Tensor,
    false_nodes: tf.Tensor,
    weights: tf.Tensor,
    accepts: tf.Tensor | None = None,
    missing_is_true: tf.Tensor | None = None,
    *,
    depth: int,
    aggregate: str = "SUM",
    comparison: str = "BRANCH_LEQ",
) -> tf.Tensor:
    """The weights at the leaves that the rows of x reach in all trees: the sum, mean, least or greatest.

    All rows walk down all trees at once. Nodes are numbered over all trees, leaves first; a leaf leads to
    itself. `accepts` says for each node whether a feature that is less than, equal to, or greater than the
    split takes the true branch, where not all nodes make the same comparison.
    """
    node = tf.tile(roots[tf.newaxis], (tf.shape(x)[0], 1))
    for _ in range(depth):
        value, split = tf.gather(x, tf.gather(features, node), axis=1, batch_dims=1), tf.gather(splits, node)
        if accepts is not None:
            order = tf.where(value < split, 0, tf.where(value > split, 2, 1))
            goes = tf.gather(tf.gather(accepts, node), order, batch_dims=2) & ~tf.math.is_nan(value)
        else:
            goes = value < split if comparison == "BRANCH_LT" else value <= split
        if missing_is_true is not None:
            goes = goes | (tf.gather(missing_is_true, node) & tf.math.is_nan(value))
        node = tf.where(goes, tf.gather(true_nodes, node), tf.gather(false_nodes, node))
    found = tf.gather(weights, node)
    if aggregate == "SUM":
        return tf.reduce_sum(found, 1)
    if aggregate == "AVERAGE":
        return tf.reduce_mean(found, 1)
    return tf.reduce_min(found, 1) if aggregate == "MIN" else tf.reduce_max(found, 1)


@lowering("LookUp", domain="bridge")
def look_up(x: tf.Tensor, keys: tf.Tensor, values: tf.Tensor, default: tf.Tensor) -> tf.Tensor:
    """The value that belongs to the key (of ascending ones) that each element equals, or the default."""
    if x.dtype == tf.string:
        hashes = tf.strings.to_hash_bucket_fast(keys, 2**62)
        order = tf.argsort(hashes)
        wanted = tf.reshape(tf.strings.to_hash_bucket_fast(x, 2**62), (-1,))
        place = tf.minimum(tf.searchsorted(tf.gather(hashes, order), wanted), tf.size(keys) - 1)
        place = tf.reshape(tf.gather(order, place), tf.shape(x))
        return tf.where(tf.gather(keys, place) == x, tf.gather(values, place), default)
    place = tf.reshape(tf.searchsorted(keys, tf.reshape(x, (-1,))), tf.shape(x))
    place = tf.minimum(place, tf.size(keys) - 1)
    return tf.where(tf.gather(keys, place) == x, tf.gather(values, place), default)


@lowering("SoftmaxZero", domain="bridge")
def softmax_zero(x: tf.Tensor) -> tf.Tensor:
    """Softmax over the elements of each row that are not zero; zeros stay."""
    powers = tf.exp(x - tf.reduce_max(x, -1, keepdims=True))
    powers = tf.where(tf.abs(x) > 1e-7, powers, tf.zeros_like(x))
    return powers / tf.reduce_sum(powers, -1, keepdims=True)


@lowering("Probit", domain="bridge")
def probit(x: tf.Tensor) -> tf.Tensor:
    """The quantile function of the normal distribution."""
    return tf.math.ndtri(x)


@lowering("CoupledProbabilities", domain="bridge")
def coupled_probabilities(
    decisions: tf.Tensor, slopes: tf.Tensor, offsets: tf.Tensor, *, classes: int
) -> tf.Tensor:
    """Class probabilities from the decision values of all pairs of classes.

    Platt's sigmoids give the probability of each pair's first class; the iteration of libsvm, which ends
    early for a row that is close enough, gives those that fit them best (Wu, Lin and Weng 2004, method 2).
    """
    wins = tf.clip_by_value(tf.sigmoid(-(decisions * slopes + offsets)), 1e-7, 1 - 1e-7)
    places = [(i, j) for i in range(classes) for j in range(i + 1, classes)]
    columns = tf.unstack(wins, len(places), axis=1)
    empty = tf.zeros_like(columns[0])
    rows = [[empty] * classes for _ in range(classes)]
    for (i, j), won in zip(places, columns, strict=True):
        rows[i][j], rows[j][i] = won, 1 - won
    pairs = tf.stack([tf.stack(row, 1) for row in rows], 1)
    form = tf.linalg.diag(tf.reduce_sum(pairs * pairs, 1)) - pairs * tf.linalg.matrix_transpose(pairs)
    p = tf.fill(tf.shape(pairs[:, 0]), 1 / classes)
    for _ in range(100):
        slope = tf.linalg.matvec(form, p)
        value = tf.reduce_sum(p * slope, 1)
        active = tf.reduce_max(tf.abs(slope - value[:, tf.newaxis]), 1) >= 0.005 / classes
        for t in range(classes):
            step = tf.where(active, (value - slope[:, t]) / form[:, t, t], tf.zeros_like(value))
            p = (p + step[:, tf.newaxis] * tf.one_hot(t, classes)) / (1 + step)[:, tf.newaxis]
            value = (value + step * (step * form[:, t, t] + 2 * slope[:, t])) / (1 + step) ** 2
            slope = (slope + step[:, tf.newaxis] * form[:, t]) / (1 + step)[:, tf.newaxis]
    return p


@lowering("NgramCounts", domain="bridge")
def ngram_counts(
    tokens: tf.Tensor,
    ngrams: tf.Tensor,
    columns: tf.Tensor,
    *,
    shortest: int,
    longest: int,
    skips: int,
    base: int,
    width: int,
    at_most_one: int = 0,
) -> tf.Tensor:
    """How often each n-gram occurs in each row of tokens, whose steps may skip as many tokens each.

    Tokens count from 1, 0 is one that no n-gram has. `ngrams` are ascending; an n-gram is its tokens as
    digits to a base. Each counts in its column.
    """
    rows, size = tf.shape(tokens, tf.int64)[0], tf.shape(tokens)[1]
    padded = tf.pad(tokens, ((0, 0), (0, (longest - 1) * (skips + 1))))
    counts = tf.zeros((rows * width,))
    for length in range(shortest, longest + 1):
        for step in range(1, skips + 2 if length > 1 else 2):
            parts = [padded[:, i * step : i * step + size] for i in range(length)]
            code, known = tf.zeros_like(parts[0]), tf.ones_like(parts[0], tf.bool)
            for part in parts:
                code, known = code * base + part, known & (part > 0)
            place = tf.reshape(tf.searchsorted(ngrams, tf.reshape(code, (-1,))), tf.shape(code))
            place = tf.minimum(place, tf.size(ngrams) - 1)
            found = known & (tf.gather(ngrams, place) == code)
            cells = tf.range(rows)[:, tf.newaxis] * width + tf.gather(columns, place)
            counts += tf.math.unsorted_segment_sum(tf.cast(found, tf.float32), cells, rows * width)
    counts = tf.reshape(counts, (rows, width))
    return tf.minimum(counts, 1.0) if at_most_one else counts
