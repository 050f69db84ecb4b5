"""Element types, quantisation and arithmetic on quantised and unsigned numbers."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
from onnx import TensorProto

from operator_cases.case import SPECIAL, Array, Case, case, draw, scalar

_SMALL_FLOATS = {
    "FLOAT8E4M3FN": ml_dtypes.float8_e4m3fn,
    "FLOAT8E4M3FNUZ": ml_dtypes.float8_e4m3fnuz,
    "FLOAT8E5M2": ml_dtypes.float8_e5m2,
    "FLOAT8E5M2FNUZ": ml_dtypes.float8_e5m2fnuz,
    "FLOAT4E2M1": ml_dtypes.float4_e2m1fn,
}
_NARROW_INTEGERS = {
    "UINT4": ml_dtypes.uint4,
    "INT4": ml_dtypes.int4,
    "UINT2": ml_dtypes.uint2,
    "INT2": ml_dtypes.int2,
}
_EXTREMES = np.concatenate(
    [SPECIAL[:-1], draw(40, low=-500, high=500), np.float32([464, 465, 6e4, -6.2e4, 1e-3])]
)


def _bits(kind: str) -> Array:
    """Every value of a type of 4 or 8 bits that is a number."""
    count = 16 if kind == "FLOAT4E2M1" else 256
    values = np.arange(count, dtype=np.uint8).view(_SMALL_FLOATS[kind])
    return values[~np.isnan(values.astype(np.float32))]


def _to(name: str) -> int:
    return int(getattr(TensorProto, name))


_CASTS: list[Case] = [
    *(
        case(
            "Cast",
            _EXTREMES.astype(dtype),
            to=_to(kind),
            saturate=saturate,
            label=f"{dtype}-{kind}-{saturate}",
        )
        for kind in _SMALL_FLOATS
        for dtype, saturate in (("float32", 1), ("float32", 0), ("float16", 1), ("float64", 1))
    ),
    *(case("Cast", _bits(kind), to=_to("FLOAT"), label=f"{kind}-float32") for kind in _SMALL_FLOATS),
    *(case("Cast", _bits(kind), to=_to("FLOAT16"), label=f"{kind}-float16") for kind in _SMALL_FLOATS),
    case("Cast", _bits("FLOAT8E5M2"), to=_to("FLOAT8E4M3FN"), label="between-float8"),
    case("Cast", draw(9, dtype=np.int32, low=-600, high=600), to=_to("FLOAT8E4M3FN"), label="int-float8"),
    case("Cast", _bits("FLOAT8E4M3FN"), to=_to("BOOL"), label="float8-bool"),
    case(
        "Cast",
        np.float64([1 + 2**-4 + 2**-40, 1 + 2**-4 - 2**-40]),
        to=_to("FLOAT8E4M3FN"),
        label="rounded-once",
        # ml_dtypes rounds a double to float32 first, and then a tie that is none in the double
        expected=(np.float32([1.125, 1.0]).astype(ml_dtypes.float8_e4m3fn),),
    ),
    *(
        case("Cast", np.arange(-9, 20).astype(dtype), to=_to(kind), label=f"{dtype}-{kind}")
        for kind in _NARROW_INTEGERS
        for dtype in ("float32", "int64", "int8")
    ),
    *(
        case("Cast", np.arange(4).astype(dtype), to=_to("FLOAT"), label=f"{kind}-float32")
        for kind, dtype in _NARROW_INTEGERS.items()
    ),
    *(
        case(
            "Cast",
            np.float32([1.0, 1.2, 1.5, 1.9, 2.0, 3e38, 2**-126, 0.3, 2**100]),
            to=_to("FLOAT8E8M0"),
            round_mode=mode,
            saturate=saturate,
            opset=25,
            label=f"{mode}-{saturate}",
        )
        for mode in ("up", "down", "nearest")
        for saturate in (0, 1)
    ),
    case(
        "Cast",
        np.float32([np.inf, 0.0, np.nan]),
        to=_to("FLOAT8E8M0"),
        opset=25,
        label="e8m0-out-of-range",
        # the specification's table has E8M0_MAX for infinity where the reference has NaN
        expected=(np.array([254, 0, 255], np.uint8).view(ml_dtypes.float8_e8m0fnu),),
    ),
    case(
        "Cast",
        np.float32([np.inf, 0.0, 2e38]),
        to=_to("FLOAT8E8M0"),
        saturate=0,
        round_mode="nearest",
        opset=25,
        label="e8m0-out-of-range-unsaturated",
        # the specification's table has NaN for zero where the reference has the smallest value
        expected=(np.array([255, 255, 254], np.uint8).view(ml_dtypes.float8_e8m0fnu),),
    ),
    case("CastLike", _EXTREMES, _bits("FLOAT8E5M2")[:1], opset=19),
    case("CastLike", _EXTREMES, _bits("FLOAT4E2M1")[:1], opset=23),
    case("CastLike", _bits("FLOAT8E4M3FNUZ"), draw(1, dtype=np.float16), opset=19),
    case("CastLike", np.arange(-9, 9, dtype=np.float32), np.zeros(1, ml_dtypes.int4), opset=21),
    case("CastLike", np.float32([1.3, 4.0]), np.ones(1, ml_dtypes.float8_e8m0fnu), opset=25),
    case("BitCast", draw(2, 3), to=_to("INT32"), opset=26),
    case("BitCast", draw(2, 3, dtype=np.float64), to=_to("UINT64"), opset=26),
    case("BitCast", draw(5, dtype=np.int16), to=_to("BFLOAT16"), opset=26),
    case("BitCast", draw(5, dtype=np.bool_), to=_to("UINT8"), opset=26),
    case("BitCast", _bits("FLOAT8E4M3FN"), to=_to("INT8"), opset=26, label="float8-int8"),
    case(
        "BitCast",
        np.array([-8, -1, 0, 7], ml_dtypes.int4),
        to=_to("UINT4"),
        opset=26,
        expected=(np.array([8, 15, 0, 7], ml_dtypes.uint4),),
    ),
    case(
        "BitCast",
        np.array([0, 3, 2, 1], ml_dtypes.uint2),
        to=_to("INT2"),
        opset=26,
        expected=(np.array([0, -1, -2, 1], ml_dtypes.int2),),
    ),
]

_HALVES = np.float32([-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 300.0, -300.0, np.inf, -np.inf, 0.1])
_SCALES = np.float32([0.5, 0.02, 1.7])
_IMAGE = draw(2, 3, 4, 5, low=-40, high=40)


def _zero(dtype: Any, *values: int) -> Array:
    return np.array(values if len(values) > 1 else values[0], dtype)


_WHOLE = {
    "uint8": np.uint8,
    "int8": np.int8,
    "uint16": np.uint16,
    "int16": np.int16,
    **{kind.lower(): dtype for kind, dtype in _NARROW_INTEGERS.items()},
}

_QUANTISE: list[Case] = [
    *(
        case("QuantizeLinear", _HALVES[:-3], scalar(1.0), _zero(dtype, 1), opset=25, label=f"ties-{name}")
        for name, dtype in _WHOLE.items()
    ),
    case(
        "QuantizeLinear",
        _HALVES,
        scalar(1.0),
        _zero(np.uint8, 3),
        label="infinite",
        # infinity saturates; the reference takes it through int32, where it is undefined
        expected=(np.uint8([0, 1, 1, 3, 3, 5, 5, 255, 0, 255, 0, 3]),),
    ),
    case("QuantizeLinear", _IMAGE, scalar(0.3), label="no-zero-point"),
    case("QuantizeLinear", _IMAGE, scalar(0.3), output_dtype=_to("INT16"), label="output_dtype"),
    case("QuantizeLinear", _IMAGE, _SCALES, _zero(np.int8, 3, -7, 100), label="per-axis"),
    case(
        "QuantizeLinear",
        _IMAGE,
        draw(5, low=0.1),
        _zero(np.uint16, 3, 7, 9, 65000, 1),
        axis=-1,
        label="last-axis",
    ),
    case(
        "QuantizeLinear", draw(7), draw(1, low=0.1), _zero(np.int8, 5).reshape(1), axis=0, label="one-of-one"
    ),
    case("QuantizeLinear", _IMAGE[:, :2], draw(2, 2, 2, 5, low=0.1), axis=2, block_size=2, label="blocked"),
    case(
        "QuantizeLinear",
        _IMAGE,
        draw(2, 3, 4, 2, low=0.1),
        draw(2, 3, 4, 2, dtype=np.int16, low=-9, high=9),
        axis=-1,
        block_size=3,
        label="blocked-remainder",
    ),
    *(
        case("QuantizeLinear", draw(40, low=-900, high=900), scalar(1.3), _zero(dtype, 0), label=f"to-{kind}")
        for kind, dtype in _SMALL_FLOATS.items()
    ),
    case(
        "QuantizeLinear",
        draw(40, low=-900, high=900),
        scalar(1.3),
        output_dtype=_to("FLOAT8E5M2"),
        saturate=0,
        label="to-float8-unsaturated",
        oracle="reference",
    ),
    case(
        "QuantizeLinear",
        _IMAGE.astype(np.float16),
        scalar(0.3, np.float16),
        _zero(np.int8, -5),
        label="float16",
    ),
    case(
        "QuantizeLinear",
        draw(30, low=-900, high=900).astype(np.float16),
        scalar(0.3, np.float16),
        _zero(np.uint16, 40001),
        label="float16-uint16",
    ),
    case(
        "QuantizeLinear",
        draw(3, 5, dtype=np.int32, low=-900, high=900),
        scalar(7.3),
        _zero(np.uint8, 128),
        label="int32",
    ),
    case(
        "QuantizeLinear",
        _IMAGE,
        scalar(0.3),
        _zero(np.int8, 3),
        precision=_to("FLOAT16"),
        label="precision",
        oracle="reference",
    ),
    case(
        "QuantizeLinear",
        _IMAGE,
        np.array(0.5, ml_dtypes.float8_e8m0fnu),
        _zero(np.int8, 3),
        opset=25,
        label="power-of-two-scale",
        expected=(np.clip(np.rint(_IMAGE / 0.5) + 3, -128, 127).astype(np.int8),),
    ),
    *(
        case(
            "DequantizeLinear", np.arange(4).astype(dtype), scalar(0.3), _zero(dtype, 1), opset=25, label=name
        )
        for name, dtype in _WHOLE.items()
    ),
    case(
        "DequantizeLinear", draw(3, 4, dtype=np.int32, low=-(2**30), high=2**30), scalar(0.01), label="int32"
    ),
    case(
        "DequantizeLinear", draw(3, 4, dtype=np.int8, low=-128, high=127), _SCALES, axis=0, label="per-axis"
    ),
    case(
        "DequantizeLinear",
        draw(2, 3, 4, 5, dtype=np.uint8, high=255),
        _SCALES.astype(np.float16),
        _zero(np.uint8, 3, 200, 128),
        label="per-axis-float16",
    ),
    case(
        "DequantizeLinear",
        draw(2, 5, dtype=np.uint8, high=255),
        draw(2, 3, low=0.1),
        draw(2, 3, dtype=np.uint8, high=9),
        block_size=2,
        label="blocked-remainder",
    ),
    *(
        case("DequantizeLinear", _bits(kind), scalar(1.3), opset=23, label=f"from-{kind}")
        for kind in _SMALL_FLOATS
    ),
    case(
        "DequantizeLinear",
        draw(6, dtype=np.int16, low=-30000, high=30000),
        scalar(0.013),
        output_dtype=_to("FLOAT16"),
        label="output_dtype",
        oracle="reference",
    ),
    case("DynamicQuantizeLinear", draw(3, 4, low=-3, high=9), outputs=3),
    case("DynamicQuantizeLinear", draw(3, 4, low=1, high=9), outputs=3, label="positive"),
    case("DynamicQuantizeLinear", draw(3, 4, low=-9, high=-1), outputs=3, label="negative"),
    case("DynamicQuantizeLinear", np.zeros((2, 3), np.float32), outputs=3, label="zero", oracle="reference"),
]

_A = draw(2, 4, 7, dtype=np.uint8, high=255)
_B = draw(7, 3, dtype=np.int8, low=-128, high=127)
_X = draw(2, 4, 7, 6, dtype=np.uint8, high=255)
_W = draw(6, 2, 3, 3, dtype=np.int8, low=-128, high=127)
_W3 = draw(3, 4, 3, 3, dtype=np.uint8, high=255)


def _convolved(
    x: Array, w: Array, label: str, x_zero: Array | None, w_zero: Array | None, **attributes: Any
) -> Case:
    return case("ConvInteger", x, w, x_zero, w_zero, label=label, **attributes)


_PRODUCTS: list[Case] = [
    case("MatMulInteger", _A, _B, _zero(np.uint8, 131), _zero(np.int8, -3)),
    case("MatMulInteger", _A, _B, label="no-zero-points"),
    case("MatMulInteger", _A, _B, None, _zero(np.int8, 1, -2, 3), label="per-column"),
    case(
        "MatMulInteger",
        _A[0],
        _B,
        _zero(np.uint8, 1, 200, 3, 4),
        label="per-row",
        # the specification has one zero point per row of A; the reference broadcasts it along the columns
        expected=((_A[0].astype(np.int32) - np.int32([[1], [200], [3], [4]])) @ _B.astype(np.int32),),
    ),
    case("MatMulInteger", _A[0, 0], _B, label="vector"),
    case(
        "MatMulInteger",
        np.full((1, 40000), 255, np.uint8),
        np.full((40000, 1), 255, np.uint8),
        label="overflow",
        oracle="reference",
    ),
    _convolved(_X[:, :2], _W, "plain", None, None),
    _convolved(_X, _W, "grouped", _zero(np.uint8, 7), _zero(np.int8, -3), group=2, pads=(1, 0, 2, 1)),
    _convolved(_X, _W3, "strided", _zero(np.uint8, 7), None, strides=(2, 1), dilations=(1, 2)),
    _convolved(_X, _W3, "same", _zero(np.uint8, 7), None, strides=(2, 2), auto_pad="SAME_UPPER"),
    _convolved(_X, _W3, "same-lower", _zero(np.uint8, 7), None, strides=(2, 2), auto_pad="SAME_LOWER"),
    case(
        "ConvInteger",
        _X,
        _W3,
        None,
        _zero(np.uint8, 0, 128, 255),
        label="per-filter",
        oracle="reference",
    ),
    case(
        "ConvInteger",
        draw(1, 2, 9, dtype=np.uint8, high=255),
        draw(3, 2, 3, dtype=np.uint8, high=255),
        label="1d",
    ),
    case(
        "QLinearMatMul",
        _A,
        scalar(0.02),
        _zero(np.uint8, 131),
        _B,
        scalar(0.011),
        _zero(np.int8, -3),
        scalar(0.3),
        _zero(np.uint8, 100),
        oracle="reference",
    ),
    case(
        "QLinearMatMul",
        _A,
        scalar(0.02),
        _zero(np.uint8, 131),
        _B,
        np.float32([0.01, 0.02, 0.03]),
        _zero(np.int8, -3, 0, 5),
        scalar(0.3),
        _zero(np.uint8, 100),
        label="per-column",
        oracle="reference",
    ),
    case(
        "QLinearMatMul",
        _A[0],
        np.float32([0.01, 0.02, 0.03, 0.04]),
        _zero(np.uint8, 1, 2, 3, 4),
        _B.view(np.uint8),
        scalar(0.011),
        _zero(np.uint8, 3),
        scalar(0.3),
        _zero(np.int8, 1),
        label="per-row",
        # the specification has one scale per row of a; the reference broadcasts it along the columns
        expected=(
            np.clip(
                np.rint(
                    (
                        (_A[0].astype(np.int64) - np.array([[1], [2], [3], [4]]))
                        @ (_B.view(np.uint8).astype(np.int64) - 3)
                    )
                    * (
                        np.float32([[0.01], [0.02], [0.03], [0.04]]) * np.float32(0.011) / np.float32(0.3)
                    ).astype(np.float64)
                )
                + 1,
                -128,
                127,
            ).astype(np.int8),
        ),
    ),
    case(
        "QLinearMatMul",
        np.uint8([[1, 3, 5]]),
        scalar(0.5),
        _zero(np.uint8, 0),
        np.uint8([[1], [0], [0]]),
        scalar(1.0),
        _zero(np.uint8, 0),
        scalar(1.0),
        _zero(np.uint8, 1),
        label="tie",
        # rounded half to even before the zero point is added, as the specification and onnxruntime have it
        expected=(np.uint8([[1]]),),
    ),
    case(
        "QLinearConv",
        _X,
        scalar(0.02),
        _zero(np.uint8, 131),
        _W,
        scalar(0.013),
        _zero(np.int8, 2),
        scalar(0.9),
        _zero(np.uint8, 77),
        draw(6, dtype=np.int32, low=-3000, high=3000),
        group=2,
        pads=(1, 1, 1, 1),
        strides=(2, 1),
        oracle="reference",
    ),
    case(
        "QLinearConv",
        _X,
        scalar(0.02),
        _zero(np.uint8, 131),
        _W3.view(np.int8),
        np.float32([0.01, 0.03, 0.002]),
        _zero(np.int8, 0, 0, 0),
        scalar(0.9),
        _zero(np.int8, -7),
        auto_pad="SAME_UPPER",
        dilations=(2, 1),
        label="per-filter",
        # onnxruntime: the reference puts per-filter scales on the wrong axis
    ),
]

_UNSIGNED = (np.uint16, np.uint32, np.uint64)


def _pairs(dtype: Any) -> tuple[Array, Array]:
    """Pairs of small and of the largest numbers; the second is never zero."""
    top = int(np.iinfo(dtype).max)
    values = [0, 1, 2, 3, 9, top, top - 1, top // 2, top // 2 + 1]
    x, y = np.meshgrid(np.array(values, dtype), np.array(values[1:], dtype))
    return x, y


_WIDE: list[Case] = [
    *(
        case(op, *_pairs(dtype), label=f"{np.dtype(dtype)}-extremes", oracle="reference")
        for op in ("Add", "Sub", "Mul", "Div", "Mod", "Min", "Max")
        for dtype in _UNSIGNED
    ),
    *(
        case(op, *_pairs(dtype), label=f"{np.dtype(dtype)}-extremes", oracle="reference")
        for op in (
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Equal",
            "BitwiseAnd",
            "BitwiseOr",
            "BitwiseXor",
        )
        for dtype in _UNSIGNED
    ),
    *(case("BitwiseNot", _pairs(dtype)[0], label=f"{np.dtype(dtype)}") for dtype in _UNSIGNED),
    *(
        case(
            "BitShift",
            np.array([5, 100, top, 1], dtype),
            np.array([[0], [1], [bits - 1], [bits], [bits + 1], [100]], dtype),
            direction=direction,
            label=f"{np.dtype(dtype)}-{direction}-beyond",
            oracle="reference",
            opset=28,
        )
        for dtype in (np.uint8, *_UNSIGNED, np.int8, np.int16, np.int32, np.int64)
        for direction in ("LEFT", "RIGHT")
        for top, bits in [(int(np.iinfo(dtype).max), np.iinfo(dtype).bits)]
    ),
    *(
        case(
            "BitShift",
            np.array([5, -5, -128, 127, -1, 0], dtype),
            np.array([[-1], [-100], [3]], dtype),
            direction=direction,
            label=f"{np.dtype(dtype)}-{direction}-negative",
            oracle="reference",
            opset=28,
        )
        for dtype in (np.int8, np.int64)
        for direction in ("LEFT", "RIGHT")
    ),
    *(
        case(
            "Clip",
            _pairs(dtype)[0],
            scalar(3, dtype),
            scalar(np.iinfo(dtype).max - 1, dtype),
            computed=computed,
        )
        for dtype in (np.uint32, np.uint64)
        for computed in (False, True)
    ),
    *(case(op, _pairs(np.uint32)[0], label="uint32", oracle="reference") for op in ("Abs", "Sign")),
]

_U8 = draw(2, 3, 6, 5, dtype=np.uint8, high=255)
_S8 = draw(2, 3, 6, 5, dtype=np.int8, low=-128, high=127)
_S, _ZU, _ZS = scalar(0.02), _zero(np.uint8, 120), _zero(np.int8, -9)
_STEP = 0.002
"""Tolerance of one step of 8 bits: onnxruntime folds scales together before it rounds."""


def _contrib(op: str, *inputs: Array | None, tolerance: float | None = _STEP, **attributes: Any) -> Case:
    return case(op, *inputs, domain="com.microsoft", opset=1, tolerance=tolerance, **attributes)


_PACKED = draw(5, 3, 8, dtype=np.uint8, high=255)

_CONTRIB: list[Case] = [
    _contrib(
        "QLinearAdd",
        _U8,
        _S,
        _ZU,
        _U8[:1],
        scalar(0.03),
        _zero(np.uint8, 7),
        scalar(0.06),
        _zero(np.uint8, 99),
    ),
    _contrib(
        "QLinearAdd",
        _S8,
        scalar(0.5),
        None,
        _S8[0, 0],
        scalar(0.25),
        None,
        scalar(1.0),
        label="int8-no-zero-points",
        # onnxruntime takes no missing zero points
        expected=(np.clip(np.rint(_S8 * 0.5 + _S8[0, 0] * 0.25), -128, 127).astype(np.int8),),
    ),
    _contrib("QLinearMul", _U8, _S, _ZU, _U8[:, :1], scalar(0.03), _zero(np.uint8, 7), scalar(0.06), _ZU),
    _contrib("QLinearMul", _S8, _S, _ZS, _S8, scalar(0.03), _ZS, scalar(0.06), _ZS),
    _contrib("QLinearSigmoid", _U8, _S, _ZU, scalar(1 / 256), _zero(np.uint8, 0)),
    _contrib("QLinearSigmoid", _S8, scalar(0.1), _ZS, scalar(1 / 256), _zero(np.int8, -128)),
    _contrib("QLinearLeakyRelu", _S8, _S, _ZS, scalar(0.015), _zero(np.int8, 3), alpha=0.2),
    Case(
        "QLinearSoftmax",
        (_U8, scalar(0.05), _ZU, scalar(1 / 256), _zero(np.uint8, 0)),
        {"axis": 2, "opset": 13},
        "axis",
        opset=1,
        tolerance=_STEP,
        domain="com.microsoft",
    ),
    _contrib("QLinearAveragePool", _U8, _S, _ZU, scalar(0.015), _ZU, kernel_shape=(3, 2), strides=(2, 1)),
    _contrib(
        "QLinearAveragePool",
        _S8,
        _S,
        _ZS,
        scalar(0.015),
        _ZS,
        kernel_shape=(3, 3),
        pads=(1, 1, 1, 1),
        count_include_pad=1,
    ),
    _contrib("QLinearGlobalAveragePool", _U8, _S, _ZU, scalar(0.01), _ZU),
    _contrib("QLinearGlobalAveragePool", _U8, _S, _ZU, scalar(0.01), _ZU, channels_last=1),
    _contrib(
        "QLinearReduceMean",
        _U8,
        _S,
        _ZU,
        scalar(0.01),
        _ZU,
        axes=(1, 3),
        keepdims=0,
        # onnxruntime has no kernel
        expected=(np.clip(np.rint((_U8 - 120.0).mean((1, 3)) * 0.02 / 0.01) + 120, 0, 255).astype(np.uint8),),
    ),
    _contrib("QLinearConcat", scalar(0.03), _ZU, _U8, _S, _ZU, _U8, scalar(0.05), _zero(np.uint8, 9), axis=1),
    _contrib(
        "QLinearWhere",
        draw(2, 3, 6, 5, dtype=np.bool_),
        _U8,
        _S,
        _ZU,
        _U8[:1],
        scalar(0.05),
        _zero(np.uint8, 9),
        scalar(0.03),
        _ZU,
    ),
    _contrib(
        "QGemm",
        _A[0],
        _S,
        _ZU,
        _B.T.copy(),
        np.float32([0.01, 0.02, 0.03]),
        _zero(np.int8, 0, 0, 0),
        draw(3, dtype=np.int32, low=-900, high=900),
        scalar(0.3),
        _ZU,
        transB=1,
    ),
    _contrib(
        "QGemm", _A[0], _S, _ZU, _B, scalar(0.01), _zero(np.int8, 3), tolerance=None, alpha=0.5, label="float"
    ),
    _contrib(
        "MatMulIntegerToFloat", _A, _B, _S, scalar(0.01), _ZU, _zero(np.int8, 3), draw(3), tolerance=None
    ),
    _contrib(
        "MatMulIntegerToFloat",
        _A,
        _B,
        _S,
        np.float32([0.01, 0.02, 0.03]),
        _ZU,
        _zero(np.int8, 0, 1, 2),
        tolerance=None,
        label="per-column",
    ),
    _contrib("DynamicQuantizeMatMul", draw(2, 4, 7), _B, scalar(0.01), None, draw(3), tolerance=None),
    _contrib("QuantizeLinear", _IMAGE, scalar(0.3), _zero(np.uint16, 30000), tolerance=None),
    _contrib("QuantizeLinear", _IMAGE, _SCALES, _zero(np.int8, 3, 4, 5), axis=1, tolerance=None),
    _contrib(
        "DequantizeLinear", draw(3, 4, dtype=np.int16, low=-999, high=999), _SCALES, axis=0, tolerance=None
    ),
    _contrib("DequantizeLinear", _U8, scalar(0.3), _ZU, tolerance=None),
    _contrib("MatMulNBits", draw(2, 40), _PACKED, draw(15), K=40, N=5, bits=4, block_size=16, tolerance=1e-5),
    _contrib(
        "MatMulNBits",
        draw(2, 3, 40),
        _PACKED,
        draw(15),
        draw(10, dtype=np.uint8, high=255),
        None,
        draw(5),
        K=40,
        N=5,
        bits=4,
        block_size=16,
        tolerance=1e-5,
        label="zero-points",
    ),
    _contrib(
        "MatMulNBits",
        draw(2, 32),
        draw(5, 2, 16, dtype=np.uint8, high=255),
        draw(10),
        K=32,
        N=5,
        bits=8,
        block_size=16,
        tolerance=1e-5,
        label="8-bits",
    ),
]

CASES: list[Case] = [*_CONTRIB, *_CASTS, *_QUANTISE, *_PRODUCTS, *_WIDE]
