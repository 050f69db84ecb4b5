"""The time to convert, beside onnx2torch's, in one warm process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.onnx_suite import engines
from scripts.onnx_suite.cases import SuiteCase
from scripts.onnx_suite.outcome import Outcome

BAR = 5.0
"""How many times onnx2torch's median ours may be."""

_ROUNDS = 3


class Timing:
    """Converts a case with both, in turns, to something that can be called; the median of a few rounds.

    Ours is reading the file, all passes, writing model.py and the weights, and loading them.
    """

    def __init__(self) -> None:
        self._warm = False

    def __call__(self, case: SuiteCase, directory: Path, request: Mapping[str, Any]) -> Outcome:
        def ours() -> None:
            emitted = engines.convert(case.model, "torch", directory)
            engines.load("torch", directory, emitted)

        def theirs() -> None:
            engines.onnx2torch_module(case.model)

        try:
            theirs()
        except Exception as error:  # it fails in many ways on what it lacks
            return Outcome(case.name, "refused", excluded=f"onnx2torch cannot: {type(error).__name__}")
        try:
            ours()
        except Exception as error:  # as bridge may; which way does not matter here
            return Outcome(case.name, "failed", excluded=f"bridge cannot: {type(error).__name__}")
        if not self._warm:
            self._warm = True
            ours()
        rounds = [(_seconds(ours), _seconds(theirs)) for _ in range(_ROUNDS)]
        mine, peer = (statistics.median(each) for each in zip(*rounds, strict=True))
        return replace(Outcome(case.name, "passed"), seconds=mine, peer_seconds=peer)


def _seconds(call: Callable[[], None]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def report(outcomes: Sequence[Outcome]) -> tuple[str, bool]:
    """What was measured, in a line, and whether it reaches the bar."""
    timed = [each for each in outcomes if each.peer_seconds is not None]
    mine = statistics.median(each.seconds or 0.0 for each in timed)
    peer = statistics.median(each.peer_seconds or 0.0 for each in timed)
    text = (
        f"{len(timed)} cases that both convert, medians in one process: bridge {mine * 1000:.1f} ms, "
        f"onnx2torch {peer * 1000:.1f} ms, {mine / peer:.2f} times as long (bar: {BAR:.0f} times)"
    )
    return text, mine <= BAR * peer
