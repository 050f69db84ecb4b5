"""Workers that compute nothing: their calls take as long as a test says, on a clock that only they move."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from bridge.verification.speed.blocks import Role, Task
from bridge.verification.speed.measurement import Started
from bridge.worker.failures import Unavailable, WorkerFailure
from bridge.worker.side import Description, LoadCost, OpenTiming, TimedBlock

MIB = 2**20


class Clock:
    """Seconds that pass when a worker says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Behaviour:
    """How a fake version runs.

    `call` gives the wall seconds of the next call, `share` is the part of them that it has a processor,
    `work` the processor seconds of a call where they are no such part; `within` are its threads. `refuses`
    are reasons by (training, compiled), `dies_in` is what it dies in.
    """

    call: Callable[[], float]
    share: float = 1.0
    work: float | None = None
    within: int = 1
    first: float = 0.5
    peak: int = 200 * MIB
    refuses: Mapping[tuple[bool, bool], str] = field(default_factory=dict)
    dies_in: tuple[bool, bool] | None = None
    device: str = "cpu"
    known_waiting: bool = True
    device_peak: int | None = None


class FakeSide:
    """A worker behind `Behaviour`."""

    def __init__(self, behaviour: Behaviour, clock: Clock, log: list[str], name: str) -> None:
        self.behaviour = behaviour
        self.clock = clock
        self.log = log
        self.name = name
        self.alive = True
        self.timeout: float | None = None
        self.calls: list[tuple[int, int]] = []

    def restart_clock(self, timeout: float | None) -> None:
        self.timeout = timeout

    def open_timing(self, inputs: Path, *, training: bool, compiled: bool) -> OpenTiming:
        self.log.append(f"{self.name} opens")
        way = training, compiled
        if way in self.behaviour.refuses:
            raise Unavailable(self.behaviour.refuses[way], label=self.name)
        if way == self.behaviour.dies_in:
            self.alive = False
            raise WorkerFailure(f"the {self.name} died from signal SIGSEGV before it answered")
        self.clock.now += self.behaviour.first
        return OpenTiming(
            0,
            self.behaviour.first,
            f"a call of {self.name}",
            self.behaviour.device,
            self.behaviour.within,
            1,
            (),
        )

    def time(self, timing: int, calls: int, group: int) -> TimedBlock:
        self.log.append(f"{self.name} times")
        self.calls.append((calls, group))
        seconds = tuple(sum(self.behaviour.call() for _ in range(group)) / group for _ in range(calls))
        wall = group * math.fsum(seconds)
        self.clock.now += wall
        work = self.behaviour.work
        own = wall * self.behaviour.share if work is None else work * calls * group
        waited = wall - own if self.behaviour.known_waiting else None
        return TimedBlock(seconds, wall, own * self.behaviour.within, waited, None)

    def close_timing(self, timing: int) -> tuple[int, int | None]:
        self.log.append(f"{self.name} closes")
        return self.behaviour.peak, self.behaviour.device_peak

    def close(self) -> None:
        self.alive = False
        self.log.append(f"{self.name} ends")


@dataclass
class Fleet:
    """Starts fake workers for both versions; `luck` is how far equal processes are apart, relatively."""

    source: Behaviour
    target: Behaviour
    clock: Clock = field(default_factory=Clock)
    luck: float = 0.0
    seed: int = 0
    log: list[str] = field(default_factory=list)
    sides: list[FakeSide] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def start(self, role: Role, threads: int) -> Started:
        behaviour = self.source if role == "source" else self.target
        if threads == 1:
            behaviour = replace(behaviour, within=1)
        factor = math.exp(self._random.gauss(0.0, self.luck))
        call = behaviour.call
        work = None if behaviour.work is None else factor * behaviour.work
        lucky = replace(behaviour, call=lambda: factor * call(), work=work)
        side = FakeSide(lucky, self.clock, self.log, role)
        self.sides.append(side)
        self.log.append(f"{role} starts")
        cost = LoadCost(1.0, 0.25, 100 * MIB, 120 * MIB, 150 * MIB)
        return Started(side, Description((), None, f"a fake {role}", (), cost))


def steady(seconds: float) -> Callable[[], float]:
    """Calls that all take the same time."""
    return lambda: seconds


def noisy(seconds: float, spread: float, seed: int) -> Callable[[], float]:
    """Calls whose times are log-normal."""
    random = Random(seed)
    return lambda: seconds * math.exp(random.gauss(0.0, spread))


def preempted(seconds: float, share: float, seed: int) -> Callable[[], float]:
    """Calls of a worker that has a processor for a share of the time, in slices of random length."""
    random = Random(seed)

    def calls() -> Iterator[float]:
        left = 0.0
        while True:
            wall, work = 0.0, seconds
            while work > left:
                wall += left + random.expovariate(1.0) * 0.01 * (1 / share - 1)
                work -= left
                left = random.uniform(0.002, 0.018)
            left -= work
            yield wall + work

    generator = calls()
    return lambda: next(generator)


def task(mode: str = "inference", variant: str = "plain", batch: int | None = 4) -> Task:
    """A row whose files are never read."""
    return Task(mode, variant, batch, {"source": Path("a"), "target": Path("b")})  # type: ignore[arg-type]
