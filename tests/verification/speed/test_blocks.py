"""One row in one pair of processes, on fake workers with a fake clock."""

from __future__ import annotations

from random import Random

import pytest

from bridge.verification.speed.blocks import BLOCK_SECONDS, Process, Stopwatch, measure
from bridge.worker.side import OpenTiming
from tests.verification.speed.fakes import Behaviour, Clock, FakeSide, noisy, steady, task

OPEN = OpenTiming(0, 0.5, "a call", "cpu", 1, 1, ())


def _side(
    behaviour: Behaviour, clock: Clock | None = None, log: list[str] | None = None, name: str = "source"
) -> FakeSide:
    return FakeSide(behaviour, clock or Clock(), [] if log is None else log, name)


def _measured(
    source: Behaviour, target: Behaviour, *, seconds: float = 2.0, seed: int = 0
) -> tuple[Process, list[str], Clock]:
    clock = Clock()
    log: list[str] = []
    result = Process()
    sides = {"source": _side(source, clock, log, "source"), "target": _side(target, clock, log, "target")}
    measure(
        task(),
        sides,  # type: ignore[arg-type]
        result,
        seconds=seconds,
        order=Random(seed),
        clock=clock,
        machine=lambda: None,
    )
    return result, log, clock


@pytest.mark.parametrize(
    ("call", "calls", "group"),
    [(0.001, 50, 1), (0.02, 3, 1), (0.4, 1, 1), (1e-6, 2000, 20), (4e-6, 2000, 5)],
)
def test_blocks_are_long_and_samples_far_above_the_resolution_of_the_clock(
    call: float, calls: int, group: int
) -> None:
    side = _side(Behaviour(steady(call)))
    watch = Stopwatch(side, OPEN)
    watch.warm_up(1.0, side.clock)
    watch.block()
    assert side.calls[-1] == (calls, pytest.approx(group, abs=1))
    assert calls * group * call >= min(0.8 * BLOCK_SECONDS, 2000 * 2e-5)


def test_warming_up_goes_on_while_it_gets_faster() -> None:
    times = iter([0.05, 0.04, 0.03, 0.02, 0.01])
    last = [0.05]

    def call() -> float:
        last[0] = next(times, last[0] if last[0] < 0.02 else 0.01)
        return last[0]

    side = _side(Behaviour(call))
    watch = Stopwatch(side, OPEN)
    watch.warm_up(100.0, side.clock)
    assert watch.block().wall == pytest.approx(0.01)


def test_warming_up_ends_soon_if_calls_are_steady_and_never_outlasts_its_share() -> None:
    side = _side(Behaviour(steady(0.01)))
    Stopwatch(side, OPEN).warm_up(100.0, side.clock)
    assert len(side.calls) == 4
    slow = _side(Behaviour(steady(7.0)))
    Stopwatch(slow, OPEN).warm_up(5.0, slow.clock)
    assert len(slow.calls) == 1
    factors = iter(0.9**power for power in range(10_000))
    faster = _side(Behaviour(lambda: max(next(factors), 1e-9)))
    begun = faster.clock.now
    Stopwatch(faster, OPEN).warm_up(1.0, faster.clock)
    assert faster.clock.now - begun < 2.0


def test_blocks_alternate_and_both_orders_are_equally_frequent() -> None:
    result, log, _ = _measured(Behaviour(noisy(0.01, 0.3, 1)), Behaviour(noisy(0.01, 0.3, 2)), seconds=20.0)
    times = [each.split()[0] for each in log if each.endswith("times")]
    rounds = len(result.pairs)
    blocks = times[-4 * rounds :]
    kinds = [tuple(blocks[index : index + 4]) for index in range(0, len(blocks), 4)]
    ours, theirs = ("source", "target", "target", "source"), ("target", "source", "source", "target")
    assert set(kinds) == {ours, theirs}
    assert abs(kinds.count(ours) - kinds.count(theirs)) <= 1
    assert all(set(kinds[index : index + 2]) == {ours, theirs} for index in range(0, len(kinds) - 1, 2))


def test_a_ratio_that_is_known_ends_the_measurement_early() -> None:
    quiet, _, quiet_clock = _measured(
        Behaviour(noisy(0.01, 0.01, 1)), Behaviour(noisy(0.01, 0.01, 2)), seconds=60.0
    )
    loud, _, loud_clock = _measured(
        Behaviour(noisy(0.3, 0.5, 1)), Behaviour(noisy(0.3, 0.5, 2)), seconds=60.0
    )
    assert len(quiet.pairs) < 20
    assert quiet_clock.now - 1000 < 10
    assert 60 <= loud.seconds <= 70
    assert loud_clock.now - 1000 >= 60


def test_there_is_one_round_however_long_a_call_takes() -> None:
    result, _, _ = _measured(Behaviour(steady(100.0)), Behaviour(steady(50.0)), seconds=1.0)
    assert len(result.pairs) == 1
    assert result.pairs[0].by("wall").log_ratio == pytest.approx(-0.6931, abs=1e-3)


def test_both_clocks_are_read() -> None:
    result, _, _ = _measured(
        Behaviour(steady(0.01), share=0.5, within=2), Behaviour(steady(0.02), share=1.0), seconds=1.0
    )
    pair = result.pairs[0]
    assert pair.source[0].wall == pytest.approx(0.01)
    assert pair.source[0].cpu == pytest.approx(0.01)
    assert pair.target[0].cpu == pytest.approx(0.02)


def test_a_side_that_refuses_leaves_the_other_to_be_timed_alone() -> None:
    refusing = Behaviour(steady(0.01), refuses={(False, False): "it has no such form"})
    result, log, _ = _measured(Behaviour(steady(0.01)), refusing)
    assert result.refusals == {"target": "it has no such form"}
    assert result.pairs == []
    assert len(result.blocks["source"]) >= 2
    assert "target closes" not in log
    assert set(result.peaks) == {"source"}


def test_where_both_refuse_nothing_is_timed() -> None:
    refusing = Behaviour(steady(0.01), refuses={(False, False): "no"})
    result, log, _ = _measured(refusing, refusing)
    assert set(result.refusals) == {"source", "target"}
    assert result.blocks == {}
    assert not any(each.endswith("times") for each in log)


def test_the_order_follows_from_the_seed() -> None:
    behaviours = [Behaviour(noisy(0.01, 0.3, each)) for each in (1, 2)]
    logs = [
        _measured(Behaviour(noisy(0.01, 0.3, 1)), Behaviour(noisy(0.01, 0.3, 2)), seed=5)[1] for _ in range(2)
    ]
    assert logs[0] == logs[1]
    assert any(_measured(*behaviours, seed=seed)[1] != logs[0] for seed in range(5))
