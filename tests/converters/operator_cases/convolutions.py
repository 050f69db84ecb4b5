"""Cases of Conv and ConvTranspose."""

import numpy as np

from operator_cases.case import case, draw, ints

_SIZES = {1: (11,), 2: (9, 8), 3: (5, 6, 5)}


def _conv(
    rank, inputs=4, outputs=6, group=1, kernel=3, bias=True, sizes=None, dtype=np.float32, **attributes
):
    x = draw(2, inputs, *(sizes or _SIZES[rank]), dtype=dtype)
    kernel = (kernel,) * rank if isinstance(kernel, int) else kernel
    w = draw(outputs, inputs // group, *kernel, dtype=dtype, low=-1, high=1)
    b = (draw(outputs, dtype=dtype),) if bias else ()
    if group > 1:
        attributes["group"] = group
    label = f"{rank}d-{dtype.__name__}-k{kernel}-{inputs}to{outputs}{'-bias' if bias else ''}-{attributes}"
    return case("Conv", x, w, *b, label=label.replace(" ", ""), **attributes)


def _transposed(
    rank, inputs=4, outputs=6, group=1, kernel=3, bias=True, sizes=None, oracle="onnxruntime", **attributes
):
    x = draw(2, inputs, *(sizes or tuple(n // 2 for n in _SIZES[rank])))
    kernel = (kernel,) * rank if isinstance(kernel, int) else kernel
    w = draw(inputs, outputs // group, *kernel, low=-1, high=1)
    b = (draw(outputs),) if bias else ()
    if group > 1:
        attributes["group"] = group
    label = f"{rank}d-k{kernel}-{inputs}to{outputs}{'-bias' if bias else ''}-{attributes}"
    return case("ConvTranspose", x, w, *b, label=label.replace(" ", ""), oracle=oracle, **attributes)


CASES = [
    each
    for rank in (1, 2, 3)
    for each in (
        _conv(rank, kernel_shape=(3,) * rank),
        _conv(rank, bias=False, kernel=1),
        _conv(rank, strides=(2,) * rank, pads=(1,) * (2 * rank)),
        _conv(rank, dilations=(2,) * rank),
        _conv(rank, group=2),
        _conv(rank, group=4, outputs=4),
        _conv(rank, group=4, outputs=8, strides=(2,) * rank),
        _conv(rank, pads=tuple(range(2 * rank))),
        _conv(rank, auto_pad="SAME_UPPER", strides=(2,) * rank, kernel=4),
        _conv(rank, auto_pad="SAME_LOWER", strides=(2,) * rank, kernel=4),
        _conv(rank, auto_pad="SAME_UPPER"),
        _conv(rank, auto_pad="VALID"),
        _transposed(rank, kernel_shape=(3,) * rank),
        _transposed(rank, bias=False),
        _transposed(rank, strides=(2,) * rank, pads=(1,) * (2 * rank), output_padding=(1,) * rank),
        _transposed(rank, strides=(2,) * rank, kernel=4, pads=(1,) * (2 * rank)),
        _transposed(rank, group=2),
        _transposed(rank, group=4, outputs=4, strides=(3,) * rank),
        _transposed(rank, dilations=(2,) * rank),
        _transposed(rank, pads=tuple(range(rank)) + (1,) * rank, strides=(2,) * rank),
        _transposed(rank, strides=(3,) * rank, kernel=2),
    )
] + [
    _conv(2, strides=(2, 1), pads=(0, 1, 2, 0), kernel=(3, 2)),
    _conv(2, dilations=(1, 2), strides=(1, 2), sizes=(9, 12)),
    _conv(2, dilations=(2, 2), strides=(2, 2), sizes=(12, 12)),
    _conv(2, group=4, outputs=8, strides=(2, 1), kernel=(3, 2)),
    _conv(2, group=4, outputs=4, dilations=(2, 2)),
    _conv(2, group=4, outputs=4, dilations=(2, 1), strides=(2, 2), sizes=(12, 12)),
    _conv(2, group=3, inputs=6, outputs=9, pads=(1, 1, 1, 1)),
    _conv(2, inputs=1, outputs=2),
    _conv(2, auto_pad="SAME_UPPER", dilations=(2, 2)),
    _conv(2, auto_pad="SAME_LOWER", dilations=(2, 1), strides=(2, 2)),
    _conv(2, dtype=np.float64),
    _conv(3, group=2, dilations=(2, 1, 1), strides=(1, 2, 1)),
    _transposed(2, output_shape=(8, 7), strides=(2, 2)),
    _transposed(2, output_shape=(8, 7), strides=(2, 2), auto_pad="SAME_UPPER"),
    _transposed(2, auto_pad="SAME_UPPER", strides=(2, 2)),
    _transposed(2, auto_pad="SAME_LOWER", strides=(2, 2)),
    _transposed(2, auto_pad="SAME_UPPER", strides=(2, 3), kernel=4),
    _transposed(2, dilations=(2, 2), strides=(2, 1), group=2),
    _transposed(2, strides=(2, 3), output_padding=(1, 2), kernel=(3, 4)),
    _transposed(2, strides=(2, 2), kernel=4, pads=(1, 2, 0, 1), output_padding=(1, 0)),
    _transposed(2, strides=(2, 1), group=4, outputs=8, pads=(1, 0, 1, 0)),
]
CASES += [
    case("Col2Im", x, ints(*image), ints(*block), label=label, computed=computed, **attributes)
    for computed in (False, True)
    for label, x, image, block, attributes in (
        ("plain", draw(2, 15, 5), (5, 5), (1, 5), {}),
        ("strides", draw(1, 27, 4), (5, 5), (3, 3), {"strides": (2, 2)}),
        ("pads", draw(1, 10, 15), (5, 5), (1, 5), {"pads": (0, 1, 0, 1)}),
        ("uneven-pads", draw(1, 8, 12), (4, 3), (2, 2), {"pads": (0, 1, 0, 1), "strides": (1, 1)}),
        ("one-sided-pads", draw(2, 8, 15), (4, 4), (2, 2), {"pads": (1, 0, 1, 0)}),
        ("dilations", draw(1, 8, 6), (6, 6), (2, 2), {"dilations": (1, 2), "strides": (2, 2)}),
        ("1d", draw(2, 6, 5), (9,), (3,), {"strides": (2,), "pads": (1, 1)}),
        ("3d", draw(1, 16, 24), (3, 4, 5), (2, 2, 2), {}),
        ("integers", draw(1, 8, 9, dtype=np.int64), (4, 4), (2, 2), {}),
    )
]
