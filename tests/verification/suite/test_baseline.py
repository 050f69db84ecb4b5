from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bridge.errors import InputError
from bridge.verification.compare import Errors, OutputResult
from bridge.verification.report import Report, SideReport
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.speed.result import Estimate, MemoryUse, Ratio, SpeedResult, SpeedRow
from bridge.verification.suite import Pair, Suite, baseline
from bridge.verification.suite.baseline import Baseline, Recorded

EPSILON = 2.0**-23


def errors(target: float, rule: str = "typical") -> Errors:
    return Errors(rule, "reference", 1e-7, 1e-7, target / 2, target, 1e-5, 1e-5, True, True)  # type: ignore[arg-type]


def report(
    error: float = 2e-7, *, verdict: str = "equivalent", ratio: tuple[float, float, float] | None = None
) -> Report:
    fields = {each.name for each in dataclasses.fields(OutputResult)}
    given = {"name": "y", "dtype": "float32", "verdict": verdict, "errors": (errors(error),), "reasons": ()}
    rest = {
        each.name: None
        for each in dataclasses.fields(OutputResult)
        if each.default is dataclasses.MISSING
        and each.default_factory is dataclasses.MISSING
        and each.name not in given
    }
    output = OutputResult(**{**rest, **{key: each for key, each in given.items() if key in fields}})
    speed = None
    if ratio is not None:
        found = Ratio(Estimate(*ratio), "wall", (), 9)
        row = SpeedRow(
            "inference", "plain", 8, None, None, found, found, None, MemoryUse(None, None, None), "equal", ""
        )
        speed = SpeedResult((row,), None, None, 1.1, 3, 1.0, 1.0)
    side = SideReport("a.onnx", "ONNX model")
    return Report(verdict, (), side, side, 0, "it", outputs=(output,), speed=speed)  # type: ignore[arg-type]


def suite(directory: Path, *names: str) -> Suite:
    (directory / "a.onnx").write_bytes(b"a")
    (directory / "b.onnx").write_bytes(b"b")
    pairs = tuple(Pair(name, "a.onnx", "b.onnx") for name in names)
    return Suite(directory / "suite.toml", directory, pairs)


def result(**reports: Report | None) -> SuiteReport:
    pairs = tuple(
        PairReport(name, "a.onnx", "b.onnx", each, "" if each else "it crashed")
        for name, each in reports.items()
    )
    return SuiteReport("suite.toml", pairs)


@pytest.mark.parametrize(
    ("now", "once", "outcome"),
    [
        (2e-7, 2e-7, "same"),
        (2 * 2e-7 + 3.9 * EPSILON, 2e-7, "same"),
        (2 * 2e-7 + 4.1 * EPSILON, 2e-7, "worse"),
        (4e-6, 1e-6, "worse"),
        (1e-7, 1e-5, "better"),
        (float("nan"), 1e-5, "worse"),
        (float("inf"), 1e-5, "worse"),
        (float("inf"), float("inf"), "same"),
    ],
)
def test_errors_beyond_twice_the_record_are_regressions(now: float, once: float, outcome: str) -> None:
    found = baseline.compare(report(now), Recorded(errors={"y, typical inputs": once}))
    assert bool(found.regressions) == (outcome == "worse")
    assert bool(found.improvements) == (outcome == "better")


@pytest.mark.parametrize(
    ("ratio", "outcome"),
    [
        ((1.2, 1.12, 1.3), "worse"),
        ((1.2, 1.09, 1.3), "same"),
        ((0.8, 0.7, 0.9), "better"),
        ((0.8, 0.7, 0.95), "same"),
    ],
)
def test_speed_is_judged_by_the_whole_interval(ratio: tuple[float, float, float], outcome: str) -> None:
    found = baseline.compare(report(ratio=ratio), Recorded(speed={"inference, batch 8": 1.0}))
    assert bool(found.regressions) == (outcome == "worse")
    assert bool(found.improvements) == (outcome == "better")


def test_what_is_no_longer_compared_is_noted() -> None:
    once = Recorded(errors={"gone, typical inputs": 1e-7}, gradients=1e-12, training=1e-12, speed={"x": 1.0})
    found = baseline.compare(report(), once)
    assert not found.regressions
    assert len(found.notes) == 4


def test_a_file_is_sorted_rounded_and_without_dates(tmp_path: Path) -> None:
    pairs = suite(tmp_path, "b", "a")
    found = baseline.update(
        result(b=report(2.34567e-7), a=report(ratio=(1.23456, 1.1, 1.3))),
        Baseline(),
        tmp_path / "baseline.json",
        pairs,
        partly=False,
    )
    text = (tmp_path / "baseline.json").read_text()
    record = json.loads(text)
    assert list(record["pairs"]) == ["a", "b"]
    assert record["pairs"]["b"]["errors"] == {"y, typical inputs": 2.3e-7}
    assert record["pairs"]["a"]["speed"] == {"inference, batch 8": 1.23}
    assert len(record["pairs"]["a"]["source"]) == 64
    assert text.endswith("}\n")
    assert any("2 pairs" in note for note in found.notes)
    again = baseline.read(tmp_path / "baseline.json")
    baseline.write(tmp_path / "again.json", again)
    assert (tmp_path / "again.json").read_text() == text


def test_regressions_make_pairs_fail_and_changes_are_told(tmp_path: Path) -> None:
    pairs = suite(tmp_path, "a", "new", "crash")
    recorded = Baseline(
        {
            "a": Recorded(source="0" * 64, errors={"y, typical inputs": 1e-9}),
            "crash": Recorded(),
            "gone": Recorded(),
        }
    )
    found = baseline.hold_against(result(a=report(1e-5), new=report(), crash=None), recorded, pairs)
    assert [each.verdict for each in found.pairs] == ["different", "equivalent", "could not be checked"]
    assert "instead of the recorded 1e-09" in found.pairs[0].regressions[0]
    assert int(found.exit_code) == 1
    notes = "\n".join(found.notes)
    assert "a: the source has changed" in notes
    assert "new: not in the baseline" in notes
    assert "gone: in the baseline, but not in the suite" in notes
    assert "gone" not in "\n".join(
        baseline.hold_against(result(a=report()), recorded, pairs, partly=True).notes
    )


def test_an_update_keeps_what_it_cannot_replace(tmp_path: Path) -> None:
    recorded = Baseline({"wrong": Recorded(training=1e-12), "other": Recorded(), "gone": Recorded()})
    file = tmp_path / "b.json"
    pairs = suite(tmp_path, "wrong", "right")
    found = result(wrong=report(verdict="different"), right=report())
    baseline.update(found, recorded, file, pairs, partly=False)
    assert set(baseline.read(file).pairs) == {"wrong", "right"}
    assert baseline.read(file).pairs["wrong"].training == 1e-12
    baseline.update(found, recorded, file, pairs, partly=True)
    assert set(baseline.read(file).pairs) == {"wrong", "right", "other", "gone"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "pairs": {"a": {"errors": {"y": "many"}}}}']
)
def test_a_file_that_is_no_baseline(tmp_path: Path, text: str) -> None:
    (tmp_path / "b.json").write_text(text)
    with pytest.raises(InputError) as caught:
        baseline.read(tmp_path / "b.json")
    assert "--update-baseline" in str(caught.value.hint)
    with pytest.raises(InputError, match="cannot be read"):
        baseline.read(tmp_path / "none.json")
    assert baseline.read(tmp_path / "none.json", new=True) == Baseline()
