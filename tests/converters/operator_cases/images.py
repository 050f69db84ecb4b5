"""Cases of resizing and of moving between depth and space."""

import io

import numpy as np
from PIL import Image

from operator_cases.case import case, draw, ints

CASES = [
    case("DepthToSpace", draw(2, 8, 3, 4), blocksize=2),
    case("DepthToSpace", draw(2, 18, 2, 2), blocksize=3),
    case("DepthToSpace", draw(2, 8, 3, 4), blocksize=2, mode="CRD"),
    case("DepthToSpace", draw(1, 8, 2, 2, dtype=np.float64), blocksize=2),
    case("SpaceToDepth", draw(2, 3, 4, 6), blocksize=2),
    case("SpaceToDepth", draw(2, 2, 6, 3), blocksize=3),
    case("SpaceToDepth", draw(2, 3, 4, 6), blocksize=2, mode="CRD", opset=28, oracle="reference"),
    case("SpaceToDepth", draw(2, 3, 4, 6), blocksize=2, mode="DCR", opset=28, oracle="reference"),
]

_NONE = np.zeros(0, np.float32)


def _scaled(
    *scales, x=(1, 2, 4, 5), roi=None, dtype=np.float32, computed=False, oracle="onnxruntime", **attributes
):
    label = f"{x}-by{scales}-{attributes}-{np.dtype(dtype)}".replace(" ", "")
    scales = np.array(scales, np.float32)
    x = _data(x, dtype)
    return case("Resize", x, roi, scales, label=label, computed=computed, oracle=oracle, **attributes)


def _sized(*sizes, x=(1, 2, 4, 5), dtype=np.float32, computed=False, **attributes):
    label = f"{x}-to{sizes}-{attributes}-{np.dtype(dtype)}".replace(" ", "")
    return case(
        "Resize", _data(x, dtype), None, None, ints(*sizes), label=label, computed=computed, **attributes
    )


def _data(shape, dtype):
    whole = np.dtype(dtype).kind in "iu"
    return draw(*shape, dtype=dtype, low=-100, high=100) if whole else draw(*shape, dtype=dtype)


CASES += [
    each
    for transformation in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
    for each in (
        *(
            size
            for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
            for size in (
                _scaled(1, 1, 2, 2, coordinate_transformation_mode=transformation, nearest_mode=rounding),
                _sized(1, 2, 7, 3, coordinate_transformation_mode=transformation, nearest_mode=rounding),
            )
        ),
        *(
            size
            for mode in ("linear", "cubic")
            for size in (
                _scaled(1, 1, 2, 3, coordinate_transformation_mode=transformation, mode=mode),
                _scaled(1, 1, 0.8, 0.6, coordinate_transformation_mode=transformation, mode=mode),
                _sized(1, 2, 9, 3, coordinate_transformation_mode=transformation, mode=mode),
                _sized(1, 2, 1, 1, coordinate_transformation_mode=transformation, mode=mode),
                _sized(7, 8, axes=(2, 3), coordinate_transformation_mode=transformation, mode=mode),
            )
        ),
    )
]
CASES += [
    _scaled(1, 1, 2, 2, mode="cubic", cubic_coeff_a=-0.5),
    _scaled(1, 1, 2, 2, mode="cubic", exclude_outside=1),
    _scaled(1, 1, 0.8, 0.8, mode="cubic", exclude_outside=1),
    _scaled(
        1, 1, 0.6, 0.6, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", x=(1, 1, 9, 9)
    ),
    _scaled(2, 2, axes=(2, 3), coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    _scaled(3, axes=(-1,), mode="linear", x=(2, 3, 5)),
    _scaled(1, 1, 2, x=(2, 3, 5)),
    _scaled(1, 1, 2, x=(2, 3, 5), mode="linear"),
    _scaled(1, 1, 2, 2, 2, x=(1, 2, 3, 3, 3)),
    _scaled(1, 1, 2, 2, 2, x=(1, 2, 3, 3, 3), mode="linear"),
    _scaled(
        1, 1, 1 / 3, 1 / 3, x=(1, 1, 9, 9), coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    ),
    _sized(1, 2, 8, 9, dtype=np.int32),
    _sized(8, 6, axes=(2, 3), keep_aspect_ratio_policy="not_larger", mode="linear"),
    _sized(8, 6, axes=(2, 3), keep_aspect_ratio_policy="not_smaller"),
    _scaled(1, 1, 0.6, 0.6, mode="linear", antialias=1, x=(1, 2, 9, 8)),
    _scaled(1, 1, 0.6, 0.6, mode="cubic", antialias=1, x=(1, 2, 9, 8)),
    _scaled(1, 1, 2, 2, mode="linear", antialias=1),
    _sized(5, 3, axes=(2, 3), mode="linear", antialias=1, x=(1, 2, 9, 8)),
]
CASES += [
    _scaled(1, 1, 0.6, 0.6, mode="linear", antialias=1, exclude_outside=1, x=(1, 2, 9, 8)),
    _scaled(1, 1, 0.6, 0.6, mode="cubic", antialias=1, exclude_outside=1, x=(1, 2, 9, 8)),
]
CASES += [
    case(
        "Resize",
        draw(1, 2, 4, 5),
        np.array([0, 0, 0.3, 0.6, 1, 1, 0.9, 1.5], np.float32),
        None,
        ints(1, 2, 3, 4),
        label=f"crop-{mode}",
        mode=mode,
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
    )
    for mode in ("nearest", "linear")
]
CASES += [
    _scaled(1, 1, 2, 3, mode="linear", computed=True),
    _scaled(1, 1, 0.6, 0.7, mode="cubic", x=(1, 2, 9, 8), computed=True),
    _scaled(1, 1, 0.6, 0.6, mode="linear", antialias=1, exclude_outside=1, x=(1, 2, 9, 8), computed=True),
    _scaled(1, 1, 2, 0.5, computed=True),
    _sized(1, 2, 7, 3, mode="linear", computed=True),
    _sized(8, 6, axes=(2, 3), keep_aspect_ratio_policy="not_larger", mode="linear", computed=True),
    _sized(8, 6, axes=(3, 2), keep_aspect_ratio_policy="not_smaller", computed=True),
    _scaled(2, 3, mode="linear", x=(3, 4)),
    _scaled(2, 1.5, x=(4, 6), computed=True),
    _scaled(2.5, mode="linear", x=(4,)),
    _scaled(2, 3, 1, 1),
    _sized(2, 4, 4, 5, mode="linear", coordinate_transformation_mode="asymmetric"),
    _scaled(1, 2, 1, 2, mode="cubic", oracle="reference"),
    _scaled(1, 1, 2, 2, dtype=np.float16, mode="linear", coordinate_transformation_mode="asymmetric"),
    _scaled(1, 1, 2, 2, dtype=np.float64, mode="cubic", oracle="reference"),
    case(
        "Resize",
        draw(1, 2, 3, 4, dtype=np.bool_),
        None,
        np.array([1, 1, 2, 2], np.float32),
        label="bool",
        expected=(draw(1, 2, 3, 4, dtype=np.bool_).repeat(2, 2).repeat(2, 3),),
    ),
    _scaled(1, 1, 2, 2, dtype=np.uint16, oracle="reference"),
    _scaled(1, 1, 2, 2, nearest_mode="round_prefer_ceil"),
    _sized(5, 3, axes=(2, 3), mode="linear", antialias=1, exclude_outside=1, x=(1, 2, 9, 8)),
    _sized(
        5, 3, axes=(2, 3), mode="cubic", antialias=1, exclude_outside=1, cubic_coeff_a=-0.5, x=(1, 2, 9, 8)
    ),
]
CASES += [
    _scaled(1, 1, 1.5, 0.6, dtype=dtype, mode=mode, x=(1, 2, 6, 8), oracle="reference")
    for dtype in (np.uint8, np.int8, np.int64)
    for mode in ("linear", "cubic")
]
"""Runtimes truncate integers or have no kernel for them; the reference rounds them half to even."""

CASES += [
    case(
        "Resize",
        draw(1, 2, 4, 5),
        np.array([0.2, 0.6, 0.9, 1.5], np.float32),
        None,
        ints(3, sizes),
        label=f"crop-axes-to{sizes}",
        mode="linear",
        axes=(2, 3),
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=7.0,
        computed=computed,
    )
    for sizes in (1, 4)
    for computed in (False, True)
]


def _decoded(file_format, pixel_format, *shape):
    rows, columns, colours = np.indices((*shape, 3))
    pixels = ((rows * 7 + columns * 9 + colours * 50) % 256).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, file_format)
    encoded = np.frombuffer(file.getvalue(), np.uint8)
    label = f"{file_format}-{pixel_format}"
    return case("ImageDecoder", encoded, label=label, pixel_format=pixel_format, oracle="reference")


DECODING = [
    _decoded(file_format, pixel_format, 20, 13)
    for file_format in ("jpeg", "png", "bmp", "webp", "ppm")
    for pixel_format in ("RGB", "BGR", "Grayscale")
]
