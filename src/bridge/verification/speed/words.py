"""A measurement of speed and memory as lines of text."""

from __future__ import annotations

from collections.abc import Iterator

from bridge.verification.quantities import duration, rounded, size
from bridge.verification.speed.result import SideMemory, SideSpeed, SpeedResult, SpeedSide


def speed_lines(result: SpeedResult) -> list[str]:
    """What was found about each row, the figures of both sides below it, and what the rows share."""
    lines = []
    for row in result.rows:
        lines.append(f"{row.label}: {row.sentence}")
        for name, side, memory in (
            ("source", row.source, row.memory.source),
            ("target", row.target, row.memory.target),
        ):
            if side is not None:
                lines.append(f"  {name}: {', '.join(_figures(side, memory))}")
        lines += [f"  {note}" for note in row.notes if note not in row.sentence]
    for name, shared in (("source", result.source), ("target", result.target)):
        if shared is not None:
            lines.append(f"{name}: {', '.join(_shared(shared))}")
    return [*lines, *result.notes]


def _figures(side: SideSpeed, memory: SideMemory | None) -> Iterator[str]:
    median = side.median
    yield f"median {duration(median.value)} ({duration(median.low)} to {duration(median.high)})"
    yield f"95 % within {duration(side.p95)}"
    if side.device_median is not None:
        yield f"{duration(side.device_median)} of it on the device"
    yield f"{rounded(side.throughput.value)} samples a second"
    yield f"first call {duration(side.first_call_seconds)}"
    if memory is not None:
        where = "" if memory.device_bytes is None else " on the device"
        yield f"{size(memory.counted)}{where}"


def _shared(side: SpeedSide) -> Iterator[str]:
    threads = side.threads.asked if side.threads.within is None else side.threads.within
    yield f"{threads} thread{'' if threads == 1 else 's'} on {side.device}"
    yield f"loaded in {duration(side.load_seconds)} after {duration(side.import_seconds)} of imports"
    yield f"{size(side.loaded_bytes)} loaded, {size(side.load_peak_bytes)} meanwhile"
    if side.disk_bytes is not None:
        yield f"{size(side.disk_bytes)} on disk"
    yield f"timed: {side.timed}"
