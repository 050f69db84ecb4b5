"""Times, sizes and counts as people read them."""

from __future__ import annotations

import math


def rounded(value: float) -> str:
    """Three digits, whole from 100 on: `0.0125`, `96.6`, `26,180`."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them: `1.25 ms`."""
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if abs(seconds) * factor >= 1:
            return f"{rounded(seconds * factor)} {unit}"
    return f"{rounded(seconds * 1e9)} ns"


def size(count_of_bytes: float) -> str:
    """Bytes in the unit that suits them: `1.5 MiB`, `12 bytes`."""
    for power, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if abs(count_of_bytes) >= 2**power:
            return f"{rounded(count_of_bytes / 2**power)} {unit}"
    return f"{count_of_bytes:.0f} bytes"


def number(value: float | None, missing: str = "-") -> str:
    """Two digits: `6.1e-8`, `0.003`, `0`, `∞`."""
    if value is None:
        return missing
    if math.isinf(value):
        return "∞"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    mantissa, _, exponent = f"{value:.1e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
