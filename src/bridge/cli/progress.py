"""Saying what is being done, on stderr, once it takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.status import Status

PATIENCE = 2.0
"""Seconds that may pass in silence."""


class Progress:
    """Shows the current stage: a spinner on a terminal, a line a stage elsewhere, nothing if quiet.

    Call it with a few words whenever a stage begins.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._lock = threading.Lock()
        self._stage = "starting"
        self._shown = False
        self._status: Status | None = None
        self._timer = threading.Timer(PATIENCE, self._begin)
        self._timer.daemon = True
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        if not self._quiet:
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        with self._lock:
            self._shown = False
            if self._status is not None:
                self._status.stop()
                self._status = None

    def __call__(self, stage: str) -> None:
        with self._lock:
            self._stage = stage
            if self._shown:
                self._show()

    def _begin(self) -> None:
        with self._lock:
            self._shown = True
            self._show()

    def _show(self) -> None:
        if not sys.stderr.isatty():
            print(f"{time.monotonic() - self._started:6.1f} s  {self._stage}", file=sys.stderr, flush=True)
            return
        from rich.console import Console
        from rich.markup import escape

        text = f"{escape(self._stage)}…"
        if self._status is None:
            self._status = Console(stderr=True).status(text)
            self._status.start()
        else:
            self._status.update(text)
