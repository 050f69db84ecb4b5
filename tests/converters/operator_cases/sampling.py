"""Cases of sampling at computed positions, and of the choice among boxes."""

import numpy as np

from operator_cases.case import case, draw, ints, scalar

CASES = []
for _computed in (False, True):
    CASES += [
        case(
            "AffineGrid",
            theta,
            ints(2, 3, *sizes),
            label=f"{sizes}-{theta.dtype}-{aligned}",
            align_corners=aligned,
            computed=_computed,
            oracle="onnxruntime" if theta.dtype == np.float64 else "reference",
        )
        for aligned in (0, 1)
        for theta, sizes in (
            (draw(2, 2, 3), (4, 5)),
            (draw(2, 3, 4), (3, 4, 5)),
            (draw(2, 2, 3, dtype=np.float64), (6, 3)),
        )
    ]
CASES += [
    case(
        "GridSample",
        draw(2, 3, *sizes),
        draw(2, *out, len(sizes), low=-1.7, high=1.7),
        label=f"{mode}-{padding}-{aligned}-{len(sizes)}d",
        mode=mode,
        padding_mode=padding,
        align_corners=aligned,
        opset=22 if len(sizes) == 1 or (mode == "cubic" and len(sizes) == 3) else 20,
    )
    for mode in ("nearest", "linear", "cubic")
    for padding in ("zeros", "border", "reflection")
    for aligned in (0, 1)
    for sizes, out in (((5,), (7,)), ((4, 5), (3, 6)), ((3, 4, 5), (2, 3, 2)))
    if (mode, padding) != ("cubic", "border") or len(sizes) == 2
]
"""The reference brings cubic positions to the border first; onnxruntime and PyTorch pad what they see."""

_HALVES = np.stack(np.meshgrid(np.arange(-9, 10) / 8, np.arange(-9, 10) / 8), -1).astype(np.float32)[None]
CASES += [
    case(
        "GridSample",
        draw(1, 2, 4, 8),
        _HALVES,
        label=f"halves-{mode}-{padding}-{aligned}",
        mode=mode,
        padding_mode=padding,
        align_corners=aligned,
        opset=20,
    )
    for mode in ("nearest", "linear", "cubic")
    for padding in ("zeros", "border", "reflection")
    for aligned in (0, 1)
]
CASES += [
    case("GridSample", draw(1, 2, 4, 5, dtype=np.float64), draw(1, 3, 3, 2, dtype=np.float64), opset=20),
    case(
        "GridSample", draw(1, 2, 4, 5, dtype=np.float64), draw(1, 3, 3, 2), oracle="reference", tolerance=1e-6
    ),
    case(
        "GridSample", draw(1, 1, 4, 5, dtype=np.int64), draw(1, 3, 3, 2), mode="nearest", oracle="reference"
    ),
    case("GridSample", draw(1, 2, 1, 1), draw(1, 3, 3, 2), align_corners=1, opset=20),
]

_ROIS = np.array(
    [[0, 0, 4, 4], [-3, -2, 9, 8], [2.5, 1.5, 3.1, 5.2], [6, 6, 2, 3], [1, 2, 1, 2], [20, 20, 30, 30]],
    np.float32,
)
_BATCH = ints(0, 1, 1, 0, 1, 0)
CASES += [
    case(
        "RoiAlign",
        draw(2, 3, 6, 7),
        _ROIS,
        _BATCH,
        label=f"{mode}-{transformation}-{ratio}-{scale}",
        mode=mode,
        coordinate_transformation_mode=transformation,
        sampling_ratio=ratio,
        spatial_scale=scale,
        output_height=2,
        output_width=3,
        opset=16,
    )
    for mode in ("avg", "max")
    for transformation in ("half_pixel", "output_half_pixel")
    for ratio, scale in ((2, 1.0), (0, 1.0), (3, 0.5), (0, 0.25))
]
CASES += [
    case("RoiAlign", draw(1, 2, 5, 5, dtype=np.float64), _ROIS.astype(np.float64)[:2], ints(0, 0), opset=16),
    case("RoiAlign", draw(1, 2, 5, 5), _ROIS[:0], ints(), label="no-regions", opset=16),
]
_ROI_POOL = np.concatenate([_BATCH[:, None].astype(np.float32), _ROIS], 1)
CASES += [
    case(
        "MaxRoiPool",
        draw(2, 3, 6, 7),
        _ROI_POOL,
        label=f"{shape}-{scale}",
        pooled_shape=shape,
        spatial_scale=scale,
        opset=21,
    )
    for shape, scale in (((2, 3), 1.0), ((1, 1), 0.5), ((3, 2), 0.6))
]


def _deformed(label, kernel, offset_group=1, group=1, masked=False, bias=False, sizes=(5, 6), **attributes):
    rank = len(kernel)
    strides = attributes.get("strides", (1,) * rank)
    dilations = attributes.get("dilations", (1,) * rank)
    pads = attributes.get("pads", (0,) * (2 * rank))
    out = [
        (n + pads[i] + pads[i + rank] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, n in enumerate(sizes)
    ]
    elements = offset_group * int(np.prod(kernel))
    return case(
        "DeformConv",
        draw(2, 4, *sizes),
        draw(6, 4 // group, *kernel),
        draw(2, elements * rank, *out, low=-1.5, high=1.5),
        draw(6) if bias else None,
        draw(2, elements, *out) if masked else None,
        label=label,
        group=group,
        offset_group=offset_group,
        tolerance=1e-5,
        **attributes,
    )


CASES += [
    _deformed("plain", (2, 2)),
    _deformed("mask-and-bias", (3, 2), masked=True, bias=True, pads=(1, 0, 2, 1)),
    _deformed("groups", (2, 2), group=2, offset_group=2, masked=True),
    _deformed("strides", (2, 3), strides=(2, 1), dilations=(1, 2), pads=(1, 1, 1, 1), offset_group=4),
]


def _suppressed(label, boxes, scores, most, overlap, least, **attributes):
    given = (
        None if most is None else ints(most),
        None if overlap is None else np.float32([overlap]),
        None if least is None else np.float32([least]),
    )
    return [
        case("NonMaxSuppression", boxes, scores, *given, label=label, computed=computed, **attributes)
        for computed in (False, True)
    ]


_BOXES = draw(2, 20, 4, dtype=np.int64, low=0, high=8).astype(np.float32)
_SCORES = draw(2, 3, 20, dtype=np.int64, low=-3, high=6).astype(np.float32) / 5
_CENTRED = _BOXES + np.float32([0, 0, 1, 1])
CASES += [
    *_suppressed("ties", _BOXES, _SCORES, 5, 0.3, 0.2),
    *_suppressed("no-score-threshold", _BOXES, _SCORES, 30, 0.0, None),
    *_suppressed("centred", _CENTRED, _SCORES, 4, 0.5, 0.0, center_point_box=1),
    *_suppressed("nothing-asked", _BOXES, _SCORES, None, None, None),
    *_suppressed("nothing-found", _BOXES, _SCORES, 3, 0.5, 9.0),
    *_suppressed("all-overlaps-allowed", _BOXES, _SCORES, 30, 1.0, None),
    *_suppressed("no-boxes", _BOXES[:, :0], _SCORES[:, :, :0], 3, 0.5, None),
    case(
        "NonMaxSuppression",
        _BOXES,
        _SCORES,
        scalar(3, np.int64),
        scalar(0.5),
        scalar(0.1),
        label="scalars",
    ),
]
