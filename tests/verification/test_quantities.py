from __future__ import annotations

import pytest

from bridge.verification.quantities import duration, number, rounded, size


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ns"),
        (3e-8, "30 ns"),
        (2.5e-6, "2.5 µs"),
        (0.0123, "12.3 ms"),
        (1.0, "1 s"),
        (1500.4, "1,500 s"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (150 << 20, "150 MiB"), (3 << 40, "3,072 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("value", "text"), [(0.01251, "0.0125"), (96.64, "96.6"), (26180.3, "26,180")])
def test_rounded(value: float, text: str) -> None:
    assert rounded(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (float("inf"), "∞"),
        (0.0, "0"),
        (6.12e-8, "6.1e-8"),
        (0.003, "0.003"),
        (123.4, "123"),
        (2e5, "2.0e5"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert number(value) == text
