"""Cases of padding and cropping."""

import ml_dtypes
import numpy as np

from operator_cases.case import case, draw, ints, scalar

CASES = []
for _computed in (False, True):
    for _mode in ("constant", "edge", "reflect", "wrap"):
        CASES += [
            case(
                "Pad",
                draw(2, 3, 4, 5),
                ints(0, 0, 1, 2, 0, 0, 2, 1),
                mode=_mode,
                label=f"image-{_mode}",
                computed=_computed,
            ),
            case(
                "Pad", draw(4, 5), ints(1, 0, 2, 3), mode=_mode, label=f"matrix-{_mode}", computed=_computed
            ),
            case(
                "Pad", draw(4, 5), ints(-1, 2, 1, -1), mode=_mode, label=f"crop-{_mode}", computed=_computed
            ),
            case(
                "Pad",
                draw(2, 3, 4),
                ints(1, 2),
                None,
                ints(-1),
                mode=_mode,
                label=f"axes-{_mode}",
                computed=_computed,
            ),
            case(
                "Pad",
                draw(4, 3, 5),
                ints(1, 1, 2, 0),
                None,
                ints(2, 0),
                mode=_mode,
                label=f"two-axes-{_mode}",
                computed=_computed,
            ),
        ]
    CASES += [
        case("Pad", draw(4, 5), ints(1, 0, 2, 3), scalar(1.5), label="value", computed=_computed),
        case("Pad", draw(4, 5), ints(1, 0, 2, 3), np.float32([1.5]), label="vector", computed=_computed),
        case(
            "Pad",
            draw(4, 5, dtype=np.int64),
            ints(1, -1, 2, 3),
            scalar(-3, np.int64),
            label="int64",
            computed=_computed,
        ),
        case("Pad", draw(4, 5, dtype=np.bool_), ints(1, 0, 2, 3), label="bool", computed=_computed),
        case(
            "Pad",
            draw(4, 5, dtype=np.bool_),
            ints(1, 0, 2, 3),
            scalar(True, np.bool_),
            label="true",
            computed=_computed,
        ),
        case("Pad", draw(4, 5), ints(0, 0, 0, 0), label="nothing", computed=_computed),
        case("Pad", draw(), ints(), label="scalar", computed=_computed, expected=(draw(),)),
        case("Pad", draw(0, 2), ints(1, 0, 1, 1), scalar(2.0), label="empty", computed=_computed),
        case(
            "Pad",
            draw(4, 5, dtype=np.float64),
            ints(0, 1, 0, 0),
            scalar(-np.inf, np.float64),
            label="infinity",
            computed=_computed,
        ),
        case(
            "Pad",
            draw(4, 5, dtype=np.float16),
            ints(0, 1, 0, 0),
            scalar(2, np.float16),
            label="float16",
            computed=_computed,
        ),
        case(
            "Pad", draw(3), np.int64([7, 9]), mode="reflect", label="more-than-the-input", oracle="reference"
        ),
        case("Pad", draw(2, 3, dtype=np.uint16), ints(1, 0, 0, 1), label="uint16", oracle="reference"),
    ]
    CASES += [
        case("CenterCropPad", draw(*shape), ints(*wanted), label=label, computed=_computed, **attributes)
        for label, shape, wanted, attributes in (
            ("crop", (10, 7, 3), (7, 4, 3), {}),
            ("pad", (4, 5), (9, 6), {}),
            ("both", (20, 5, 3), (7, 12, 3), {}),
            ("axes", (20, 8, 3), (10, 9), {"axes": (1, 2)}),
            ("negative-axes", (3, 20, 8), (9, 11), {"axes": (-2, -1)}),
            ("axes-in-any-order", (3, 5, 8), (4, 4), {"axes": (2, 0)}),
        )
    ]
CASES += [
    case("Pad", draw(2, 3, dtype=ml_dtypes.bfloat16), ints(1, 0, 0, 1), label="bfloat16"),
    case("CenterCropPad", draw(5, 2, dtype=np.int8), ints(2, 5), label="int8", oracle="reference"),
]
