"""Cases of pooling."""

import numpy as np

from operator_cases.case import case, draw, ints

_SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 5)}


def _pool(op, rank, sizes=None, outputs=1, dtype=np.float32, oracle="onnxruntime", **attributes):
    attributes.setdefault("kernel_shape", (3,) * rank)
    x = draw(2, 3, *(sizes or _SIZES[rank]), dtype=dtype)
    if dtype in (np.int8, np.uint8):
        x = draw(2, 3, *(sizes or _SIZES[rank]), dtype=dtype, low=-100, high=100)
    label = f"{rank}d-{np.dtype(dtype)}-{attributes}".replace(" ", "")
    return case(op, x, label=label, outputs=outputs, oracle=oracle, **attributes)


CASES = [
    each
    for op in ("MaxPool", "AveragePool", "LpPool")
    for rank in (1, 2, 3)
    for each in (
        _pool(op, rank),
        _pool(op, rank, kernel_shape=(2,) * rank, strides=(2,) * rank),
        _pool(op, rank, pads=(1,) * (2 * rank), strides=(2,) * rank),
        _pool(op, rank, pads=(0,) * rank + (1,) * rank, strides=(2,) * rank),
        _pool(op, rank, dilations=(2,) * rank),
        _pool(op, rank, auto_pad="SAME_UPPER", strides=(2,) * rank, kernel_shape=(4,) * rank),
        _pool(op, rank, auto_pad="SAME_LOWER", strides=(2,) * rank, kernel_shape=(4,) * rank),
        _pool(op, rank, auto_pad="VALID", strides=(2,) * rank),
    )
]
CASES += [
    each
    for op in ("MaxPool", "AveragePool")
    for each in (
        _pool(op, 1, ceil_mode=1, strides=(2,), kernel_shape=(2,)),
        _pool(op, 2, ceil_mode=1, strides=(2, 2), kernel_shape=(2, 2)),
        _pool(op, 2, ceil_mode=1, strides=(3, 3), pads=(1, 1, 1, 1)),
        _pool(op, 2, ceil_mode=1, strides=(3, 3), pads=(0, 1, 1, 0), sizes=(7, 8)),
        _pool(op, 2, ceil_mode=1, strides=(3, 2), kernel_shape=(2, 1), pads=(1, 0, 0, 0)),
        _pool(op, 3, ceil_mode=1, strides=(2, 2, 2)),
        _pool(op, 2, dilations=(2, 1), strides=(1, 2), pads=(1, 1, 1, 1)),
        _pool(op, 2, pads=(2, 2, 2, 2)),
        _pool(op, 2, dtype=np.float64),
        _pool(op, 3, dtype=np.float64),
        _pool(op, 2, dtype=np.float16),
    )
]
CASES += [
    _pool("AveragePool", 1, count_include_pad=1, pads=(1, 1)),
    _pool("AveragePool", 2, count_include_pad=1, pads=(1, 1, 1, 1)),
    _pool("AveragePool", 2, count_include_pad=1, pads=(0, 1, 1, 2), strides=(2, 2)),
    _pool("AveragePool", 2, count_include_pad=1, pads=(2, 2, 2, 2), dilations=(2, 2)),
    _pool("AveragePool", 3, count_include_pad=1, pads=(1,) * 6),
    _pool(
        "AveragePool", 2, count_include_pad=1, ceil_mode=1, pads=(1, 1, 1, 1), strides=(2, 2), sizes=(8, 8)
    ),
    _pool("AveragePool", 2, count_include_pad=1, auto_pad="SAME_UPPER", strides=(2, 2), oracle="reference"),
    _pool("LpPool", 2, p=1, pads=(1, 1, 1, 1)),
    _pool("LpPool", 2, p=3),
    _pool("MaxPool", 2, dtype=np.int8),
    _pool("MaxPool", 2, dtype=np.uint8, pads=(1, 1, 1, 1)),
    _pool("MaxPool", 1, outputs=2),
    _pool("MaxPool", 2, outputs=2),
    _pool("MaxPool", 2, outputs=2, pads=(1, 0, 0, 1), strides=(2, 2)),
    _pool("MaxPool", 2, outputs=2, storage_order=1, pads=(1, 1, 1, 1)),
    _pool("MaxPool", 3, outputs=2, strides=(2, 2, 2)),
    _pool("MaxPool", 2, outputs=2, dilations=(2, 2)),
    _pool("MaxPool", 2, outputs=2, ceil_mode=1, strides=(2, 2), kernel_shape=(2, 2)),
    case("MaxPool", np.zeros((1, 1, 4, 4), np.float32), label="ties", outputs=2, kernel_shape=(2, 2)),
    case(
        "MaxPool", np.full((1, 1, 3, 3), -9, np.float32), label="negative", kernel_shape=(3, 3), pads=(1,) * 4
    ),
]
CASES += [
    case(op, draw(2, 3, *_SIZES[rank]), label=f"{rank}d", opset=21)
    for op in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    for rank in (1, 2, 3)
]
CASES += [
    case("GlobalLpPool", draw(2, 3, 4, 5), p=1, opset=21),
    case("GlobalAveragePool", draw(2, 3, 4, 5, dtype=np.float64)),
]


def _unpooled(label, sizes, output_shape=None, **attributes):
    """The maxima of an image and their places, put back."""
    pooled, places = _pool("MaxPool", len(sizes), sizes, outputs=2, **attributes).answer()
    return case(
        "MaxUnpool", pooled, places, None if output_shape is None else ints(*output_shape), label=label,
        opset=21, **attributes,
    )  # fmt: skip


CASES += [
    _unpooled("plain", (4, 6), kernel_shape=(2, 2), strides=(2, 2)),
    _unpooled("overlapping", (5, 5), kernel_shape=(3, 3), strides=(1, 1)),
    _unpooled("shape", (5, 7), (2, 3, 5, 7), kernel_shape=(2, 2), strides=(2, 2)),
    _unpooled("pads", (4, 4), kernel_shape=(2, 2), strides=(2, 2), pads=(1, 1, 1, 1)),
    _unpooled("1d", (6,), kernel_shape=(2,), strides=(2,)),
    _unpooled("3d", (4, 2, 6), kernel_shape=(2, 2, 2), strides=(2, 2, 2)),
]
CASES += [
    _pool(op, rank, sizes=sizes, ceil_mode=1, oracle="reference", **attributes)
    for op in ("MaxPool", "AveragePool", "LpPool")
    for rank, sizes, attributes in (
        (2, (2, 2), {"pads": (1, 1, 1, 1), "strides": (3, 3)}),
        (2, (7, 6), {"pads": (1, 0, 2, 2), "strides": (3, 2)}),
        (1, (8,), {"pads": (1, 2), "strides": (3,), "dilations": (2,)}),
    )
]
CASES += [
    _pool(
        "AveragePool", rank, sizes=sizes, ceil_mode=1, count_include_pad=1, oracle="reference", **attributes
    )
    for rank, sizes, attributes in (
        (2, (2, 2), {"pads": (1, 1, 1, 1), "strides": (3, 3)}),
        (2, (7, 6), {"pads": (1, 0, 2, 2), "strides": (3, 2)}),
        (1, (8,), {"pads": (1, 2), "strides": (3,), "dilations": (2,)}),
        (3, (4, 5, 3), {"pads": (1, 0, 1, 0, 1, 1), "strides": (2, 2, 2)}),
    )
]
