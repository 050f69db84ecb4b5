"""The statistics on synthetic series: how often they cry wolf, and how often they see one."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bridge.verification.speed.statistics import Located, Round, block_spread, combine, locate, typical
from scripts.proof.speed_intervals import (
    LIMIT,
    NOISES,
    Noise,
    broad,
    intervals,
    processes,
    quiet,
    spikes,
)


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_a_version_is_not_called_slower_than_itself(noise: Noise) -> None:
    found = intervals(noise, true=1.0, luck=0.02, count=40)
    assert not any(each.low > LIMIT or each.high < 1 / LIMIT for each in found)
    assert np.mean([each.low <= 1.0 <= each.high for each in found]) >= 0.85


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_three_tenths_more_are_found(noise: Noise) -> None:
    found = intervals(noise, true=1.3, luck=0.02, count=40)
    assert np.mean([each.low > LIMIT for each in found]) >= 0.95


def test_on_a_quiet_machine_equal_versions_are_known_to_be_equal() -> None:
    found = intervals(quiet, true=1.0, luck=0.01, count=40, rounds=8)
    assert all(each.low > 1 / LIMIT and each.high < LIMIT for each in found)


def test_luck_of_whole_processes_widens_the_interval() -> None:
    """However many blocks there are: they do not tell about another process."""
    found = intervals(quiet, true=1.0, luck=0.06, count=40, rounds=60)
    assert not any(each.low > LIMIT for each in found)
    assert np.mean([each.low <= 1.0 <= each.high for each in found]) >= 0.8


def test_a_single_round_decides_nothing_where_blocks_are_far_apart() -> None:
    found = intervals(spikes, true=1.0, luck=0.02, count=40, rounds=1)
    assert not any(each.low > LIMIT for each in found)
    assert np.median([each.high / each.low for each in found]) > 1.2


def test_a_drift_within_a_round_cancels() -> None:
    straight = Round((0.0, 3.0), (1.0, 2.0))
    assert straight.log_ratio == 0.0
    assert Round((1.0, 2.0), (0.0, 3.0)).log_ratio == 0.0
    assert Round((0.0, 0.0), (0.25, 0.25)).log_ratio == 0.25


def test_the_centre_is_not_moved_by_a_fifth_of_outliers() -> None:
    values = [0.0, 0.1, -0.1, 0.05, -0.05, 0.02, -0.02, 0.0, 50.0, 80.0]
    assert locate(values).value == pytest.approx(0.0, abs=0.05)
    assert locate(values).error < 0.1
    assert locate(values).freedom == 5


def test_successive_values_that_are_alike_count_less() -> None:
    rng = np.random.default_rng(0)
    free = rng.normal(size=200)
    held = np.repeat(free[:20], 10)
    assert locate(list(held)).error > 2 * locate(list(rng.permutation(held))).error


def test_one_value_has_no_known_error() -> None:
    assert locate([0.3]) == Located(0.3, math.inf, 0)


def test_equal_values_have_a_small_error_and_not_none() -> None:
    estimate = combine([Located(0.1, 0.0, 5)] * 3)
    assert estimate.value == pytest.approx(0.1)
    assert 0 < estimate.high - estimate.low < 0.1


def test_processes_that_disagree_widen_more_than_their_errors() -> None:
    alike = combine([Located(each, 0.001, 50) for each in (0.0, 0.002, -0.002)])
    apart = combine([Located(each, 0.001, 50) for each in (0.0, 0.2, -0.2)])
    assert apart.high - apart.low > 5 * (alike.high - alike.low)
    assert apart.low < 0.0 < apart.high


def test_a_process_that_is_known_badly_counts_little() -> None:
    estimate = combine([Located(0.0, 0.01, 50), Located(0.0, 0.01, 50), Located(3.0, 1.0, 50)])
    assert abs(estimate.value) < 0.02


def test_more_processes_narrow_the_interval() -> None:
    widths = [
        (lambda each: each.high - each.low)(combine([Located(0.0, 0.02, 20)] * count)) for count in (1, 3, 6)
    ]
    assert widths[0] > widths[1] > widths[2]


def test_the_spread_of_blocks_is_robust_and_free_of_what_the_sides_differ_by() -> None:
    rng = np.random.default_rng(3)
    (rounds,) = processes(rng, broad, true=5.0, luck=0.0, pairs=1, rounds=400)
    assert block_spread(rounds) == pytest.approx(0.1, rel=0.1)
    assert block_spread([]) == 0.0


def test_the_typical_time_and_its_interval() -> None:
    rng = np.random.default_rng(4)
    estimate = typical([list(math.log(0.002) + rng.normal(0.0, 0.03, 30)) for _ in range(3)])
    assert estimate.low < 0.002 < estimate.high
    assert estimate.value == pytest.approx(0.002, rel=0.03)
    single = typical([[math.log(0.5)]])
    assert single.low < single.value < single.high
    assert single.value == pytest.approx(0.5)
