"""Sessions that stay open between verifications of the same two versions."""

from __future__ import annotations

import dataclasses
import json
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from bridge.verification.parties import Party
from bridge.verification.session import Session
from bridge.worker.named_files import named_files

_MOST = 2


class Sessions:
    """The sessions that were used last; a context manager that closes them.

    Inside `keeping(sessions)` a verification finds the workers of an earlier one with both models loaded, if
    it is of the same files, unchanged since, in the same way. Live objects are exported each time, since
    nobody can see whether they have changed.
    """

    def __init__(self, most: int = _MOST) -> None:
        self._most = most
        self._open: OrderedDict[str, Session] = OrderedDict()

    def __enter__(self) -> Sessions:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def find(self, source: Party, target: Party, options: dict[str, Any]) -> Session:
        """The session of two versions, opened if there is none."""
        key = json.dumps([_state(source), _state(target), options], default=str)
        session = self._open.pop(key, None) or Session(source, target, **options)
        self._open[key] = session
        if len(self._open) > self._most:
            self._open.popitem(last=False)[1].close()
        return session


_sessions: ContextVar[Sessions | None] = ContextVar("sessions", default=None)


@contextmanager
def keeping(sessions: Sessions) -> Iterator[None]:
    """Let the verifications inside share `sessions`."""
    token = _sessions.set(sessions)
    try:
        yield
    finally:
        _sessions.reset(token)


@contextmanager
def opened(source: Party, target: Party, **options: Any) -> Iterator[Session]:
    """A session: a kept one inside `keeping`, otherwise one that is closed afterwards."""
    sessions = _sessions.get()
    if sessions is not None:
        options.pop("on_progress", None)
        yield sessions.find(source, target, options)
        return
    with Session(source, target, **options) as session:
        yield session


def _state(party: Party) -> list[Any]:
    """What a loaded version depends on: how it was asked for, and the time stamps of its files."""
    named = [party.path, *(each for each in party.request.values() if isinstance(each, str))]
    files = sorted({file for text in named for file in named_files(text)})
    stamps = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return [dataclasses.asdict(party), stamps]
