"""Images of (N, H, W, C): moving between depth and space."""

from __future__ import annotations

import tensorflow as tf

from bridge_converters.onnx_to_tf._spatial import sizes_of
from bridge_converters.onnx_to_tf._table import lowering


@lowering("DepthToSpace", layout="channels_last")
def depth_to_space(x: tf.Tensor, *, blocksize: int, mode: str = "DCR") -> tf.Tensor:
    """Blocks of channels moved into space; in DCR the block is the outer part of the channel index."""
    if mode == "DCR":
        return tf.nn.depth_to_space(x, blocksize)
    n, h, w, c = sizes_of(x)
    block = blocksize * blocksize
    inner = tf.reshape(x, (n, h, w, c // block, block))
    return tf.nn.depth_to_space(tf.reshape(tf.transpose(inner, (0, 1, 2, 4, 3)), (n, h, w, c)), blocksize)


@lowering("SpaceToDepth", layout="channels_last")
def space_to_depth(x: tf.Tensor, *, blocksize: int, mode: str = "DCR") -> tf.Tensor:
    """Blocks of space moved into channels: the outer part of the channel index (DCR) or the inner (CRD)."""
    if mode == "DCR":
        return tf.nn.space_to_depth(x, blocksize)
    n, h, w, c = sizes_of(x)
    blocks = tf.reshape(x, (n, h // blocksize, blocksize, w // blocksize, blocksize, c))
    moved = tf.transpose(blocks, (0, 1, 3, 5, 2, 4))
    return tf.reshape(moved, (n, h // blocksize, w // blocksize, c * blocksize**2))
