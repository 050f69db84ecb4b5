from __future__ import annotations

import math

import pytest

from bridge.errors import InputError
from bridge.verification.speed.settings import MARGIN, SpeedSettings, memory_limit, speed_settings

ASKED = {
    "batches": None,
    "seconds": None,
    "compiled": False,
    "max_slowdown": None,
    "max_memory": None,
    "training": False,
    "seed": 0,
}


@pytest.mark.parametrize(
    ("given", "ratio", "size"),
    [
        ("1.2", 1.2, None),
        (1.2, 1.2, None),
        (2, 2.0, None),
        ("2GiB", None, 2 * 2**30),
        ("1.5 GB", None, 1_500_000_000),
        ("512m", None, 512_000_000),
        ("64KiB", None, 65536),
        ("100B", None, 100),
    ],
)
def test_a_limit_of_memory_is_a_ratio_or_an_amount(
    given: str | float, ratio: float | None, size: int | None
) -> None:
    found = memory_limit(given)
    assert (found.ratio, found.size) == (ratio, size)


@pytest.mark.parametrize("given", ["", "much", "-1", "0", "1.2x", "2 GiBB", "GiB", "1e9", "nan"])
def test_other_limits_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="no limit of memory"):
        memory_limit(given)


@pytest.mark.parametrize("slowdown", [0.0, -1.0, math.inf, math.nan])
def test_a_slowdown_is_a_positive_number(slowdown: float) -> None:
    with pytest.raises(InputError, match="slowdown"):
        speed_settings(True, **{**ASKED, "max_slowdown": slowdown})


def test_batches_and_seconds_are_checked() -> None:
    with pytest.raises(InputError, match="batch"):
        SpeedSettings(batches=(0,)).check()
    with pytest.raises(InputError, match="seconds"):
        SpeedSettings(seconds=0).check()


def test_a_limit_asks_for_the_measurement() -> None:
    assert speed_settings(False, **ASKED) is None
    assert speed_settings(True, **ASKED) == SpeedSettings()
    assert speed_settings(False, **{**ASKED, "max_slowdown": 1.2}) == SpeedSettings(max_slowdown=1.2)
    assert speed_settings(False, **{**ASKED, "max_memory": "1GiB"}) == SpeedSettings(max_memory="1GiB")


@pytest.mark.parametrize("detail", [{"compiled": True}, {"batches": (1,)}, {"seconds": 5.0}])
def test_details_of_a_measurement_that_nobody_asked_for_are_a_mistake(detail: dict[str, object]) -> None:
    with pytest.raises(InputError, match="but not to measure it"):
        speed_settings(False, **{**ASKED, **detail})


def test_the_margin_is_the_limit_where_there_is_one() -> None:
    assert SpeedSettings().margin == MARGIN
    assert SpeedSettings(max_slowdown=1.5).margin == 1.5
    assert SpeedSettings(max_slowdown=0.8).margin == 1.25
