"""Run one function in a fresh process: the frameworks stay apart, and a crash stays there."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bridge.errors import EnvironmentFailure
from bridge.worker.failures import from_record
from bridge.worker.process import WorkerProcess


def run_task(
    function: str,
    request: dict[str, Any],
    *,
    label: str,
    timeout: float | None = None,
    on_progress: Callable[[str], None] | None = None,
    python: str | None = None,
    prepared: str | None = None,
    directory: str | None = None,
    on_start: Callable[[WorkerProcess], None] | None = None,
) -> dict[str, Any]:
    """Call `function` (`package.module:name`) with `request` in a fresh Python process.

    The function takes one JSON object and returns one; large arrays go through files that the
    request names. It reports progress with `bridge.worker.progress.report`. The process runs with
    PYTHONHASHSEED=0 in `directory`, by default the caller's working directory, which it can import from
    (last, so that no file there hides an installed package). Its temporary files vanish with it. `label`
    names the worker in messages, `python` is another interpreter that has bridge installed. `prepared` is
    the kind of prepared process that may be forked instead of starting one (`bridge.worker.launch`).
    `on_start` is called with the process, which another thread may interrupt.

    Returns the function's object, with `_stats` added: `seconds` (wall, start-up included) and
    `peak_bytes` (largest resident memory).

    Raises the same BridgeError that the function raised, with the worker's traceback as its cause;
    EnvironmentFailure where the worker crashed, was killed, ran longer than `timeout` seconds or
    answered with something else than an object.
    """
    path = [directory or os.getcwd()]
    if python is None:
        path += [os.path.abspath(entry) for entry in sys.path if entry]
    started = time.monotonic()
    deadline = None if timeout is None else started + timeout
    command = [python or sys.executable, "-P", "-m", "bridge.worker.main"]
    with WorkerProcess(
        command, label=label, program="task", prepared=prepared, directory=directory
    ) as worker:
        if on_start is not None:
            on_start(worker)
        worker.send({"function": function, "request": request, "path": path})
        while True:
            message = worker.receive(deadline=deadline)
            if "progress" in message:
                if on_progress is not None:
                    on_progress(str(message["progress"]))
            elif "error" in message:
                raise from_record(message["error"], label=label)
            elif isinstance(message.get("result"), dict):
                stats = {"seconds": time.monotonic() - started, "peak_bytes": message["peak_bytes"]}
                return {**message["result"], "_stats": stats}
            else:
                raise EnvironmentFailure(f"the {label} answered with something else than an object")
