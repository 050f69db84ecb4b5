"""A pool of prepared processes, which workers are forked from instead of being started afresh."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from bridge.worker.code import framework_of
from bridge.worker.launch import Child, Start

_SIDES = "bridge.worker.sides"
PREPARED: Mapping[str, tuple[str, ...]] = {
    "torch": (
        "torch",
        "torch.export",
        f"{_SIDES}.torch_source",
        f"{_SIDES}.torch_emitted",
        f"{_SIDES}.torch_module",
    ),
    "tf": (
        "tensorflow",
        "keras",
        f"{_SIDES}.tf_source",
        f"{_SIDES}.tf_object",
    ),
    "onnx": ("onnx", "onnx.reference", "onnx_ir"),
    "task": ("bridge.api", "bridge.verification.api", "bridge.verification.report"),
}
"""What the prepared processes of every kind have imported.

It is no more than every worker of the kind imports, since a report lists what was imported. onnxruntime
starts threads when it is imported, and a process with threads is not to be forked.
"""

LARGEST = 8
"""How many prepared processes a pool has at most; what more kinds and environments need is started afresh."""

_PASSING = frozenset(
    {
        "TMPDIR",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
        "PYTEST_CURRENT_TEST",
        "COLUMNS",
        "LINES",
        "BASH_EXECUTION_STRING",
    }
)
"""Variables that no import looks at, and that may change from one worker to the next."""
_STARTS = 2
"""How often a prepared process of one kind is started: one that ended may end again."""
_PATIENCE = 10.0


def supported() -> bool:
    """Whether this system can fork prepared processes safely and say how they ended."""
    return sys.platform == "linux" and hasattr(os, "pidfd_open")


def prepared_for(loader: str, request: Mapping[str, Any]) -> str | None:
    """The kind of prepared process that a side can be forked from; None where it is to be started afresh.

    `loader` and `request` are what it will be asked to load. What is to run on a GPU is started afresh: a
    process that has looked for one cannot be forked.
    """
    if request.get("device") not in (None, "cpu") or not loader.startswith(f"{_SIDES}."):
        return None
    module = loader.removeprefix(f"{_SIDES}.").partition(":")[0]
    if module == "factory":
        return framework_of(request["path"])
    return {"torch": "torch", "tf": "tf", "saved": "tf", "onnx": "onnx"}.get(module.partition("_")[0])


@dataclass
class _Prepared:
    process: subprocess.Popen[bytes]
    address: str
    starts: int


class Pool:
    """Prepared processes, started when they are first asked for; a context manager.

    `Client(pool.address)` launches from it, in this process or in another one. The pool's end is the end of
    all its processes, and of all workers that they were forked into. Where the system does not support it,
    the pool stays empty, and everything is started afresh.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="bridge-pool-", ignore_cleanup_errors=True)
        self.address = str(Path(self._directory.name) / "pool")
        self._prepared: dict[str, _Prepared] = {}
        self._lifeline, self._other_end = os.pipe()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(self.address)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._serve, name="bridge pool", daemon=True)
        self._thread.start()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything that was started."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        os.close(self._other_end)
        for each in self._prepared.values():
            try:
                each.process.wait(timeout=_PATIENCE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
        os.close(self._lifeline)
        self._directory.cleanup()

    def _serve(self) -> None:
        """Answer clients: which socket takes requests for a kind and an environment."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    request = json.loads(connection.recv(1 << 20))
                    connection.send(json.dumps({"address": self._address(request)}).encode())
                except (OSError, ValueError):
                    continue

    def _address(self, request: Mapping[str, Any]) -> str | None:
        environment = {name: text for name, text in request["environment"].items() if name not in _PASSING}
        key = json.dumps([request["kind"], sorted(environment.items())])
        found = self._prepared.get(key)
        if found is not None and found.process.poll() is None:
            return found.address
        starts = 0 if found is None else found.starts
        if starts >= _STARTS or (found is None and len(self._prepared) >= LARGEST):
            return None
        name = f"{request['kind']}-{hashlib.sha256(key.encode()).hexdigest()[:12]}-{starts}"
        address = str(Path(self._directory.name) / name)
        self._prepared[key] = _Prepared(self._start(request, address), address, starts + 1)
        return address

    def _start(self, request: Mapping[str, Any], address: str) -> subprocess.Popen[bytes]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            # Clients wait in its queue until the imports are done.
            listener.bind(address)
            listener.listen(64)
            configuration = {
                "listener": listener.fileno(),
                "lifeline": self._lifeline,
                "path": request["path"],
                "modules": PREPARED[request["kind"]],
            }
            with Path(f"{address}.log").open("wb") as log:
                return subprocess.Popen(
                    [sys.executable, "-P", "-m", "bridge.worker.forking", json.dumps(configuration)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(listener.fileno(), self._lifeline),
                    start_new_session=True,
                    env=request["environment"],
                    cwd=self._directory.name,
                )


class Client:
    """A launcher that has the pool at an address fork what it can."""

    def __init__(self, address: str) -> None:
        self._pool = address

    def launch(self, start: Start) -> Child | None:
        """The forked process; None where the pool has none for it, or has ended."""
        if start.program is None or start.prepared is None or start.command[0] != sys.executable:
            return None
        environment = dict(start.environment)
        request = {
            "kind": start.prepared,
            "environment": environment,
            "path": [os.path.abspath(entry) for entry in sys.path if entry],
        }
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
                asking.connect(self._pool)
                asking.send(json.dumps(request).encode())
                address = json.loads(asking.recv(1 << 16))["address"]
            if address is None:
                connection.close()
                return None
            connection.connect(address)
            wanted = {"program": start.program, "directory": start.directory, "environment": environment}
            descriptors = [start.stdin, start.output.fileno(), start.replies]
            socket.send_fds(connection, [json.dumps(wanted).encode()], descriptors)
        except (OSError, ValueError):
            connection.close()
            return None
        return _Forked(connection)


class _Forked:
    """A worker that another process has forked."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._pid: int | None = None
        self._status: int | None = None

    def poll(self) -> int | None:
        while self._status is None and self._read(0):
            pass
        return self._status

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while self._status is None:
            rest = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._read(rest):
                raise subprocess.TimeoutExpired("worker", timeout or 0.0)
        return self._status

    def interrupt(self) -> None:
        with contextlib.suppress(OSError):
            if self._pid is None:
                self._connection.shutdown(socket.SHUT_RDWR)
            else:
                os.killpg(self._pid, signal.SIGKILL)

    def end(self) -> None:
        if self.poll() is not None:
            return
        if self._pid is None:
            # Whoever forks it later ends it at once, since its client has gone.
            self._connection.close()
            self._status = -signal.SIGKILL
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        self.wait()

    def _read(self, timeout: float | None) -> bool:
        """Take in the next message, if there is one within the time."""
        if not select.select([self._connection], [], [], timeout)[0]:
            return False
        try:
            message = self._connection.recv(1 << 16)
        except OSError:
            message = b""
        record = json.loads(message) if message else {"status": -signal.SIGKILL}
        self._pid = record.get("pid", self._pid)
        self._status = record.get("status", self._status)
        if self._status is not None:
            self._connection.close()
        return True
