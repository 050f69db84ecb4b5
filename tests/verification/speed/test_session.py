"""Speed in a session and in a report, with real workers of a model in numpy. No test asserts a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bridge.errors import ExitCode, InputError
from bridge.verification import Checks, Session
from bridge.verification.parties import Party
from bridge.verification.speed.settings import SpeedSettings
from tests.verification.networks import LOADER, RENAMED

QUICK = {"seconds": 0.4, "processes": 1}


def _party(name: str, request: dict[str, Any]) -> Party:
    return Party(name, LOADER, {**request, "path": __file__})


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with Session(_party("ours", {}), _party("theirs", RENAMED), threads=1, timeout=120) as session:
        yield session


def test_speed_alone(session: Session) -> None:
    result = session.speed(SpeedSettings(batches=(1, 3), **QUICK))
    assert [each.label for each in result.rows] == ["inference, batch 1", "inference, batch 3"]
    for row in result.rows:
        assert row.source is not None
        assert row.target is not None
        assert row.ratio is not None
        assert row.source.calls > 0
        assert row.source.throughput.value == pytest.approx((row.batch or 0) / row.source.median.value)
        assert row.memory.source is not None
        assert row.noise is not None
    assert result.processes >= 1
    assert result.gates == ()
    assert result.source is not None
    assert result.source.what == "a network of the tests"
    assert result.source.threads.asked == 1
    assert result.source.disk_bytes == Path(__file__).stat().st_size


def test_a_gate_that_is_kept_leaves_the_verdict(session: Session) -> None:
    settings = SpeedSettings(batches=(2,), max_slowdown=1e6, max_memory="100GiB", **QUICK)
    report = session.verify(Checks(speed=settings))
    assert report.verdict == "equivalent"
    assert report.speed is not None
    assert [each.state for each in report.speed.gates] == ["passed", "passed"]


def test_a_gate_that_is_missed_is_a_difference_of_its_own(session: Session, tmp_path: Path) -> None:
    settings = SpeedSettings(batches=(2,), max_slowdown=1e-6, **QUICK)
    report = session.verify(Checks(speed=settings))
    assert report.verdict == "different"
    assert report.exit_code is ExitCode.DIFFERENT
    assert len(report.reasons) == 1
    assert report.reasons[0].startswith("slower: inference, batch 2: the target takes ")
    assert all(each.verdict == "equivalent" for each in report.outputs)
    assert report.localisation is None
    report.to_json(tmp_path / "report.json")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert record["speed"]["gates"][0]["state"] == "failed"
    assert record["speed"]["rows"][0]["source"]["samples"]


def test_training_steps_of_a_model_without_them_are_a_note(session: Session) -> None:
    result = session.speed(SpeedSettings(batches=(2,), training=True, compiled=True, **QUICK))
    assert [each.label for each in result.rows] == [
        "inference, batch 2",
        "inference, compiled, batch 2",
        "training step, batch 2",
        "training step, compiled, batch 2",
    ]
    for row in result.rows[1:]:
        assert row.source is row.target is row.ratio is None
        assert len(row.notes) == 2
        assert all("can only be timed as it runs" in each for each in row.notes)


def test_settings_that_mean_nothing_are_refused_before_anything_is_timed(session: Session) -> None:
    with pytest.raises(InputError, match="no limit of memory"):
        session.speed(SpeedSettings(max_memory="lots"))


def test_inputs_that_cannot_be_matched_leave_the_gate_undecided() -> None:
    other = Party("b", "tests.worker.side_models:load", {"path": __file__})
    with Session(_party("a", {}), other, threads=1, timeout=120) as session:
        result = session.speed(SpeedSettings(max_slowdown=1.1, **QUICK))
    assert result.rows == ()
    assert result.processes == 0
    assert len(result.undecided) == 1
    assert result.undecided[0].startswith("the speed could not be compared: ")
