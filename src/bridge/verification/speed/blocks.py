"""Timing one row in one pair of processes: warm up, then blocks of both sides in turn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Literal, Protocol

from bridge.verification.answers import Refusal, attempt
from bridge.verification.speed.machine import MachineTimes, load_of_others, read_machine
from bridge.verification.speed.result import Mode, Reading, Variant
from bridge.verification.speed.statistics import Round, locate
from bridge.worker.side import OpenTiming, TimedBlock

Role = Literal["source", "target"]
ROLES: tuple[Role, Role] = ("source", "target")

BLOCK_SECONDS = 0.05
"""How long a block is to take: many ticks of any clock, and short beside what other processes do."""
_RESOLVED = 2e-5
"""A sample is to take at least this long: a reading of the clock takes less than a hundredth of it."""
_MOST_CALLS = 2_000
_WARM_BLOCKS = 3
_STILL_WARMING = 0.97
_WARMING_SHARE = 0.25
_PRECISE = 0.004
_ENOUGH_ROUNDS = 6


class Timeable(Protocol):
    """What is asked of a `bridge.worker.side.Side`."""

    def open_timing(self, inputs: Path, *, training: bool, compiled: bool) -> OpenTiming: ...

    def time(self, timing: int, calls: int, group: int) -> TimedBlock: ...

    def close_timing(self, timing: int) -> tuple[int, int | None]: ...


@dataclass(frozen=True)
class Task:
    """What a row runs, and the inputs of both sides as files."""

    mode: Mode
    variant: Variant
    batch: int | None
    inputs: Mapping[Role, Path]

    @property
    def label(self) -> str:
        """The row in words, for progress."""
        parts = [self.mode, *(["compiled"] if self.variant == "compiled" else [])]
        return ", ".join([*parts, *([] if self.batch is None else [f"batch {self.batch}"])])


@dataclass(frozen=True)
class Block:
    """Calls of one side one after the other: `seconds` of each sample, of `group` calls each."""

    timed: TimedBlock
    group: int

    @property
    def wall(self) -> float:
        """The wall seconds of a typical call."""
        return statistics.median(self.timed.seconds)

    @property
    def cpu(self) -> float:
        """The processor seconds of a call."""
        return self.timed.cpu / (len(self.timed.seconds) * self.group)

    def log(self, reading: Reading) -> float:
        """The logarithm of the seconds of a call by one of the clocks."""
        return math.log(max(self.wall if reading == "wall" else self.cpu, 1e-9))


@dataclass(frozen=True)
class Pair:
    """Two blocks of each side, measured A B B A or B A A B."""

    source: tuple[Block, Block]
    target: tuple[Block, Block]

    def by(self, reading: Reading) -> Round:
        """What the statistics take of it."""
        first, second = self.source
        third, fourth = self.target
        return Round((first.log(reading), second.log(reading)), (third.log(reading), fourth.log(reading)))


@dataclass
class Process:
    """What one pair of processes gave for one row. A side that refuses has no blocks."""

    opened: dict[Role, OpenTiming] = field(default_factory=dict)
    refusals: dict[Role, str] = field(default_factory=dict)
    blocks: dict[Role, list[Block]] = field(default_factory=dict)
    pairs: list[Pair] = field(default_factory=list)
    peaks: dict[Role, tuple[int, int | None]] = field(default_factory=dict)
    others: float | None = None
    stolen: float | None = None
    seconds: float = 0.0


class Stopwatch:
    """Blocks of one side on its open timing, sized by how long a call has taken so far."""

    def __init__(self, side: Timeable, timing: OpenTiming) -> None:
        self._side = side
        self._timing = timing
        self._call = 0.0

    def warm_up(self, seconds: float, clock: Callable[[], float]) -> None:
        """Call until it gets no faster, for at most so many seconds.

        Blocks get no faster once the best of the last three is not better than the best before them by 3 %.
        """
        started = clock()
        bests: list[float] = []
        calls, group = 1, 1
        while True:
            timed = self._side.time(self._timing.number, calls, group)
            self._call = min(timed.seconds)
            bests.append(self._call)
            calls, group = self._size()
            if clock() - started >= seconds:
                return
            earlier, last = bests[:-_WARM_BLOCKS], bests[-_WARM_BLOCKS:]
            if earlier and min(last) > _STILL_WARMING * min(earlier):
                return

    def block(self) -> Block:
        """The next block."""
        calls, group = self._size()
        block = Block(self._side.time(self._timing.number, calls, group), group)
        self._call = block.wall
        return block

    def _size(self) -> tuple[int, int]:
        """How many samples a block has, and how many calls a sample."""
        call = max(self._call, 1e-9)
        group = max(1, math.ceil(_RESOLVED / call))
        return min(max(1, math.ceil(BLOCK_SECONDS / (call * group))), _MOST_CALLS), group


def measure(
    task: Task,
    sides: Mapping[Role, Timeable],
    result: Process,
    *,
    seconds: float,
    order: Random,
    clock: Callable[[], float],
    machine: Callable[[], MachineTimes | None] = read_machine,
) -> None:
    """Time a row for about so many seconds, less if its ratio is known well enough; `result` is filled.

    `sides` are those to try, both or one of them; there is at least one round. Raises WorkerFailure where a
    worker dies or takes too long.
    """
    roles = [role for role in ROLES if role in sides]
    order.shuffle(roles)
    for role in roles:
        opened = attempt(partial(_opened, sides[role], task, role))
        if isinstance(opened, Refusal):
            result.refusals[role] = opened.reason
        else:
            result.opened[role] = opened
    watches = {role: Stopwatch(sides[role], timing) for role, timing in result.opened.items()}
    started = clock()
    for watch in watches.values():
        watch.warm_up(_WARMING_SHARE * seconds / len(watches), clock)
    before = machine()
    alternate(watches, result, until=started + seconds, order=order, clock=clock)
    own = sum(block.timed.cpu for blocks in result.blocks.values() for block in blocks)
    result.others, result.stolen = load_of_others(before, machine(), own)
    result.seconds = clock() - started
    for role, timing in result.opened.items():
        result.peaks[role] = sides[role].close_timing(timing.number)


def _opened(side: Timeable, task: Task, role: Role) -> OpenTiming:
    return side.open_timing(
        task.inputs[role], training=task.mode == "training step", compiled=task.variant == "compiled"
    )


def alternate(
    watches: Mapping[Role, Stopwatch],
    result: Process,
    *,
    until: float,
    order: Random,
    clock: Callable[[], float],
) -> None:
    """Blocks in turn until a point in time, or until the ratio is known well enough.

    Every two rounds are one A B B A and one B A A B, in random order.
    """
    kinds: list[tuple[Role, ...]] = []
    for role in watches:
        result.blocks[role] = []
    while watches:
        if not kinds:
            kinds = [("source", "target", "target", "source"), ("target", "source", "source", "target")]
            order.shuffle(kinds)
        made: dict[Role, list[Block]] = {role: [] for role in watches}
        for role in kinds.pop():
            if role in watches:
                made[role].append(watches[role].block())
        for role, blocks in made.items():
            result.blocks[role] += blocks
        if len(made) == len(ROLES):
            (first, second), (third, fourth) = made["source"], made["target"]
            result.pairs.append(Pair((first, second), (third, fourth)))
        if clock() >= until or _precise(result):
            return


def _precise(result: Process) -> bool:
    rounds = len(result.pairs) or min(len(blocks) for blocks in result.blocks.values()) // 2
    if rounds < _ENOUGH_ROUNDS:
        return False
    return not result.pairs or _error(result.pairs) <= _PRECISE


def _error(pairs: Sequence[Pair]) -> float:
    """The standard error of the ratio by wall time."""
    return locate([each.by("wall").log_ratio for each in pairs]).error
