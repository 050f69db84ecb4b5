"""Running cases in worker processes that may crash or hang without harm."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bridge.errors import EnvironmentFailure
from bridge.worker.process import WorkerProcess
from scripts.onnx_suite.outcome import Outcome

START_SECONDS = 180.0
"""A worker imports its framework and generates the suite before its first case."""


def worker_command(engine: str, mode: str, memory: int) -> list[str]:
    """The program that attempts cases; `memory` is its limit in bytes."""
    return [sys.executable, "-m", "scripts.onnx_suite.worker", engine, mode, str(memory)]


class Worker:
    """One worker process, started anew after a crash or a time-out."""

    def __init__(self, command: Sequence[str], limit: float) -> None:
        self._command = command
        self._limit = limit
        self._process: WorkerProcess | None = None

    def attempt(self, name: str, options: dict[str, Any]) -> Outcome:
        """The outcome of a case, given `limit` seconds."""
        fresh = self._process is None
        if self._process is None:
            self._process = WorkerProcess(
                self._command, label="conformance worker", environment={"OMP_NUM_THREADS": "1"}
            )
        started = time.monotonic()
        limit = self._limit + (START_SECONDS if fresh else 0.0)
        try:
            self._process.send({"case": name, **options})
            return Outcome(**self._process.receive(deadline=started + limit))
        except EnvironmentFailure as error:
            self.close()
            if time.monotonic() - started >= limit:
                return Outcome(name, "timed out", f"over {self._limit:.0f} s")
            return Outcome(name, "crashed", error.message)

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def run_cases(
    command: Sequence[str],
    names: Sequence[str],
    *,
    jobs: int,
    limit: float,
    options: dict[str, Any] | None = None,
    on_outcome: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """The outcomes of cases, in their order; `options` go to the worker with every case."""
    local = threading.local()
    workers: list[Worker] = []

    def attempt(name: str) -> Outcome:
        if not hasattr(local, "worker"):
            local.worker = Worker(command, limit)
            workers.append(local.worker)
        outcome: Outcome = local.worker.attempt(name, options or {})
        return outcome

    try:
        with ThreadPoolExecutor(jobs) as pool:
            outcomes = []
            for outcome in pool.map(attempt, names):
                outcomes.append(outcome)
                on_outcome(outcome)
            return outcomes
    finally:
        for worker in workers:
            worker.close()
