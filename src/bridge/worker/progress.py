"""Progress of a task, reported from deep inside without passing a callback through every call."""

from __future__ import annotations

from collections.abc import Callable

_sink: Callable[[str], None] | None = None


def report(text: str) -> None:
    """Say in a few words what is being done now; does nothing outside a worker."""
    if _sink is not None:
        _sink(text)


def set_sink(sink: Callable[[str], None] | None) -> None:
    """Send later reports to `sink` (the worker's reply channel); None drops them."""
    global _sink
    _sink = sink
