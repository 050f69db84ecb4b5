"""Whether outputs are what a case says, by the rules of ONNX's own runner."""

from __future__ import annotations

from typing import Any

import numpy as np

_BFLOAT16_RTOL = 2**-6
"""Two units in the last place, which ONNX's runner allows for bfloat16."""


def difference(actual: Any, expected: Any, *, rtol: float, atol: float, values: bool = True) -> str | None:
    """How an output departs from what is expected; None if it does not.

    Type and shape must match exactly; numbers within the tolerances, unless `values` is False.
    """
    if expected is None or actual is None:
        return None if expected is actual else f"{_told(actual)} instead of {_told(expected)}"
    if isinstance(expected, list):
        if not isinstance(actual, list | tuple) or len(actual) != len(expected):
            return f"{_told(actual)} instead of {_told(expected)}"
        found = (
            difference(a, b, rtol=rtol, atol=atol, values=values)
            for a, b in zip(actual, expected, strict=True)
        )
        return next((each for each in found if each is not None), None)
    actual = np.asarray(actual)
    if actual.shape != expected.shape:
        return f"shape {list(actual.shape)} instead of {list(expected.shape)}"
    if expected.dtype.kind in "OUST":
        return None if _texts(actual) == _texts(expected) else "other strings"
    if actual.dtype != expected.dtype:
        return f"{actual.dtype} instead of {expected.dtype}"
    return _numbers(actual, expected, rtol, atol) if values else None


def _numbers(actual: Any, expected: Any, rtol: float, atol: float) -> str | None:
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, _BFLOAT16_RTOL)
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    ours, theirs = actual.astype(wide), expected.astype(wide)
    close = np.isclose(ours, theirs, rtol=rtol, atol=atol, equal_nan=True)
    if close.all():
        return None
    index = tuple(int(each) for each in np.argwhere(~close)[0])
    return (
        f"{ours[index]:.6g} instead of {theirs[index]:.6g} at {list(index)}, {(~close).sum()} of {close.size}"
    )


def _texts(array: Any) -> list[str]:
    """The strings of an array, which frameworks give as text or as UTF-8."""
    return [each.decode() if isinstance(each, bytes) else str(each) for each in array.reshape(-1).tolist()]


def _told(value: Any) -> str:
    if value is None:
        return "nothing"
    return f"a list of {len(value)}" if isinstance(value, list | tuple) else "a tensor"
