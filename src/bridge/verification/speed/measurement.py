"""The whole measurement: fresh pairs of processes, every row in each, until all is decided or time is up."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from bridge.verification.speed.blocks import ROLES, Process, Role, Task, Timeable, measure
from bridge.verification.speed.decide import (
    choose,
    decide,
    is_narrow,
    memory_of,
    noise_of,
    ratio_of,
    sentence,
    side_speed,
)
from bridge.verification.speed.gates import check_gates
from bridge.verification.speed.machine import MachineTimes, read_machine
from bridge.verification.speed.result import SpeedResult, SpeedRow, SpeedSide, Threads
from bridge.verification.speed.settings import SpeedSettings
from bridge.worker.failures import TaskFailure, WorkerFailure
from bridge.worker.side import Description, OpenTiming

MOST_PROCESSES = 6
TOO_BUSY = 0.2
"""The fraction of its time that a worker of several threads may wait for a processor."""


class Worker(Timeable, Protocol):
    """What is asked of a side beside its timings."""

    @property
    def alive(self) -> bool: ...

    def close(self) -> None: ...

    def restart_clock(self, timeout: float | None) -> None: ...


@dataclass(frozen=True)
class Started:
    """A fresh worker with the model loaded."""

    side: Worker
    description: Description


@dataclass
class _Row:
    """What was found about a task so far."""

    task: Task
    processes: list[Process] = field(default_factory=list)
    refusals: dict[Role, str] = field(default_factory=dict)
    spent: float = 0.0

    def sides(self, pair: Mapping[Role, Started]) -> dict[Role, Timeable]:
        return {role: started.side for role, started in pair.items() if role not in self.refusals}


class Measurement:
    """One measurement of both versions.

    `start` loads one of them in a fresh process that computes in so many threads: in `threads`, or in one
    if the machine is too busy for more and they are `reducible`. `disk_bytes` are the sizes of the files of
    both. `why_none` says why there are no tasks, if there are none. `timeout` is in seconds for every row in
    every process.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        settings: SpeedSettings,
        start: Callable[[Role, int], Started],
        *,
        threads: int,
        reducible: bool = False,
        disk_bytes: Mapping[Role, int | None],
        notes: Sequence[str] = (),
        why_none: str = "there is nothing that both versions run",
        timeout: float | None = None,
        say: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.monotonic,
        machine: Callable[[], MachineTimes | None] = read_machine,
    ) -> None:
        self._rows = [_Row(each) for each in tasks]
        self._settings = settings
        self._start = start
        self._threads = threads
        self._reducible = reducible
        self._disk_bytes = disk_bytes
        self._notes = list(notes)
        self._why_none = why_none
        self._timeout = timeout
        self._say = say
        self._clock = clock
        self._machine = machine
        self._order = Random(settings.seed)
        self._started: dict[Role, list[Description]] = {role: [] for role in ROLES}
        self._count = 0

    def run(self) -> SpeedResult:
        """Everything that was measured; a worker that dies is a note on the row that it died in."""
        begun = self._clock()
        try:
            while wanted := [each for each in self._rows if self._is_wanted(each)]:
                self._count += 1
                while wanted:
                    wanted = self._in_a_pair(wanted)
                self._reduce_threads()
        except WorkerFailure as error:
            self._notes.append(f"the measurement ended early: {_reason(error)}")
            self._why_none = _reason(error)
        rows = tuple(self._finished(each) for each in self._rows if each.processes or each.refusals)
        return SpeedResult(
            rows,
            self._side("source"),
            self._side("target"),
            self._settings.margin,
            self._count,
            self._clock() - begun,
            self._settings.seconds,
            check_gates(rows, self._settings, why_none=self._why_none),
            tuple(self._notes),
        )

    def _is_wanted(self, row: _Row) -> bool:
        """Whether another pair of processes would tell more."""
        if len(row.refusals) == len(ROLES):
            return False
        if row.refusals:
            return not row.processes
        if self._count < self._settings.processes:
            return True
        if self._count >= max(MOST_PROCESSES, self._settings.processes):
            return False
        found = choose(row.processes, noise_of(row.processes))
        return (
            found is not None
            and decide(found.estimate, self._settings.margin) == "undecided"
            and not is_narrow(found.estimate)
            and row.spent < self._settings.seconds
        )

    def _reduce_threads(self) -> None:
        """Begin again with one thread where the first pair of processes had to wait for its processors.

        A thread that waits keeps the others of its process waiting or spinning: neither clock tells then how
        long a call takes on a quiet machine. One thread's processor time does.
        """
        if not self._reducible or self._threads == 1 or self._count != 1:
            return
        noises = [noise_of(each.processes) for each in self._rows]
        waiting = max((each.waiting or 0.0 for each in noises if each is not None), default=0.0)
        if waiting <= TOO_BUSY or any(self._on_accelerator(each) for each in self._rows):
            return
        self._notes.append(
            f"both versions were measured with 1 thread: with {self._threads}, they waited for a processor "
            f"{100 * waiting:.0f} % of the time"
        )
        self._threads, self._count = 1, 0
        for row in self._rows:
            row.processes.clear()
            row.spent = 0.0
        for started in self._started.values():
            started.clear()

    def _on_accelerator(self, row: _Row) -> bool:
        return any(timing.device != "cpu" for each in row.processes for timing in each.opened.values())

    def _seconds(self, row: _Row) -> float:
        """How long a row may take in this pair: a share of the first ones is kept for more."""
        rest = self._settings.seconds - row.spent
        pairs = self._settings.processes + 2 - self._count
        return max(rest, 0.0) / max(pairs, 2)

    def _in_a_pair(self, rows: Sequence[_Row]) -> list[_Row]:
        """Measure rows in a fresh pair of processes; those that are left after a worker died."""
        self._say(f"measuring the speed, pair {self._count} of processes")
        roles = list(ROLES if self._count % 2 else reversed(ROLES))
        with ExitStack() as stack:
            pair: dict[Role, Started] = {}
            # One after the other: what loading takes is measured too.
            for role in roles:
                pair[role] = self._start(role, self._threads)
                stack.callback(pair[role].side.close)
                self._started[role].append(pair[role].description)
            for position, row in enumerate(rows):
                if not self._measure(row, pair):
                    return list(rows[position + 1 :])
        return []

    def _measure(self, row: _Row, pair: Mapping[Role, Started]) -> bool:
        """Measure a row; False where a worker died in it."""
        result = Process()
        for started in pair.values():
            started.side.restart_clock(self._timeout)
        self._say(f"measuring the speed: {row.task.label}, pair {self._count} of processes")
        try:
            measure(
                row.task,
                row.sides(pair),
                result,
                seconds=self._seconds(row),
                order=self._order,
                clock=self._clock,
                machine=self._machine,
            )
        except WorkerFailure as error:
            died = [role for role, started in pair.items() if not started.side.alive]
            if not died and not isinstance(error, TaskFailure):
                raise
            for role in died or row.sides(pair):
                row.refusals[role] = _reason(error)
            return not died
        row.refusals.update(result.refusals)
        row.spent += result.seconds
        if result.opened:
            row.processes.append(result)
        return True

    def _finished(self, row: _Row) -> SpeedRow:
        task = row.task
        processes = [each for each in row.processes if row.refusals or len(each.opened) == len(ROLES)]
        noise = noise_of(processes)
        found = None if row.refusals else choose(processes, noise)
        margin = self._settings.margin
        decided = "undecided" if found is None else decide(found.estimate, margin)
        sides = {
            role: None if role in row.refusals else side_speed(processes, role, task.variant, task.batch)
            for role in ROLES
        }
        refusals = [
            f"the {role} was not timed: {row.refusals[role]}" for role in ROLES if role in row.refusals
        ]
        return SpeedRow(
            task.mode,
            task.variant,
            task.batch,
            sides["source"],
            sides["target"],
            found,
            None if row.refusals else ratio_of(processes, "wall"),
            noise,
            memory_of(processes, {role: self._import_bytes(role) for role in ROLES}),
            decided,
            sentence(found, decided, margin, noise) + (f": {'; '.join(refusals)}" if refusals else ""),
            (
                *refusals,
                *self._timing_notes(processes),
            ),
        )

    def _timing_notes(self, processes: Sequence[Process]) -> list[str]:
        return list(
            dict.fromkeys(
                f"{role}: {note}"
                for each in processes
                for role, timing in each.opened.items()
                for note in timing.notes
            )
        )

    def _import_bytes(self, role: Role) -> int:
        return _median([each.cost.import_bytes for each in self._started[role]])

    def _side(self, role: Role) -> SpeedSide | None:
        """What the rows of a side have in common; None where it was never timed."""
        timings = self._timings(role)
        started = self._started[role]
        if not timings:
            return None
        costs = [each.cost for each in started]
        before = self._import_bytes(role)
        return SpeedSide(
            what=started[0].what,
            timed="; ".join(dict.fromkeys(each.timed for each in timings)),
            device=timings[0].device,
            threads=Threads(self._threads, timings[0].within, timings[0].between),
            import_seconds=statistics.median(each.import_seconds for each in costs),
            load_seconds=statistics.median(each.load_seconds for each in costs),
            disk_bytes=self._disk_bytes[role],
            import_bytes=before,
            loaded_bytes=max(0, _median([each.loaded_bytes for each in costs]) - before),
            load_peak_bytes=max(0, _median([each.peak_bytes for each in costs]) - before),
            notes=tuple(dict.fromkeys(note for each in started for note in each.notes)),
        )

    def _timings(self, role: Role) -> list[OpenTiming]:
        return [each.opened[role] for row in self._rows for each in row.processes if role in each.opened]


def _median(values: Sequence[int]) -> int:
    return round(statistics.median(values)) if values else 0


def _reason(error: WorkerFailure) -> str:
    return error.text if isinstance(error, TaskFailure) else error.message
