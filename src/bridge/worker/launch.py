"""How a worker's process comes to be: started afresh, or forked from one that has imported what it needs.

Afresh is the default. Inside `with launching(pool):` the workers that say what they could be `prepared` with
are forked by the pool (`bridge.worker.pool`) where it can.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import BinaryIO, Protocol


class Child(Protocol):
    """A running process. `poll` and `wait` are those of `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def end(self) -> None:
        """End it and everything it started, at once; harmless when it has ended."""

    def interrupt(self) -> None:
        """The same from another thread, without waiting for it."""


class Started:
    """A process that was started afresh, the leader of its own group."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self._process.wait(timeout)

    def interrupt(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@dataclass(frozen=True)
class Start:
    """A process that is wanted.

    `command` starts it afresh; the number of the descriptor that it replies on is appended. `prepared` is
    the kind of prepared process (a key of `bridge.worker.pool.PREPARED`) that could be forked instead, and
    `program` what the fork is to become (`side`, `task`); None where only the command will do.
    `environment` is all of it, `directory` where it works. `stdin`, `output` and `replies` are descriptors.
    """

    command: Sequence[str]
    environment: Mapping[str, str]
    stdin: int
    output: BinaryIO
    replies: int
    directory: str
    program: str | None = None
    prepared: str | None = None


class Launcher(Protocol):
    """Something that may start a process in another way; None where it cannot start this one."""

    def launch(self, start: Start) -> Child | None: ...


_launcher: ContextVar[Launcher | None] = ContextVar("launcher", default=None)


@contextlib.contextmanager
def launching(launcher: Launcher) -> Iterator[None]:
    """Let `launcher` start what it can of the processes that are started inside."""
    token = _launcher.set(launcher)
    try:
        yield
    finally:
        _launcher.reset(token)


def launch(start: Start) -> Child:
    """Start a process. Raises OSError where it cannot be started."""
    launcher = _launcher.get()
    child = None if launcher is None or start.prepared is None else launcher.launch(start)
    return child or _afresh(start)


def _afresh(start: Start) -> Child:
    return Started(
        subprocess.Popen(
            [*start.command, str(start.replies)],
            stdin=start.stdin,
            stdout=start.output,
            stderr=start.output,
            pass_fds=(start.replies,),
            start_new_session=True,
            env=dict(start.environment),
            cwd=start.directory,
        )
    )
