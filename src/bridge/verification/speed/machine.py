"""What else the machine does: readings of /proc/stat, where there is one (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STATISTICS = Path("/proc/stat")
_IDLE = (3, 4)
_STOLEN = 7
_COUNTED = 8
"""The fields of the first line up to the time stolen; time of guests is part of the user's (man 5 proc)."""


@dataclass(frozen=True)
class MachineTimes:
    """Seconds of all processors since the machine started: in all, busy, and taken by a hypervisor."""

    total: float
    busy: float
    stolen: float


def read_machine(statistics: Path = _STATISTICS) -> MachineTimes | None:
    """The times until now; None where the system does not tell."""
    try:
        with statistics.open(encoding="ascii") as file:
            name, *fields = file.readline().split()
        ticks = [int(each) for each in fields[:_COUNTED]]
    except (OSError, ValueError):
        return None
    if name != "cpu" or len(ticks) < _COUNTED:
        return None
    per_second = os.sysconf("SC_CLK_TCK")
    total = sum(ticks)
    idle = sum(ticks[each] for each in _IDLE)
    stolen = ticks[_STOLEN]
    return MachineTimes(total / per_second, (total - idle - stolen) / per_second, stolen / per_second)


def load_of_others(
    before: MachineTimes | None, after: MachineTimes | None, own_seconds: float
) -> tuple[float | None, float | None]:
    """The fractions of the machine that other processes used and a hypervisor took between two readings.

    `own_seconds` is the processor time of the workers meanwhile.
    """
    if before is None or after is None or after.total <= before.total:
        return None, None
    total = after.total - before.total
    others = max(after.busy - before.busy - own_seconds, 0.0)
    return min(others / total, 1.0), (after.stolen - before.stolen) / total
