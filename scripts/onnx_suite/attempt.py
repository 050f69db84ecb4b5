"""Attempting one case: convert it, run it, compare; then what a mode asks of the converted model."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bridge.errors import BridgeError, UnsupportedOps
from scripts.onnx_suite import engines, modes
from scripts.onnx_suite.cases import SuiteCase, write_value
from scripts.onnx_suite.compare import difference
from scripts.onnx_suite.exactness import is_rounding
from scripts.onnx_suite.outcome import Outcome

_GRAPH_ERROR = "Graph execution error"
"""How TensorFlow begins where a graph fails; then come its stack and, in a last paragraph, the reason."""


class Attempt:
    """Attempts cases with one engine in one mode, in this process."""

    def __init__(self, engine: str, mode: str) -> None:
        self._engine = engine
        self._name = mode
        self._mode = modes.start(engine, mode)

    def __call__(self, case: SuiteCase, directory: Path, request: Mapping[str, Any]) -> Outcome:
        """The outcome of a case. `request` may name a directory to `store` the outputs in."""
        started = time.perf_counter()
        try:
            if self._engine in engines.PEERS:
                emitted, run = None, engines.PEERS[self._engine](case.model)
            else:
                target = cast(engines.Target, self._engine)
                emitted = engines.convert(case.model, target, directory)
                run = engines.load(target, directory, emitted)
        except Exception as error:  # an engine may fail in any way; each is an outcome
            outcome = self._not_converted(case, error)
            return outcome if self._mode is None else modes.not_reached(outcome)
        seconds = time.perf_counter() - started
        outcome = replace(_judge(case, run, request.get("store")), seconds=seconds)
        if self._mode is None or emitted is None:
            return outcome
        if not outcome.passes:
            return modes.not_reached(outcome)
        return modes.judge(self._name, self._mode, modes.Converted(case, directory, emitted, run), outcome)

    def _not_converted(self, case: SuiteCase, error: Exception) -> Outcome:
        if isinstance(error, UnsupportedOps):
            reasons = dict.fromkeys(f"{each.op_type}: {each.reason}" for each in error.ops)
            return Outcome(case.name, "refused", "; ".join(reasons))
        if isinstance(error, BridgeError) or self._engine in engines.PEERS:
            return Outcome(case.name, "refused", told(error))
        return Outcome(case.name, "failed", f"converting: {told(error)}")


def _judge(case: SuiteCase, run: engines.Run, store: str | None) -> Outcome:
    random = case.is_random
    for number, (inputs, expected) in enumerate(case.data_sets()):
        try:
            outputs = run(inputs)
        except Exception as error:  # as above
            return Outcome(case.name, "failed", f"running: {told(error)}")
        found = difference(outputs, expected, rtol=case.rtol, atol=case.atol, values=not random)
        if found is not None:
            rounding = not random and is_rounding(case.model, inputs, outputs, expected)
            return Outcome(case.name, "rounding" if rounding else "wrong", found)
        if store is not None:
            for index, output in enumerate(outputs):
                write_value(output, Path(store) / f"{case.name}-{number}-{index}.pb")
    return Outcome(case.name, "random" if random else "passed")


def told(error: BaseException) -> str:
    """An error in one line, without what differs from run to run."""
    message = error.message if isinstance(error, BridgeError) else str(error)
    if message.startswith(_GRAPH_ERROR):
        message = re.sub(r"\[\[.*", "", message.rsplit("\n\n", 1)[-1], flags=re.DOTALL)
    line = " ".join(message.split())[:300]
    return line if isinstance(error, BridgeError) else f"{type(error).__name__}: {line}"
