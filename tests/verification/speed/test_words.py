from __future__ import annotations

import pytest

from bridge.verification.quantities import duration
from bridge.verification.speed.measurement import Measurement
from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.speed.words import speed_lines
from tests.verification.speed.fakes import MIB, Behaviour, Fleet, steady, task


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(12.3, "12.3 s"), (1234.5, "1,234 s"), (0.0123, "12.3 ms"), (0.000_45, "450 µs"), (2e-9, "2 ns")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_measurement_is_told_in_full() -> None:
    fleet = Fleet(
        Behaviour(steady(0.004), refuses={(False, True): "there is no compiler"}),
        Behaviour(steady(0.002), device_peak=300 * MIB),
    )
    result = Measurement(
        [task(batch=8), task(variant="compiled", batch=8)],
        SpeedSettings(),
        fleet.start,
        threads=2,
        disk_bytes={"source": 2048, "target": None},
        clock=fleet.clock,
        machine=lambda: None,
    ).run()
    lines = speed_lines(result)
    assert lines[0].startswith("inference, batch 8: the target takes 0.5 times as long as the source")
    assert lines[1].startswith(
        "  source: median 4 ms (4 ms to 4 ms), 95 % within 4 ms, 2,000 samples a second"
    )
    assert lines[1].endswith("first call 500 ms, 100 MiB")
    assert lines[2].endswith("300 MiB on the device")
    assert lines[3] == (
        "inference, compiled, batch 8: not compared: the source was not timed: there is no compiler"
    )
    assert lines[-2] == (
        "source: 1 thread on cpu, loaded in 250 ms after 1 s of imports, 20 MiB loaded, 50 MiB meanwhile, "
        "2 KiB on disk, timed: a call of source"
    )
    assert lines[-1].endswith("50 MiB meanwhile, timed: a call of target")
