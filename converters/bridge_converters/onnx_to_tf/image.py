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


@lowering("ImageDecoder")
def image_decoder(x: tf.Tensor, *, pixel_format: str = "RGB") -> tf.Tensor:
    """The image (H, W, channels) in the bytes of a JPEG, PNG, BMP, WebP or binary PNM file.

    Raises InvalidArgumentError for files of other formats, such as TIFF and JPEG 2000.
    """
    characters = tf.constant([bytes([code]) for code in range(256)])
    file = tf.strings.reduce_join(tf.gather(characters, tf.cast(x, tf.int32)))
    magic = tf.strings.substr(file, 0, 2)
    rgb = tf.case(
        [
            (magic == b"\xff\xd8", lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE")),
            (magic == b"P6", lambda: portable_pixels(x, file)),
        ],
        default=lambda: tf.io.decode_image(file, 3, expand_animations=False),
    )
    rgb = tf.ensure_shape(rgb, (None, None, 3))
    if pixel_format == "BGR":
        return rgb[..., ::-1]
    if pixel_format == "RGB":
        return rgb
    luma = tf.reduce_sum(tf.cast(rgb, tf.int32) * [19595, 38470, 7471], -1, keepdims=True)
    return tf.cast((luma + 32768) // 65536, tf.uint8)


def portable_pixels(x: tf.Tensor, file: tf.Tensor) -> tf.Tensor:
    """The pixels of a binary PPM file of 8 bits per channel: the magic number, three numbers, the data."""
    width, height, largest = tf.unstack(tf.strings.to_number(tf.strings.split(file)[1:4], tf.int32), 3)
    tf.debugging.assert_equal(largest, 255)
    return tf.reshape(x[-3 * width * height :], (height, width, 3))
