"""A child Python process that answers in JSON lines over a pipe of its own.

The pipe is separate from stdout and stderr, which a framework may write to at any time; those go to a
log file whose last lines explain a crash. The child leads its own process group, so that ending it
ends everything it started, and it ends by itself when its parent does. POSIX only.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.errors import EnvironmentFailure
from bridge.worker.failures import WorkerFailure
from bridge.worker.launch import Start, launch

_LONGEST_MESSAGE = 64 * 2**20
_POLL_SECONDS = 0.5
_TAIL_LINES = 12

_QUIET = {
    "ABSL_MIN_LOG_LEVEL": "3",
    "AUTOGRAPH_VERBOSITY": "0",
    "GLOG_minloglevel": "3",
    "KERAS_BACKEND": "tensorflow",
    "NO_COLOR": "1",
    "PYTHONHASHSEED": "0",
    "PYTHONUTF8": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}
"""What a worker's environment says over the user's: reproducible, quiet, Keras on TensorFlow."""


class WorkerProcess:
    """One child process; a context manager that leaves no process and no file behind.

    `command` gets the number of the reply pipe's descriptor appended as its last argument. `label` names the
    worker in messages ("read worker"). The worker's temporary files go to `scratch`, which is removed with
    it. Inside `bridge.worker.launch.launching` the process may be forked from one that is `prepared`, to
    become the `program`. It works in `directory`, by default the caller's. Raises EnvironmentFailure where
    the process cannot be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        label: str,
        environment: Mapping[str, str] | None = None,
        program: str | None = None,
        prepared: str | None = None,
        directory: str | None = None,
    ) -> None:
        self.label = label
        self._buffer = bytearray()
        self._directory = tempfile.TemporaryDirectory(prefix="bridge-worker-", ignore_cleanup_errors=True)
        self.scratch = Path(self._directory.name)
        self._log = self.scratch / "output.log"
        self._replies, replies = os.pipe()
        stdin, requests = os.pipe()
        self._requests = os.fdopen(requests, "wb")
        self._asked = time.monotonic()
        variables = {**os.environ, **_QUIET, "TMPDIR": str(self.scratch), **(environment or {})}
        try:
            with self._log.open("wb") as log:
                self._process = launch(
                    Start(
                        command, variables, stdin, log, replies, directory or os.getcwd(), program, prepared
                    )
                )
        except OSError as error:
            os.close(self._replies)
            self._requests.close()
            self._directory.cleanup()
            raise EnvironmentFailure(
                f"the {label} could not be started: {error.strerror}", where=command[0]
            ) from error
        finally:
            os.close(replies)
            os.close(stdin)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, message: Mapping[str, Any]) -> None:
        """Write one JSON line to the worker's stdin. Raises WorkerFailure where it has died."""
        self._asked = time.monotonic()
        try:
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self, *, deadline: float | None = None) -> dict[str, Any]:
        """The worker's next message.

        Raises WorkerFailure where it dies, sends none before `deadline` (of `time.monotonic`), or
        sends what is not a JSON object; the worker is ended in each case.
        """
        line = self._line(deadline)
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            self.kill()
            raise WorkerFailure(
                f"the {self.label} sent {bytes(line[:60])!r}, which is not a message", hint=self._last_words()
            )
        return message

    def _line(self, deadline: float | None) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_MESSAGE:
                self.kill()
                raise WorkerFailure(
                    f"the {self.label} sent a message of more than {_LONGEST_MESSAGE >> 20} MiB",
                    hint=self._last_words(),
                )
            remaining = _POLL_SECONDS if deadline is None else deadline - time.monotonic()
            if remaining <= 0:
                self.kill()
                raise WorkerFailure(
                    f"the {self.label} had not answered after {time.monotonic() - self._asked:.0f} seconds",
                    hint=self._last_words(),
                )
            exited = self._process.poll() is not None
            if select.select([self._replies], [], [], 0 if exited else min(remaining, _POLL_SECONDS))[0]:
                chunk = os.read(self._replies, 1 << 16)
                if not chunk:
                    raise self._death()
                self._buffer += chunk
            elif exited:
                raise self._death()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def _death(self) -> WorkerFailure:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        self.kill()
        if status is None:
            how = "closed its reply channel"
        elif status < 0:
            how = f"died from signal {signal.Signals(-status).name}"
        else:
            how = f"died with exit status {status}"
        hint = self._last_words()
        if status == -signal.SIGKILL:
            hint = f"the system kills a process this way when memory runs out; {hint}"
        return WorkerFailure(f"the {self.label} {how} before it answered", hint=hint)

    def _last_words(self) -> str:
        """The end of what the worker printed, for the hint of an error."""
        with self._log.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - 4096))
            lines = log.read().decode(errors="replace").splitlines()
        printed = [line.rstrip() for line in lines if line.strip()][-_TAIL_LINES:]
        return "\n  ".join(["its last output was:", *printed]) if printed else "it printed nothing"

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End the worker and everything it started, at once; harmless when it has ended."""
        self._process.end()

    def interrupt(self) -> None:
        """End it from another thread: whoever waits for it here gets a WorkerFailure."""
        self._process.interrupt()

    def close(self) -> None:
        """End the worker and remove its scratch directory."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self._requests.close()
        if self._replies >= 0:
            os.close(self._replies)
            self._replies = -1
        self._directory.cleanup()
