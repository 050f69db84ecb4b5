"""The program that runs cases: names arrive as JSON lines on stdin, outcomes go to the reply pipe.

`python -m scripts.onnx_suite.worker ENGINE REPLY_FD`, where ENGINE is `torch`, `tf`, `onnxruntime` or
`onnx2torch`. A crash or a hang ends this process and no more; the caller starts another one.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError, UnsupportedOps
from bridge.worker.standalone import end_with_parent
from scripts.onnx_suite import cases, engines
from scripts.onnx_suite.compare import difference


def attempt(case: cases.SuiteCase, engine: str, directory: Path) -> dict[str, Any]:
    """The outcome of one case: `passed`, `wrong`, `random`, `refused` or `failed`, with the reason."""
    outcome: dict[str, Any] = {"case": case.name}
    started = time.perf_counter()
    try:
        if engine in ("torch", "tf"):
            emitted = engines.convert(case.model, engine, directory)
            run = engines.load(engine, directory, emitted)
        else:
            run = getattr(engines, f"{engine}_run")(case.model, directory)
    except UnsupportedOps as error:
        reasons = dict.fromkeys(f"{each.op_type}: {each.reason}" for each in error.ops)
        return {**outcome, "outcome": "refused", "reason": "; ".join(reasons)}
    except BridgeError as error:
        return {**outcome, "outcome": "refused", "reason": _one_line(error)}
    except Exception as error:  # an engine may fail in any way; each is an outcome
        kind = "failed" if engine in ("torch", "tf") else "refused"
        return {**outcome, "outcome": kind, "reason": f"converting: {_one_line(error)}"}
    outcome["seconds"] = time.perf_counter() - started
    for inputs, expected in case.data_sets():
        try:
            outputs = run(inputs)
        except Exception as error:
            return {**outcome, "outcome": "failed", "reason": f"running: {_one_line(error)}"}
        found = difference(outputs, expected, rtol=case.rtol, atol=case.atol)
        if found is not None and case.is_random:
            found = difference(outputs, expected, rtol=case.rtol, atol=case.atol, values=False)
        if found is not None:
            return {**outcome, "outcome": "wrong", "reason": found}
    return {**outcome, "outcome": "passed", "reason": ""}


def _one_line(error: BaseException) -> str:
    message = error.message if isinstance(error, BridgeError) else str(error)
    line = " ".join(message.split())[:300]
    return line if isinstance(error, BridgeError) else f"{type(error).__name__}: {line}"


def main(engine: str, reply_fd: int) -> None:
    end_with_parent(reply_fd)
    warnings.simplefilter("ignore")
    known = cases.collect()
    with os.fdopen(reply_fd, "w", encoding="utf-8") as replies:
        for line in sys.stdin:
            name = json.loads(line)["case"]
            with tempfile.TemporaryDirectory(prefix="bridge-case-") as directory:
                outcome = attempt(known[name], engine, Path(directory))
            replies.write(json.dumps(outcome) + "\n")
            replies.flush()
    os._exit(0)  # frameworks take long to shut down


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
