"""Timing two functions in turn in one process."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

BLOCK = 0.004
"""Seconds that one turn of a function lasts at least."""

SIZES = tuple((steps, batch) for steps in (16, 128) for batch in (1, 32))


def in_turns(
    ours: Callable[[], object], native: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Seconds per call of both, measured in turn; which one begins alternates as well."""
    repeats = 1
    for function in (ours, native):
        function()
        started = time.perf_counter()
        function()
        repeats = max(repeats, int(BLOCK / max(time.perf_counter() - started, 1e-7)))
    series: tuple[list[float], list[float]] = ([], [])
    gc.disable()
    try:
        for turn in range(rounds + 2):
            for index in (0, 1) if turn % 2 else (1, 0):
                function = (ours, native)[index]
                started = time.perf_counter()
                for _ in range(repeats):
                    function()
                series[index].append((time.perf_counter() - started) / repeats)
    finally:
        gc.enable()
    return series[0][2:], series[1][2:]
