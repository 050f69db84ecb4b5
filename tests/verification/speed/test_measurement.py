"""The whole measurement on fake workers: what is decided, what is noted, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from bridge.verification.speed.blocks import Task
from bridge.verification.speed.decide import percentile, thinned
from bridge.verification.speed.measurement import MOST_PROCESSES, Measurement
from bridge.verification.speed.result import SpeedResult, SpeedRow
from bridge.verification.speed.settings import SpeedSettings
from tests.verification.speed.fakes import MIB, Behaviour, Fleet, noisy, preempted, steady, task

CALL = 0.004


def _measure(
    fleet: Fleet, *, tasks: Sequence[Task] = (), threads: int = 4, reducible: bool = False, **settings: Any
) -> SpeedResult:
    return Measurement(
        tasks or [task()],
        SpeedSettings(**settings),
        fleet.start,
        threads=threads,
        reducible=reducible,
        disk_bytes={"source": 1000, "target": None},
        clock=fleet.clock,
        machine=lambda: None,
    ).run()


def _row(result: SpeedResult) -> SpeedRow:
    (row,) = result.rows
    return row


def _pair(factor: float, spread: float = 0.02, seed: int = 0, luck: float = 0.01) -> Fleet:
    return Fleet(
        Behaviour(noisy(CALL, spread, 2 * seed)),
        Behaviour(noisy(factor * CALL, spread, 2 * seed + 1)),
        luck=luck,
        seed=seed,
    )


@pytest.mark.parametrize(
    ("factor", "decided"), [(1.0, "equal"), (1.04, "equal"), (1.3, "slower"), (0.7, "faster")]
)
def test_a_quiet_machine_decides_with_three_pairs(factor: float, decided: str) -> None:
    result = _measure(_pair(factor))
    row = _row(result)
    assert row.decided == decided
    assert row.ratio is not None
    assert row.ratio.estimate.low < factor < row.ratio.estimate.high
    assert row.ratio.reading == "wall"
    assert len(row.ratio.processes) == result.processes == 3
    assert f"{row.ratio.estimate.value:.3g} times as long" in row.sentence


def test_runs_against_itself_and_against_three_tenths_more_under_preemption() -> None:
    """Calls that other processes interrupt most of the time, in processes that differ by luck."""
    decided = []
    for factor in (1.0, 1.3):
        for seed in range(15):
            fleet = Fleet(
                Behaviour(preempted(CALL, 0.3, 2 * seed), work=CALL),
                Behaviour(preempted(factor * CALL, 0.3, 2 * seed + 1), work=factor * CALL),
                luck=0.02,
                seed=seed,
            )
            decided.append(_row(_measure(fleet, seconds=8.0, seed=seed)).decided)
    assert decided == ["equal"] * 15 + ["slower"] * 15


def test_figures_of_a_side() -> None:
    fleet = Fleet(Behaviour(steady(0.004), first=0.5), Behaviour(steady(0.002), first=0.25))
    row = _row(_measure(fleet, tasks=[task(batch=8)]))
    assert row.label == "inference, batch 8"
    source, target = row.source, row.target
    assert source is not None
    assert target is not None
    assert source.median.value == pytest.approx(0.004)
    assert source.median.low < 0.004 < source.median.high
    assert source.p95 == pytest.approx(0.004)
    assert source.throughput.value == pytest.approx(2000)
    assert source.throughput.low < 2000 < source.throughput.high
    assert source.first_call_seconds == 0.5
    assert source.cpu_median == pytest.approx(0.004)
    assert 0 < len(source.samples) == source.calls < 1000
    assert row.decided == "faster"


def test_what_the_rows_of_a_side_share() -> None:
    result = _measure(_pair(1.0))
    side = result.source
    assert side is not None
    assert (side.what, side.timed, side.device) == ("a fake source", "a call of source", "cpu")
    assert (side.threads.asked, side.threads.within, side.threads.between) == (4, 1, 1)
    assert (side.import_seconds, side.load_seconds) == (1.0, 0.25)
    assert (side.import_bytes, side.loaded_bytes, side.load_peak_bytes) == (100 * MIB, 20 * MIB, 50 * MIB)
    assert side.disk_bytes == 1000
    assert result.target is not None
    assert result.target.disk_bytes is None


def test_every_pair_is_of_fresh_processes_that_end_and_the_order_of_loading_turns() -> None:
    fleet = _pair(1.0)
    _measure(fleet)
    assert len(fleet.sides) == 6
    assert not any(each.alive for each in fleet.sides)
    starts = [each for each in fleet.log if each.endswith("starts")]
    assert starts[:4] == ["source starts", "target starts", "target starts", "source starts"]


def test_noise_gives_undecided_after_the_budget_and_says_so() -> None:
    result = _measure(_pair(1.0, spread=1.5), seconds=4.0, tasks=[task()])
    # Blocks hold several calls; what is left of the noise is far too much for the short time.
    row = _row(result)
    fleet = Fleet(Behaviour(noisy(0.5, 1.0, 1)), Behaviour(noisy(0.5, 1.0, 2)))
    heavy = _row(_measure(fleet, seconds=6.0, max_slowdown=1.1))
    assert heavy.decided == "undecided"
    assert heavy.sentence.startswith("the machine was too noisy to decide")
    assert heavy.noise is not None
    assert heavy.noise.spread > 0.2
    assert row.decided != "slower"


def test_undecided_rows_are_measured_in_more_processes_within_the_budget() -> None:
    fleet = Fleet(Behaviour(noisy(0.2, 0.5, 1)), Behaviour(noisy(0.2, 0.5, 2)))
    result = _measure(fleet, seconds=20.0)
    assert 3 < result.processes <= MOST_PROCESSES
    assert _row(result).ratio is not None
    assert fleet.clock.now - 1000 < 20.0 + 40.0


def test_a_ratio_at_the_margin_does_not_use_up_all_the_time() -> None:
    result = _measure(_pair(1.1, spread=0.01, luck=0.001), seconds=1000.0)
    row = _row(result)
    assert row.decided == "undecided"
    assert row.sentence.startswith("too close to the margin of 1.1")
    assert result.processes == 3


def test_processor_time_decides_where_other_processes_keep_the_workers_waiting() -> None:
    """By wall time the target is slower here, as it waits more often."""
    source = Behaviour(steady(CALL), share=0.5)
    target = Behaviour(steady(2 * CALL), share=0.25)
    row = _row(_measure(Fleet(source, target)))
    assert row.ratio is not None
    assert row.wall is not None
    assert row.ratio.reading == "cpu"
    assert row.ratio.estimate.value == pytest.approx(1.0)
    assert row.wall.estimate.value == pytest.approx(2.0)
    assert row.decided == "equal"
    assert "by processor time" in row.sentence
    assert "waited for a processor" in row.sentence


def test_processor_time_of_several_threads_is_no_duration_and_only_widens_the_interval() -> None:
    source = Behaviour(steady(CALL), share=0.5, within=2)
    target = Behaviour(steady(2 * CALL), share=0.25, within=2)
    row = _row(_measure(Fleet(source, target)))
    assert row.ratio is not None
    assert row.ratio.reading == "wall"
    assert row.ratio.estimate.low <= 1.0
    assert row.ratio.estimate.high >= 2.0
    assert row.decided == "undecided"


def _busy(factor: float) -> Fleet:
    return Fleet(
        Behaviour(steady(CALL), share=0.5, within=2), Behaviour(steady(factor * CALL), share=0.5, within=2)
    )


def test_a_machine_too_busy_for_several_threads_is_measured_with_one_that_says_more() -> None:
    fleet = _busy(1.3)
    result = _measure(fleet, threads=2, reducible=True)
    row = _row(result)
    assert row.ratio is not None
    assert row.ratio.reading == "cpu"
    assert row.decided == "slower"
    assert len(row.ratio.processes) == result.processes == 3
    assert len(fleet.sides) == 8
    assert result.source is not None
    assert (result.source.threads.asked, result.source.threads.within) == (1, 1)
    assert result.notes == (
        "both versions were measured with 1 thread: with 2, they waited for a processor 50 % of the time",
    )


def test_threads_that_were_asked_for_are_kept() -> None:
    result = _measure(_busy(1.3), threads=2)
    assert result.notes == ()
    assert result.source is not None
    assert result.source.threads.within == 2


def test_an_accelerator_or_a_quiet_machine_keeps_its_threads() -> None:
    quiet = Fleet(Behaviour(steady(CALL), within=2), Behaviour(steady(CALL), within=2))
    assert _measure(quiet, threads=2, reducible=True).notes == ()
    busy = _busy(1.0)
    busy.source = replace(busy.source, device="cuda:0")
    assert _measure(busy, threads=2, reducible=True).notes == ()


def test_a_quiet_machine_decides_by_wall_time() -> None:
    """Also where the target sleeps: that is time, too."""
    source, target = Behaviour(steady(CALL)), Behaviour(steady(2 * CALL), share=0.5, known_waiting=False)
    row = _row(_measure(Fleet(source, target)))
    assert row.ratio is not None
    assert row.ratio.reading == "wall"
    assert row.noise is not None
    assert row.noise.waiting is None
    assert row.decided == "slower"


def test_an_accelerator_is_never_judged_by_processor_time() -> None:
    source = Behaviour(steady(CALL), share=0.5, device="cuda:0 (a GPU)")
    row = _row(_measure(Fleet(source, Behaviour(steady(2 * CALL), share=0.25))))
    assert row.ratio is not None
    assert row.ratio.reading == "wall"
    assert row.decided == "slower"


def test_a_side_without_a_compiler_is_a_note_and_the_other_one_is_timed() -> None:
    fleet = Fleet(
        Behaviour(steady(CALL), refuses={(False, True): "no C++ compiler was found"}), Behaviour(steady(CALL))
    )
    result = _measure(fleet, tasks=[task(), task(variant="compiled")], max_slowdown=1.1)
    plain, compiled = result.rows
    assert plain.decided == "equal"
    assert compiled.label == "inference, compiled, batch 4"
    assert compiled.source is None
    assert compiled.target is not None
    assert compiled.ratio is compiled.wall is None
    assert compiled.decided == "undecided"
    assert compiled.notes[0] == "the source was not timed: no C++ compiler was found"
    assert [each.row for each in result.gates] == ["inference, batch 4"]
    assert fleet.log.count("source opens") == 4


def test_a_worker_that_dies_in_a_row_costs_that_row_alone() -> None:
    fleet = Fleet(Behaviour(steady(CALL)), Behaviour(steady(CALL), dies_in=(False, True)))
    result = _measure(
        fleet, tasks=[task(), task(variant="compiled"), task("training step")], max_slowdown=1.1
    )
    plain, compiled, training = result.rows
    assert plain.decided == training.decided == "equal"
    assert compiled.target is None
    assert "SIGSEGV" in compiled.notes[0]
    assert result.processes == 3
    assert [each.state for each in result.gates] == ["passed", "passed"]


def test_a_version_that_cannot_be_loaded_again_leaves_the_gate_undecided() -> None:
    from bridge.verification.speed.blocks import Role
    from bridge.verification.speed.measurement import Started
    from bridge.worker.failures import WorkerFailure

    def start(role: Role, threads: int) -> Started:
        raise WorkerFailure("the source worker ran out of memory")

    result = Measurement(
        [task()], SpeedSettings(max_slowdown=1.1), start, threads=1, disk_bytes={"source": 1, "target": 1}
    ).run()
    assert result.rows == ()
    assert result.source is result.target is None
    assert result.undecided == ("the speed could not be compared: the source worker ran out of memory",)
    assert "ran out of memory" in result.notes[0]


@pytest.mark.parametrize(
    ("factor", "state"), [(1.0, "passed"), (1.06, "passed"), (1.3, "failed"), (0.5, "passed")]
)
def test_the_gate_of_the_slowdown(factor: float, state: str) -> None:
    result = _measure(_pair(factor), max_slowdown=1.1)
    (gate,) = result.gates
    assert gate.state == state
    assert gate.value == pytest.approx(factor, rel=0.05)
    assert bool(result.failed) == (state == "failed")
    if state == "failed":
        assert result.failed[0].startswith("slower: inference, batch 4: the target takes 1.")


def test_a_gate_below_one_asks_for_a_faster_target() -> None:
    assert _measure(_pair(0.5), max_slowdown=0.8).gates[0].state == "passed"
    assert _measure(_pair(1.0), max_slowdown=0.8).gates[0].state == "failed"


def test_a_gate_that_noise_hides_is_undecided() -> None:
    fleet = Fleet(Behaviour(noisy(0.5, 1.0, 1)), Behaviour(noisy(0.5, 1.0, 2)))
    result = _measure(fleet, seconds=6.0, max_slowdown=1.1)
    assert result.failed == ()
    assert len(result.undecided) == 1
    assert "too noisy" in result.undecided[0]


@pytest.mark.parametrize(
    ("limit", "target", "state"),
    [
        ("1.2", 220, "passed"),
        ("1.2", 320, "failed"),
        (1.5, 320, "failed"),
        ("3", 320, "passed"),
        ("100MiB", 220, "failed"),
        ("1GiB", 220, "passed"),
    ],
)
def test_the_gate_of_the_memory(limit: str | float, target: int, state: str) -> None:
    """Both processes have 100 MiB before they load, the source takes 100 more."""
    fleet = Fleet(Behaviour(steady(CALL), peak=200 * MIB), Behaviour(steady(CALL), peak=target * MIB))
    result = _measure(fleet, max_memory=limit)
    row, (gate,) = _row(result), result.gates
    assert row.memory.source is not None
    assert row.memory.source.peak_bytes == 100 * MIB
    assert row.memory.ratio == pytest.approx((target - 100) / 100)
    assert gate.state == state
    assert bool(result.failed) == (state == "failed")
    if state == "failed":
        assert result.failed[0].startswith("more memory: inference, batch 4: the target takes")


def test_memory_of_an_accelerator_is_not_held_against_that_of_the_host() -> None:
    source = Behaviour(steady(CALL), device="cuda:0", device_peak=300 * MIB)
    fleet = Fleet(source, Behaviour(steady(CALL), device="cuda:0", peak=900 * MIB))
    result = _measure(fleet, max_memory=1.2)
    assert _row(result).memory.ratio is None
    assert "only one side tells" in result.undecided[0]
    both = _measure(Fleet(source, replace(source, device_peak=500 * MIB)), max_memory=1.2)
    assert _row(both).memory.ratio == pytest.approx(5 / 3)
    assert both.gates[0].state == "failed"


def test_a_few_bytes_of_memory_are_no_ratio() -> None:
    fleet = Fleet(Behaviour(steady(CALL), peak=101 * MIB), Behaviour(steady(CALL), peak=104 * MIB))
    result = _measure(fleet, max_memory=1.1)
    assert _row(result).memory.ratio is None
    assert result.gates[0].state == "passed"


def test_nothing_to_measure_leaves_gates_undecided_and_no_process_starts() -> None:
    fleet = _pair(1.0)
    result = Measurement(
        [],
        SpeedSettings(max_slowdown=1.1, max_memory=2.0),
        fleet.start,
        threads=1,
        disk_bytes={"source": 1, "target": 1},
        why_none="the inputs of both cannot be matched",
        clock=fleet.clock,
    ).run()
    assert fleet.log == []
    assert [each.state for each in result.gates] == ["undecided", "undecided"]
    assert all("cannot be matched" in each for each in result.undecided)


def test_timeouts_count_for_every_row() -> None:
    fleet = _pair(1.0)
    Measurement(
        [task()],
        SpeedSettings(),
        fleet.start,
        threads=1,
        disk_bytes={"source": 1, "target": 1},
        timeout=77.0,
        clock=fleet.clock,
        machine=lambda: None,
    ).run()
    assert {each.timeout for each in fleet.sides} == {77.0}


def test_the_ratio_is_that_of_the_medians_whatever_the_seed() -> None:
    values = []
    for seed in range(5):
        row = _row(_measure(_pair(1.2, seed=seed), seed=seed))
        assert row.ratio is not None
        values.append(row.ratio.estimate.value)
    assert all(math.isclose(each, 1.2, rel_tol=0.05) for each in values)


def test_samples_are_thinned_evenly() -> None:
    assert thinned(range(10)) == tuple(range(10))
    found = thinned([float(each) for each in range(5000)])
    assert found == tuple(float(each) for each in range(0, 5000, 5))


def test_percentiles_are_samples() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.95) == 3.0
    assert percentile([float(each) for each in range(1, 101)], 0.95) == 95.0
    assert percentile([7.0], 0.5) == 7.0
