"""The program that attempts cases: JSON lines on stdin, outcomes to the reply pipe.

`python -m scripts.onnx_suite.worker ENGINE MODE MEMORY REPLY_FD`: an engine of `engines`, a mode of
`modes`, a limit in bytes. A crash or a hang ends this process and no more; the caller starts another one.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Never

from bridge.worker.standalone import end_with_parent
from scripts.onnx_suite import cases
from scripts.onnx_suite.attempt import Attempt
from scripts.onnx_suite.outcome import Outcome
from scripts.onnx_suite.timing import Timing


def serve(attempt: Callable[[Mapping[str, Any], Path], Outcome], reply_fd: int) -> Never:
    """Answer every request on stdin with the outcome of `attempt`, which has a directory of its own."""
    with os.fdopen(reply_fd, "w", encoding="utf-8") as replies:
        for line in sys.stdin:
            with tempfile.TemporaryDirectory(prefix="bridge-case-") as directory:
                outcome = attempt(json.loads(line), Path(directory))
            replies.write(json.dumps(asdict(outcome)) + "\n")
            replies.flush()
    os._exit(0)  # frameworks take long to shut down


def main(engine: str, mode: str, memory: str, reply_fd: str) -> Never:
    end_with_parent(int(reply_fd))
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory), int(memory)))
    warnings.simplefilter("ignore")
    known = cases.collect()
    attempt = Timing() if mode == "timing" else Attempt(engine, mode)
    serve(lambda request, directory: attempt(known[request["case"]], directory, request), int(reply_fd))


if __name__ == "__main__":
    main(*sys.argv[1:])
