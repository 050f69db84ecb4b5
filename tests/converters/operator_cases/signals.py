"""Cases of Fourier transforms, windows and mel filters."""

import numpy as np
from onnx import TensorProto

from operator_cases.case import Case, case, draw, scalar


def _int(value, dtype=np.int64):
    return scalar(value, dtype)


def _transformed(x, length, axis, **attributes):
    """onnxruntime crashes where the axis is left out, which then is the last but one."""
    if axis is not None:
        return case("DFT", x, length, axis, **attributes)
    same = case("DFT", x, length, _int(-2), **attributes)
    return Case(**{**vars(same), "inputs": (x, length), "expected": same.answer()})


CASES = []
for _computed in (False, True):
    for _axis in (None, 0, 1, -2, -3):
        _given = None if _axis is None else _int(_axis)
        CASES += [
            _transformed(x, length, _given, label=f"{label}-axis{_axis}", computed=_computed, **attributes)
            for label, x, length, attributes in (
                ("real", draw(3, 5, 1), None, {}),
                ("complex", draw(3, 4, 2), None, {}),
                ("one-sided", draw(4, 5, 1), None, {"onesided": 1}),
                ("longer", draw(3, 5, 1), _int(8), {}),
                ("shorter", draw(3, 5, 2), _int(2), {}),
                ("inverse", draw(3, 5, 2), None, {"inverse": 1}),
                ("inverse-longer", draw(3, 5, 2), _int(6), {"inverse": 1}),
            )
        ]
        CASES += [
            _transformed(
                x,
                length,
                _given,
                label=f"{label}-axis{_axis}",
                computed=_computed,
                oracle="reference",
                **attributes,
            )
            for label, x, length, attributes in (
                ("inverse-one-sided", draw(3, 4, 2), None, {"inverse": 1, "onesided": 1}),
                ("inverse-one-sided-odd", draw(3, 4, 2), _int(5), {"inverse": 1, "onesided": 1}),
                ("inverse-one-sided-cut", draw(5, 6, 2), _int(4), {"inverse": 1, "onesided": 1}),
                ("double", draw(3, 5, 2, dtype=np.float64), None, {}),
                ("inverse-real", draw(3, 5, 1), None, {"inverse": 1}),
                ("one-sided-longer", draw(4, 5, 1), _int(9), {"onesided": 1}),
            )
        ]
    CASES += [
        case("STFT", x, step, window, length, label=label, computed=_computed, opset=17, **attributes)
        for label, x, step, window, length, attributes in (
            ("window", draw(2, 32, 1), _int(4), draw(8), None, {}),
            ("window-and-length", draw(2, 32, 1), _int(3), draw(8), _int(8), {}),
            ("length", draw(1, 32, 1), _int(8), None, _int(12), {}),
            ("both-sides", draw(1, 20, 1), _int(4), draw(8), None, {"onesided": 0}),
            ("complex", draw(1, 20, 2), _int(4), draw(8), None, {"onesided": 0}),
        )
    ]
    CASES += [
        case(
            window,
            _int(size, np.int32 if size == 7 else np.int64),
            label=f"{size}-{periodic}-{to}",
            periodic=periodic,
            output_datatype=getattr(TensorProto, to),
            oracle="reference",
            computed=_computed,
        )
        for window in ("HannWindow", "HammingWindow", "BlackmanWindow")
        for size, periodic, to in (
            (10, 1, "FLOAT"),
            (10, 0, "FLOAT"),
            (7, 0, "DOUBLE"),
            (6, 1, "FLOAT16"),
            (1, 1, "FLOAT"),
            (0, 1, "FLOAT"),
            (6, 1, "INT64"),
        )
    ]
    CASES += [
        case(
            "MelWeightMatrix",
            _int(count),
            _int(length),
            _int(rate),
            scalar(low),
            scalar(high),
            label=f"{count}-{length}-{rate}-{low}-{high}",
            computed=_computed,
            output_datatype=kind,
        )
        for count, length, rate, low, high, kind in (
            (8, 16, 8192, 0.0, 4096.0, TensorProto.FLOAT),
            (20, 512, 16000, 20.0, 7600.0, TensorProto.FLOAT),
            (40, 400, 16000, 300.0, 8000.0, TensorProto.DOUBLE),
        )
    ]
CASES += [
    _transformed(
        draw(2, 6, 1, dtype=np.float16), None, None, label="half", tolerance=4e-3, oracle="reference"
    ),
    case("STFT", draw(2, 32, 1, dtype=np.float64), _int(4), draw(8, dtype=np.float64), label="double"),
    case("STFT", draw(2, 16, 1), _int(1), label="whole", oracle="reference"),
]
