"""Cases of elementwise arithmetic, comparison, logic and bits."""

import ml_dtypes
import numpy as np

from operator_cases.case import SPECIAL, case, draw, scalar

_INTEGERS = (np.int32, np.int64)
_FLOATS = (np.float32, np.float64, np.float16)


def _pair(op, dtype, **limits):
    x = draw(3, 4, dtype=dtype, low=-9, high=9)
    y = draw(3, 4, dtype=dtype, low=1, high=5, seed=1)
    return case(op, x, y, label=f"{np.dtype(dtype)}", **limits)


CASES = [
    each
    for op in ("Add", "Sub", "Mul", "Div", "Pow")
    for each in (
        *(_pair(op, dtype) for dtype in (*_FLOATS, *_INTEGERS)),
        case(op, draw(2, 3, 4, low=0.1), draw(3, 1, low=0.1)),
        case(op, draw(4, low=0.1), draw(2, 3, 1, low=0.1)),
        case(op, draw(low=0.1), draw(low=0.1, seed=1)),
        case(op, draw(0, 3), draw(3)),
        case(op, draw(2, 3, low=0.1), scalar(2.0)),
    )
]
CASES += [
    *(_pair(op, dtype) for op in ("Add", "Sub", "Mul", "Div") for dtype in (np.int8, np.uint8, np.int16)),
    _pair("Add", ml_dtypes.bfloat16),
    case("Div", np.array([7, -7, 7, -7], np.int32), np.array([2, 2, -2, -2], np.int32), label="truncates"),
    case("Div", np.array([1, -1, 0], np.float32), np.zeros(3, np.float32), label="by-zero"),
    case("Pow", draw(4, low=0.5), np.array([0, 1, 2, 3], np.int64), label="float-int64"),
    case(
        "Pow",
        draw(4, dtype=np.int32, low=1, high=5),
        np.array([0.5, 1, 2, 2], np.float32),
        label="int32-float",
    ),
    case(
        "Pow", draw(4, dtype=np.int64, low=1, high=5), np.array([0, 1, 2, 3], np.int32), label="int64-int32"
    ),
    case("Pow", draw(3, 4, low=0.5), scalar(0.5), label="root"),
]
CASES += [
    *(
        case("Mod", np.array([7, -7, 7, -7], d), np.array([3, 3, -3, -3], d), label=f"{np.dtype(d)}")
        for d in (np.int8, np.int16, np.int32, np.int64)
    ),
    case("Mod", np.array([7, 8, 9], np.uint8), np.array([3, 3, 4], np.uint8), label="uint8"),
    *(
        case(
            "Mod",
            np.array([7, -7, 7.5, -7.25], d),
            np.array([3, 3, -3, -2.5], d),
            label=f"{np.dtype(d)}-fmod",
            fmod=1,
        )
        for d in _FLOATS
    ),
    case("Mod", np.array([7, -7], np.int32), np.array([3, -3], np.int32), label="int32-fmod", fmod=1),
    case("Mod", draw(2, 3, dtype=np.int64, low=-9, high=9), np.array([4], np.int64), label="broadcast"),
]
for _op in ("Min", "Max", "Sum", "Mean"):
    CASES += [
        case(_op, draw(2, 3)),
        case(_op, draw(2, 3), draw(3, seed=1)),
        case(_op, draw(2, 3), draw(3, seed=1), draw(2, 1, seed=2)),
        case(_op, draw(2, 3, dtype=np.float64), draw(2, 3, dtype=np.float64, seed=1)),
        case(
            _op,
            np.array([np.nan, 1, -np.inf], np.float32),
            np.array([0, np.nan, 3], np.float32),
            label="special",
        ),
    ]
CASES += [
    case("Min", draw(3, 4, dtype=np.int32, low=-9), draw(4, dtype=np.int32, low=-9, seed=1)),
    case("Max", draw(3, 4, dtype=np.int64, low=-9), draw(4, dtype=np.int64, low=-9, seed=1)),
    case("Max", draw(3, 4, dtype=np.uint8, high=200), draw(4, dtype=np.uint8, high=200, seed=1)),
]
for _computed in (False, True):
    CASES += [
        case("Clip", draw(3, 4, low=-9, high=9), scalar(-1), scalar(2), computed=_computed),
        case("Clip", draw(3, 4, low=-9, high=9), scalar(0), scalar(6), computed=_computed, label="relu6"),
        case("Clip", draw(3, 4, low=-9, high=9), scalar(-1), computed=_computed, label="low"),
        case("Clip", draw(3, 4, low=-9, high=9), None, scalar(1), computed=_computed, label="high"),
        case("Clip", draw(3, 4, low=-9, high=9), scalar(3), scalar(1), computed=_computed, label="crossed"),
        case(
            "Clip",
            draw(3, 4, dtype=np.int32, low=-9, high=9),
            scalar(-3, np.int32),
            scalar(4, np.int32),
            computed=_computed,
        ),
        case(
            "Clip",
            draw(3, 4, dtype=np.float64, low=-9, high=9),
            scalar(-0.1, np.float64),
            scalar(0.3, np.float64),
            computed=_computed,
        ),
    ]
CASES.append(case("Clip", draw(3)))

_DOMAINS = {
    "Sqrt": (0, 4), "Log": (0.1, 5), "Asin": (-0.9, 0.9), "Acos": (-0.9, 0.9), "Acosh": (1.1, 4),
    "Atanh": (-0.9, 0.9), "Reciprocal": (0.5, 3),
}  # fmt: skip
for _op in (
    *("Sqrt", "Exp", "Log", "Erf", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh", "Asinh"),
    *("Acosh", "Atanh", "Floor", "Ceil", "Round", "Sign", "Reciprocal", "Neg", "Abs"),
):
    _low, _high = _DOMAINS.get(_op, (-3, 3))
    CASES += [
        case(_op, draw(2, 5, low=_low, high=_high)),
        case(_op, draw(low=_low, high=_high)),
        case(
            _op, draw(2, 5, dtype=np.float64, low=_low, high=_high), tolerance=1e-7 if _op == "Erf" else None
        ),
        case(_op, draw(0, 2)),
        case(_op, SPECIAL[:-1] if _op == "Sign" else SPECIAL, label="special"),
    ]
CASES += [
    *(
        case(op, draw(3, 4, dtype=d, low=-9, high=9))
        for op in ("Neg", "Abs", "Sign")
        for d in (np.int8, *_INTEGERS)
    ),
    case("Abs", draw(3, 4, dtype=np.uint8, high=200)),
    case("Sign", draw(3, 4, dtype=np.uint8, high=2)),
]

for _op in ("And", "Or", "Xor"):
    CASES += [
        case(_op, draw(3, 4, dtype=np.bool_), draw(3, 4, dtype=np.bool_, seed=1)),
        case(_op, draw(3, 4, dtype=np.bool_), draw(4, dtype=np.bool_, seed=1)),
    ]
CASES += [case("Not", draw(3, 4, dtype=np.bool_)), case("Not", draw(dtype=np.bool_))]
for _op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"):
    CASES += [
        case(_op, draw(3, 4, dtype=np.int32), draw(4, dtype=np.int32, seed=1)),
        case(_op, draw(3, 4, dtype=np.int64), draw(3, 4, dtype=np.int64, seed=1)),
        case(_op, np.round(draw(3, 4)), np.round(draw(3, 1, seed=1)), label="float32"),
        case(
            _op,
            np.round(draw(3, dtype=np.float64)),
            np.round(draw(3, dtype=np.float64, seed=1)),
            label="float64",
        ),
        case(_op, SPECIAL, SPECIAL[::-1].copy(), label="special"),
        case(_op, SPECIAL, SPECIAL, label="itself"),
    ]
CASES.append(case("Equal", draw(4, dtype=np.bool_), draw(4, dtype=np.bool_, seed=1)))
CASES += [
    case("IsNaN", SPECIAL, label="special"),
    case("IsNaN", SPECIAL.astype(np.float64), label="float64"),
    case("IsInf", SPECIAL, label="both"),
    case("IsInf", SPECIAL, label="positive", detect_negative=0),
    case("IsInf", SPECIAL, label="negative", detect_positive=0),
    case("IsInf", SPECIAL, label="neither", detect_positive=0, detect_negative=0),
]
for _op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
    CASES += [
        case(_op, draw(3, 4, dtype=d, low=-50, high=50), draw(4, dtype=d, low=-50, high=50, seed=1))
        for d in (np.int32, np.uint8)
    ]
CASES += [
    case("BitwiseNot", draw(3, 4, dtype=np.int32, low=-50, high=50)),
    case("BitwiseNot", draw(3, 4, dtype=np.uint8, high=200)),
    case(
        "BitShift",
        np.array([16, 4, 1], np.uint8),
        np.array([1, 2, 3], np.uint8),
        label="right",
        direction="RIGHT",
    ),
    case(
        "BitShift",
        np.array([16, 4, 1], np.uint8),
        np.array([1, 2, 3], np.uint8),
        label="left",
        direction="LEFT",
    ),
    case("Where", draw(3, 4, dtype=np.bool_), draw(3, 4), draw(3, 4, seed=1)),
    case("Where", draw(3, 1, dtype=np.bool_), draw(4), draw(2, 1, 1, seed=1)),
    case("Where", draw(3, 4, dtype=np.bool_), draw(3, 4, dtype=np.int64), scalar(7, np.int64)),
    case("Where", draw(4, dtype=np.bool_), SPECIAL[-4:], scalar(0.0), label="special"),
]
