"""The program of a task worker: `python -P -m bridge.worker.main REPLY_FD`, request on stdin.

Imports nothing but the standard library before the task's own module.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from typing import Any, Never

from bridge.worker import progress
from bridge.worker.standalone import detach_stdin, end_with_parent, error_record, peak_memory


def main(reply_fd: int) -> Never:
    """Run the task that stdin names, write its progress and its reply, and end the process."""
    os.set_inheritable(reply_fd, False)
    end_with_parent(reply_fd)
    replies = os.fdopen(reply_fd, "w", encoding="utf-8")
    lock = threading.Lock()

    def send(message: dict[str, Any]) -> None:
        text = json.dumps(message)
        with lock:
            replies.write(text + "\n")
            replies.flush()

    progress.set_sink(lambda text: send({"progress": text}))
    try:
        request = json.loads(sys.stdin.readline())
        detach_stdin()
        sys.path.extend(entry for entry in request["path"] if entry not in sys.path)
        module, _, function = request["function"].partition(":")
        result = getattr(importlib.import_module(module), function)(request["request"])
        send({"result": result, "peak_bytes": peak_memory()})
    except (Exception, SystemExit) as error:
        send({"error": error_record(error)})
    sys.stdout.flush()
    sys.stderr.flush()
    # Frameworks take long to shut down and sometimes crash doing so; the reply is already sent.
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
