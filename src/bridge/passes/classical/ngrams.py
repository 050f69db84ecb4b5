"""Counts of n-grams (`TfIdfVectorizer`)."""

from __future__ import annotations

import itertools

import numpy as np
import onnx_ir as ir

from bridge.passes.classical.builder import OWN, Builder

_INT64 = ir.DataType.INT64


def tf_idf_vectorizer(build: Builder) -> None:
    """How often each n-gram of a pool occurs in each row of tokens, or whether, times its weight.

    Tokens become their numbers in a vocabulary, and an n-gram one number, its tokens' numbers from 1 as
    digits to the base of the vocabulary's size + 1.
    """
    text = build.attribute("pool_strings")
    pool = np.asarray(text or build.attribute("pool_int64s") or [], object if text else np.int64)
    starts = [*build.attribute("ngram_counts"), len(pool)]
    columns = np.asarray(build.attribute("ngram_indexes"), np.int64)
    vocabulary, numbers = np.unique(pool, return_inverse=True)
    base = len(vocabulary) + 1
    if base ** len(starts) >= 2**63:
        raise build.fault("its vocabulary is too large for n-grams of this length")
    codes = [
        sum((int(token) + 1) * base ** (length - 1 - i) for i, token in enumerate(gram))
        for length, (start, end) in enumerate(itertools.pairwise(starts), 1)
        for gram in numbers[start:end].reshape(-1, length)
    ]
    if len(codes) != len(columns):
        raise build.fault(f"its pool has {len(codes)} n-grams and {len(columns)} columns")
    order = np.argsort(codes)
    x, rank = build.x, None if build.x.shape is None else len(build.x.shape)
    axis = build.constant(np.asarray([0]), "axis")
    if rank == 1:
        x = build.call("Unsqueeze", x, axis, rank=2)
    tokens = x if text else build.cast(x, _INT64)
    found = build.call(
        "LookUp",
        tokens,
        build.constant(vocabulary, "vocabulary"),
        build.constant(np.arange(1, base), "numbers"),
        build.constant(np.asarray(0, np.int64), "unknown"),
        dtype=_INT64,
        domain=OWN,
    )
    mode = build.attribute("mode")
    width = int(columns.max(initial=-1)) + 1
    counts = build.call(
        "NgramCounts",
        found,
        build.constant(np.asarray(codes, np.int64)[order], "ngrams"),
        build.constant(columns[order], "columns"),
        dtype=ir.DataType.FLOAT,
        rank=2,
        domain=OWN,
        shortest=build.attribute("min_gram_length"),
        longest=build.attribute("max_gram_length"),
        skips=build.attribute("max_skip_count"),
        base=base,
        width=width,
        at_most_one=int(mode == "IDF"),
    )
    listed = build.attribute("weights")
    if mode != "TF" and listed:
        weights = np.ones(width, np.float32)
        weights[columns] = listed
        counts = build.call("Mul", counts, build.constant(weights, "weights"))
    build.replace(build.call("Squeeze", counts, axis, rank=1) if rank == 1 else counts)
