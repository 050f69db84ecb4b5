"""What was measured of the speed and memory of two versions of a model. Seconds and bytes throughout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Mode = Literal["inference", "training step"]
Variant = Literal["plain", "compiled"]
Decision = Literal["faster", "slower", "equal", "undecided"]
"""Of the target: `equal` within the margin, `undecided` where the interval does not tell."""
Reading = Literal["wall", "cpu"]
"""The clock that a decision rests on: wall time, or the processor time of the worker."""
GateState = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Threads:
    """How many threads a version computed with: what was asked for, and what its framework reports.

    `within` are those of one operator (intra-op), `between` those that run operators side by side
    (inter-op); None where the framework does not tell.
    """

    asked: int
    within: int | None
    between: int | None


@dataclass(frozen=True)
class SpeedSide:
    """What the rows of one side have in common.

    `what` is the object that was timed and `timed` what lies between the two readings of the clock, in
    words. `load_seconds` are those of reading the model without the import of its framework, `import_seconds`
    those of that import, medians over the processes. `disk_bytes` is the size of the model's files, None
    where it is no file. `import_bytes` is the resident memory of the process before the model is loaded,
    what all memory is counted from, `loaded_bytes` what the loaded model adds to it, and `load_peak_bytes`
    the most that it took while it was loaded.
    """

    what: str
    timed: str
    device: str
    threads: Threads
    import_seconds: float
    load_seconds: float
    disk_bytes: int | None
    import_bytes: int
    loaded_bytes: int
    load_peak_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SideSpeed:
    """One side in one row.

    `samples` are the wall seconds of calls in the order of time, over all processes, evenly thinned to at
    most 1,000; `calls` is how many were timed. Calls shorter than 20 microseconds are timed in groups, and a
    sample is the mean of one. `p95` is the sample that 95 % do not exceed. `throughput` is in elements of the
    batch per second. `first_call_seconds` is the median over the processes of the very first call; of a
    compiled version it is that of the first process, compilation included. `cpu_median` is the processor time
    of a call. `device_median` is that between two events on the accelerator, None on a CPU.
    """

    samples: tuple[float, ...]
    calls: int
    median: Estimate
    p95: float
    throughput: Estimate
    first_call_seconds: float
    cpu_median: float | None = None
    device_median: float | None = None


@dataclass(frozen=True)
class Ratio:
    """Target through source, with its 95 % interval.

    `processes` are the ratios of the pairs of processes: the spread between them is part of the interval.
    """

    estimate: Estimate
    reading: Reading
    processes: tuple[float, ...]
    rounds: int


@dataclass(frozen=True)
class Noise:
    """How quiet the machine was while a row was measured, as fractions.

    `spread` is how far two blocks of the same version, measured a moment apart, differ: a robust standard
    deviation, relative. `waiting` is the time that the workers' threads were ready but had no processor,
    relative to wall time; `stolen` what a hypervisor took away; `others` how much of the machine other
    processes used. None where the system does not tell.
    """

    spread: float
    waiting: float | None
    stolen: float | None
    others: float | None


@dataclass(frozen=True)
class SideMemory:
    """The most memory that one side took while a row ran, above its process before the model was loaded.

    `peak_bytes` is resident memory. `device_bytes` is the most that the framework allocated on the
    accelerator, None on a CPU.
    """

    peak_bytes: int
    device_bytes: int | None = None

    @property
    def counted(self) -> int:
        """What is compared: the accelerator's memory where there is one."""
        return self.peak_bytes if self.device_bytes is None else self.device_bytes


@dataclass(frozen=True)
class MemoryUse:
    """The memory of both sides in a row. `ratio` is target through source, None where that means nothing."""

    source: SideMemory | None
    target: SideMemory | None
    ratio: float | None


@dataclass(frozen=True)
class SpeedRow:
    """One way to run both versions: inference or a training step, plain or compiled, at one batch size.

    `batch` is the size of axis 0, None where the inputs have no batch. A side that cannot run this way is
    None, and the `notes` say why; then `ratio` is None too and `decided` is "undecided". `sentence` says what
    was found in words. `ratio` is what the decision rests on, by the clock that it names; `wall` is that of
    wall time.
    """

    mode: Mode
    variant: Variant
    batch: int | None
    source: SideSpeed | None
    target: SideSpeed | None
    ratio: Ratio | None
    wall: Ratio | None
    noise: Noise | None
    memory: MemoryUse
    decided: Decision
    sentence: str
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The row in words: `inference, compiled, batch 8`."""
        parts = [self.mode, *(["compiled"] if self.variant == "compiled" else [])]
        return ", ".join([*parts, *([] if self.batch is None else [f"batch {self.batch}"])])


@dataclass(frozen=True)
class Gate:
    """A limit that was asked for, and whether a row keeps it.

    `kind` is "slowdown" or "memory", `limit` the limit as it was given ("1.1", "2GiB"), `row` the label of
    the row, `value` the ratio or the bytes that it was held against. `reason` is a sentence.
    """

    kind: Literal["slowdown", "memory"]
    limit: str
    row: str
    state: GateState
    value: float | None
    reason: str


@dataclass(frozen=True)
class SpeedResult:
    """All rows. `margin` is the ratio up to which two versions count as equally fast (1.1: 10 %).

    `processes` is how many fresh pairs of processes were measured, `seconds` how long all of it took,
    `budget` the seconds that each row was given.
    """

    rows: tuple[SpeedRow, ...]
    source: SpeedSide | None
    target: SpeedSide | None
    margin: float
    processes: int
    seconds: float
    budget: float
    gates: tuple[Gate, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[str, ...]:
        """Why a gate is not passed, by row."""
        return tuple(self._reasons("failed"))

    @property
    def undecided(self) -> tuple[str, ...]:
        """Which gates could not be decided, and why."""
        return tuple(self._reasons("undecided"))

    def _reasons(self, state: GateState) -> Iterator[str]:
        return (each.reason for each in self.gates if each.state == state)
