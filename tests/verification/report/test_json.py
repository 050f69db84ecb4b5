"""Reports as JSON: read back as they were, and valid against the schema in docs/."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import DIFFERENT, EQUIVALENT, HOSTILE, REPORTS, SUITE, hostile
from jsonschema import Draft202012Validator
from onnx_models import network

import bridge
from bridge.errors import InputError
from bridge.verification.report import Report
from bridge.verification.report.json import read_any
from bridge.verification.report.schema import schema
from bridge.verification.report.suite import SuiteReport

_FILE = Path(__file__).parents[3] / "docs" / "schema" / "report-2.json"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_FILE.read_text(encoding="utf-8")))


def test_the_schema_in_the_documentation_is_that_of_the_model() -> None:
    assert json.loads(_FILE.read_text(encoding="utf-8")) == json.loads(json.dumps(schema())), (
        "run python -m bridge.verification.report.schema > docs/schema/report-2.json"
    )
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize("name", REPORTS)
def test_reports_are_valid_and_read_back(name: str, tmp_path: Path, validator: Draft202012Validator) -> None:
    report = REPORTS[name]
    report.to_json(tmp_path / "report.json")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    validator.validate(record)
    found = Report.from_json(tmp_path / "report.json")
    if HOSTILE[7] not in report.source.path:
        assert found == report
        assert (found.timing, found.speed) == (report.timing, report.speed)
    assert found.to_dict() == record


def test_suites_are_valid_and_read_back(tmp_path: Path, validator: Draft202012Validator) -> None:
    SUITE.to_json(tmp_path / "suite.json")
    record = json.loads((tmp_path / "suite.json").read_text(encoding="utf-8"))
    validator.validate(record)
    found = read_any(tmp_path / "suite.json")
    assert isinstance(found, SuiteReport)
    assert found == SUITE
    assert [each.verdict for each in found.pairs] == [each["verdict"] for each in record["pairs"]]


def test_a_schema_that_lets_everything_pass_would_be_none(validator: Draft202012Validator) -> None:
    record = EQUIVALENT.to_dict()
    for wrong in (
        {**record, "verdict": "fine"},
        {**record, "schema": 1},
        {**record, "outputs": [{}]},
        {key: value for key, value in record.items() if key != "reasons"},
    ):
        assert not validator.is_valid(wrong)


@pytest.mark.parametrize(
    ("target", "verdict"), [({}, "equivalent"), ({"weight_factor": 1.1}, "different"), (None, None)]
)
def test_real_reports_of_every_verdict(
    target: dict[str, float] | None, verdict: str | None, tmp_path: Path, validator: Draft202012Validator
) -> None:
    source = network(tmp_path / "source.onnx")
    if target is None:
        # Inputs that are all alike show nothing.
        np.savez(tmp_path / "inputs.npz", image=np.zeros((2, 3, 12, 12), np.float32))
        report = bridge.verify(source, source, inputs=tmp_path / "inputs.npz", timeout=100)
        assert report.verdict == "could not be checked"
    else:
        network(tmp_path / "target.onnx", **target)  # type: ignore[arg-type]
        report = bridge.verify(source, tmp_path / "target.onnx", batches=[2], depth=True)
        assert report.verdict == verdict
        assert report.depth is not None
        assert len(report.depth.points) > 3
        assert any(each.histogram is not None for each in report.outputs[0].errors)
    report.to_json(tmp_path / "report.json")
    record = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    validator.validate(record)
    assert Report.from_json(tmp_path / "report.json") == report
    assert report.environment is not None
    assert {each.role for each in report.environment.files} >= {"source", "target"}
    assert report.environment.source is not None
    assert "onnxruntime" in report.environment.source.packages


def test_equal_reports_give_equal_bytes_but_for_their_timing(tmp_path: Path) -> None:
    other = replace(EQUIVALENT, timing=replace(EQUIVALENT.timing, total_seconds=99.0))
    first, second = EQUIVALENT.to_dict(), other.to_dict()
    assert first.pop("timing") != second.pop("timing")
    assert first == second


def test_lists_of_numbers_take_one_line(tmp_path: Path) -> None:
    DIFFERENT.to_json(tmp_path / "report.json")
    text = (tmp_path / "report.json").read_text(encoding="utf-8")
    assert '"shape": [3, 8]' in text
    assert all(len(line) < 2000 for line in text.splitlines())


def test_strings_that_look_like_lists_stay_as_they_are(tmp_path: Path) -> None:
    name = "[\n  1,\n  2\n]"
    hostile(name).to_json(tmp_path / "report.json")
    assert Report.from_json(tmp_path / "report.json").source.path == name


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no report in JSON"),
        ("[]", "no report in JSON"),
        ("{}", r"no bridge\.report file"),
        ('{"schema": 1, "passed": true}', "version 1"),
        ('{"format": "bridge.report", "schema": 3}', "version 3"),
        ('{"format": "bridge.report", "schema": 2}', "does not fit its schema"),
        ('{"format": "bridge.report", "schema": 2, "verdict": "fine"}', "does not fit its schema"),
    ],
)
def test_what_is_no_report_is_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        Report.from_json(file)
    assert caught.value.where == str(file)


def test_a_report_is_no_suite(tmp_path: Path) -> None:
    EQUIVALENT.to_json(tmp_path / "report.json")
    with pytest.raises(InputError, match=r"no bridge\.suite file"):
        SuiteReport.from_json(tmp_path / "report.json")
