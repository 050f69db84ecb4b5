"""Normalisation over the last axis or over groups of channels, with what onnxruntime fuses around it."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.contrib.activations import swish
from bridge.passes.contrib.builder import Builder, InexpressibleError, expansion


@expansion("SkipLayerNormalization")
def skip_layer_normalization(op: Builder) -> None:
    """LayerNormalization of input + skip + bias; the last output is that sum."""
    total = _sum(op, op[0], op[1], op.input(4))
    outputs = op.several(
        "LayerNormalization",
        3 if op.reads(1) or op.reads(2) else 1,
        total,
        op[2],
        op.input(3),
        epsilon=op.attribute("epsilon"),
    )
    op.give(*outputs, *[None] * (3 - len(outputs)), total)


@expansion("SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(op: Builder) -> None:
    """RMSNormalization of input + skip + bias; the last output is that sum."""
    total = _sum(op, op[0], op[1], op.input(3))
    y = op("RMSNormalization", total, op[2], epsilon=op.attribute("epsilon"))
    op.give(y, None, None, total)


@expansion("EmbedLayerNormalization")
def embed_layer_normalization(op: Builder) -> None:
    """LayerNormalization of the sum of the embeddings of words, positions and segments.

    The second output counts the elements of the mask for each sample, the third is the sum.
    """
    ids, segments, words, places = op[0], op.input(1), op[2], op[3]
    positions = op.input(8)
    if positions is None:
        positions = op("Unsqueeze", op.positions(op.length(ids, 1)), op.integers(0))
    total = op("Add", op("Gather", words, ids), op("Gather", places, positions))
    if segments is not None:
        total = op("Add", total, op("Gather", op[4], segments))
    y = op("LayerNormalization", total, op[5], op[6], epsilon=op.attribute("epsilon"))
    op.give(y, _mask_index(op, ids) if op.reads(1) else None, total)


def _mask_index(op: Builder, ids: ir.Value) -> ir.Value:
    mask = op.input(7)
    if mask is not None:
        return op("ReduceSum", mask, op.integers(1), keepdims=0)
    return op("Cast", op("ReduceSum", op("Sub", ids, ids), op.integers(1), keepdims=0), to=ir.DataType.INT32)


@expansion("GroupNorm")
def group_norm(op: Builder) -> None:
    """GroupNormalization, of channels in the last axis by default, and SiLU after it if asked for."""
    op.give(_groups(op, op[0]))


@expansion("SkipGroupNorm")
def skip_group_norm(op: Builder) -> None:
    """GroupNorm of X + skip + bias; the second output is that sum."""
    skip, rank = op[3], op.rank(op[0])
    if op.rank(skip) == 2 and rank > 2:
        if not op.attribute("channels_last"):
            raise InexpressibleError("its skip has no spatial axes, and channels come first")
        skip = op("Unsqueeze", skip, op.integers(*range(1, rank - 1)))
    total = _sum(op, op[0], skip, op.input(4))
    op.give(_groups(op, total), total)


def _groups(op: Builder, x: ir.Value) -> ir.Value:
    rank, last = op.rank(op[0]), bool(op.attribute("channels_last"))
    if op[1].dtype != op[0].dtype:
        raise InexpressibleError("its scale has another element type than its data")
    first = op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)]) if last else x
    y = op(
        "GroupNormalization",
        first,
        op[1],
        op[2],
        epsilon=op.attribute("epsilon"),
        num_groups=op.attribute("groups"),
    )
    y = op("Transpose", y, perm=[0, *range(2, rank), 1]) if last else y
    return swish(op, y) if op.attribute("activation") else y


def _sum(op: Builder, first: ir.Value, second: ir.Value, third: ir.Value | None) -> ir.Value:
    total = op("Add", first, second)
    return total if third is None else op("Add", total, third)
