"""A prepared process: it has imported a framework, and forks itself into workers, each as good as new.

`python -P -m bridge.worker.forking CONFIGURATION` is started by `bridge.worker.pool.Pool`, one for each kind
of worker and environment. Importing takes seconds and a fork milliseconds. Nothing of one worker reaches
another: each starts from the same memory, that after the imports, in which no operation of a framework
has run yet. Linux only.

A client connects, sends one message with three descriptors (stdin, output, replies), and is told the
worker's process id and later its exit status. A client that goes away takes its worker with it; the end of
the pool, which the lifeline tells, takes all.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Never

from bridge.worker import main as task
from bridge.worker import standalone

LONGEST_MESSAGE = 1 << 20
DESCRIPTORS = 3

_PROGRAMS: Mapping[str, Callable[[int], None]] = {"side": standalone.serve, "task": task.main}
"""What a worker can become."""


def main(configuration: Mapping[str, Any]) -> None:
    """Import the `modules` of the configuration, and fork on request until the pool has ended."""
    path = list(sys.path)
    sys.path.extend(entry for entry in configuration["path"] if entry not in sys.path)
    for name in configuration["modules"]:
        # What cannot be imported here fails again in the worker that needs it, where it is reported.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    sys.path[:] = path
    gc.collect()
    gc.freeze()
    _Server(socket.socket(fileno=configuration["listener"]), configuration["lifeline"]).serve()


class _Server:
    def __init__(self, listener: socket.socket, lifeline: int) -> None:
        self._listener = listener
        self._lifeline = lifeline
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ, None)
        self._selector.register(lifeline, selectors.EVENT_READ, None)
        self._workers: dict[int, socket.socket] = {}

    def serve(self) -> None:
        while True:
            for key, _ in self._selector.select():
                if key.fileobj is self._listener:
                    self._start()
                elif key.fileobj == self._lifeline:
                    for pid in self._workers:
                        _end(pid)
                    return
                elif key.fileobj in self._workers.values():
                    self._selector.unregister(key.fileobj)  # the client has gone
                    _end(key.data)
                else:
                    self._report(key.data, int(key.fd))

    def _start(self) -> None:
        connection, _ = self._listener.accept()
        try:
            message, descriptors, _, _ = socket.recv_fds(connection, LONGEST_MESSAGE, DESCRIPTORS)
        except OSError:
            connection.close()
            return
        if len(descriptors) != DESCRIPTORS:
            connection.close()
            return
        pid = os.fork()
        if pid == 0:
            connection.close()
            self._close()
            _become(json.loads(message), descriptors)
        for each in descriptors:
            os.close(each)
        self._workers[pid] = connection
        self._selector.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        self._selector.register(connection, selectors.EVENT_READ, pid)
        _tell(connection, {"pid": pid})

    def _report(self, pid: int, descriptor: int) -> None:
        """Say how a worker ended."""
        self._selector.unregister(descriptor)
        os.close(descriptor)
        _, status = os.waitpid(pid, 0)
        connection = self._workers.pop(pid)
        _tell(connection, {"status": os.waitstatus_to_exitcode(status)})
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)
        connection.close()

    def _close(self) -> None:
        """In a worker: let go of everything that belongs to the server."""
        for key in list(self._selector.get_map().values()):
            if key.fileobj is not self._listener and key.fileobj not in self._workers.values():
                os.close(key.fd)
        for connection in self._workers.values():
            connection.close()
        self._listener.close()
        self._selector.close()


def _become(request: Mapping[str, Any], descriptors: Sequence[int]) -> Never:
    """Turn this process, just forked, into the worker that was asked for; it never returns."""
    status = 1
    try:
        os.setsid()
        given, output, replies = descriptors
        for descriptor, place in ((given, 0), (output, 1), (output, 2)):
            os.dup2(descriptor, place)
        os.close(given)
        os.close(output)
        os.chdir(request["directory"])
        os.environ.clear()
        os.environ.update(request["environment"])
        tempfile.tempdir = None
        sys.argv[1:] = [str(replies)]
        if "numpy" in sys.modules:
            sys.modules["numpy"].random.seed()
        _PROGRAMS[request["program"]](replies)
        sys.stdout.flush()
        sys.stderr.flush()
        status = 0
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _end(pid: int) -> None:
    """End a worker and what it started; before its `setsid` it has no group yet."""
    for end in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError):
            end(pid, signal.SIGKILL)


def _tell(connection: socket.socket, message: Mapping[str, Any]) -> None:
    with contextlib.suppress(OSError):
        connection.send(json.dumps(message).encode())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
