"""What a measurement of speed and memory is asked for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bridge.errors import InputError

DEFAULT_BATCHES = (1, 8)
DEFAULT_SECONDS = 30.0
MARGIN = 1.1
"""The ratio up to which two versions count as equally fast where no limit was asked for."""
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


@dataclass(frozen=True)
class SpeedSettings:
    """`batches` are the sizes of a dynamic axis 0, `seconds` what each row may be timed in all.

    `max_slowdown` and `max_memory` are limits for the target: a ratio to the source; for memory also an
    amount, such as `2GiB`. `compiled` adds rows with `torch.compile` and `jit_compile=True`, `training` rows
    of training steps. `processes` is the least number of fresh pairs of processes. `seed` decides the order
    of blocks.
    """

    batches: Sequence[int] | None = None
    seconds: float = DEFAULT_SECONDS
    max_slowdown: float | None = None
    max_memory: str | float | None = None
    compiled: bool = False
    training: bool = False
    processes: int = 3
    seed: int = 0

    @property
    def margin(self) -> float:
        """The ratio up to which two versions count as equally fast."""
        return MARGIN if self.max_slowdown is None else max(self.max_slowdown, 1 / self.max_slowdown)

    def check(self) -> None:
        """Raise InputError for numbers that mean nothing, before anything is started."""
        if self.max_slowdown is not None and not 0 < self.max_slowdown < float("inf"):
            raise InputError(
                f"a slowdown cannot be limited to {self.max_slowdown:g}",
                hint="give the ratio of the target's time to the source's, such as 1.1",
            )
        if self.max_memory is not None:
            memory_limit(self.max_memory)
        if not self.seconds > 0:
            raise InputError(
                f"{self.seconds:g} seconds are no time to measure in", hint="give --speed-seconds 30"
            )
        if any(size < 1 for size in self.batches or ()):
            raise InputError("a batch has at least one sample", hint="give --speed-batch 1,8")


def speed_settings(
    speed: bool,
    *,
    batches: Sequence[int] | None,
    seconds: float | None,
    compiled: bool,
    max_slowdown: float | None,
    max_memory: str | float | None,
    training: bool,
    seed: int,
) -> SpeedSettings | None:
    """What the API and the command line ask for; None where no speed is. A limit asks for it.

    Raises InputError for numbers that mean nothing, and for details of a measurement that nobody asked for.
    """
    if not speed and max_slowdown is None and max_memory is None:
        if compiled or batches is not None or seconds is not None:
            raise InputError(
                "how to measure the speed was said, but not to measure it", hint="add --speed (speed=True)"
            )
        return None
    settings = SpeedSettings(
        batches=batches,
        seconds=DEFAULT_SECONDS if seconds is None else seconds,
        max_slowdown=max_slowdown,
        max_memory=max_memory,
        compiled=compiled,
        training=training,
        seed=seed,
    )
    settings.check()
    return settings


@dataclass(frozen=True)
class MemoryLimit:
    """A limit as it was given, as a ratio to the source or in bytes."""

    text: str
    ratio: float | None
    size: int | None


def memory_limit(given: str | float) -> MemoryLimit:
    """Read `1.2` (a ratio) or `2GiB`, `500MB` (an amount). Raises InputError for anything else."""
    text = f"{given:g}" if isinstance(given, int | float) else given.strip()
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([KMG]I?)?(B)|([KMG]I?))?", text, re.IGNORECASE)
    if found is None or float(found[1]) == 0:
        raise InputError(
            f"{text!r} is no limit of memory",
            hint="give a ratio to the source, such as 1.2, or an amount, such as 2GiB",
        )
    unit = (found[2] or found[4] or "").upper()
    if not unit and found[3] is None:
        return MemoryLimit(text, float(found[1]), None)
    return MemoryLimit(text, None, round(float(found[1]) * _UNITS[unit]))
