from __future__ import annotations

import os
from pathlib import Path

import pytest

from bridge.verification.speed.machine import MachineTimes, load_of_others, read_machine

TICKS = os.sysconf("SC_CLK_TCK")


def _file(path: Path, line: str) -> Path:
    file = path / "stat"
    file.write_text(f"{line}\ncpu0 1 2 3\n", encoding="ascii")
    return file


def test_the_fields_are_read_and_guests_counted_once(tmp_path: Path) -> None:
    found = read_machine(_file(tmp_path, "cpu  100 20 30 400 50 6 4 10 99 9"))
    assert found is not None
    assert found.total == pytest.approx(620 / TICKS)
    assert found.busy == pytest.approx(160 / TICKS)
    assert found.stolen == pytest.approx(10 / TICKS)


@pytest.mark.parametrize("line", ["cpu 1 2 3", "intr 1 2 3 4 5 6 7 8 9", "cpu a b c d e f g h", ""])
def test_what_cannot_be_read_is_unknown(tmp_path: Path, line: str) -> None:
    assert read_machine(_file(tmp_path, line)) is None
    assert read_machine(tmp_path / "nothing") is None


def test_others_are_what_is_busy_beside_the_workers() -> None:
    before, after = MachineTimes(100.0, 10.0, 0.0), MachineTimes(120.0, 25.0, 1.0)
    assert load_of_others(before, after, 5.0) == (0.5, 0.05)
    assert load_of_others(before, after, 50.0) == (0.0, 0.05)
    assert load_of_others(None, after, 1.0) == (None, None)
    assert load_of_others(before, before, 1.0) == (None, None)
