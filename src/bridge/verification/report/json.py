"""Reports as JSON, in the form that docs/reports.md and docs/schema/report-2.json describe."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from bridge.errors import InputError
from bridge.verification.report.model import SCHEMA, Report
from bridge.verification.report.suite import SuiteReport

Model = TypeVar("Model")

REPORT_FORMAT = "bridge.report"
SUITE_FORMAT = "bridge.suite"

_SURROGATES = re.compile("[\ud800-\udfff]")
_NUMBERS = re.compile(r"\[\n\s+(-?[\d.e+-]+(?:,\n\s+-?[\d.e+-]+)*)\n\s+\]")


def to_dict(report: Report) -> dict[str, Any]:
    """A report as JSON values."""
    return {"format": REPORT_FORMAT, "schema": SCHEMA, "passed": report.passed, **_fields(report)}


def suite_to_dict(suite: SuiteReport) -> dict[str, Any]:
    """A suite as JSON values; the report of each pair is as of its own file."""
    pairs = [
        {
            **_fields(dataclasses.replace(each, report=None)),
            "verdict": each.verdict,
            "report": None if each.report is None else to_dict(each.report),
        }
        for each in suite.pairs
    ]
    return {
        "format": SUITE_FORMAT,
        "schema": SCHEMA,
        "passed": suite.passed,
        "verdict": suite.verdict,
        **_fields(dataclasses.replace(suite, pairs=())),
        "pairs": pairs,
    }


def dump(record: dict[str, Any]) -> str:
    """JSON text with a field a line and lists of numbers in one line each."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    # A string holds no line break in JSON, so that this finds nothing inside one.
    return _NUMBERS.sub(lambda found: "[" + re.sub(r"\s+", " ", found[1]) + "]", text) + "\n"


def read_report(path: Path) -> Report:
    """Read a report. Raises InputError where the file holds none of this version."""
    return _read(path, _record(path), REPORT_FORMAT, Report)


def read_suite(path: Path) -> SuiteReport:
    """Read a suite. Raises InputError where the file holds none of this version."""
    return _read(path, _record(path), SUITE_FORMAT, SuiteReport)


def read_any(path: Path) -> Report | SuiteReport:
    """Read a report or a suite, whichever the file holds. Raises InputError where it is neither."""
    record = _record(path)
    if record.get("format") == SUITE_FORMAT:
        return _read(path, record, SUITE_FORMAT, SuiteReport)
    return _read(path, record, REPORT_FORMAT, Report)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"this is no report in JSON: {error}", where=str(path)) from error
    if not isinstance(record, dict):
        raise InputError("this is no report in JSON", hint=_HINT, where=str(path))
    return record


_HINT = "bridge verify writes one with --report FILE"


def _read(path: Path, record: dict[str, Any], form: str, model: type[Model]) -> Model:
    if record.get("format") != form and "schema" not in record:
        raise InputError(f"this is no {form} file", hint=_HINT, where=str(path))
    if record.get("schema") != SCHEMA:
        raise InputError(
            f"the report has version {record.get('schema')} of the schema, not {SCHEMA}",
            hint="verify again, or use the version of bridge that wrote it",
            where=str(path),
        )
    if record.get("format") != form:
        raise InputError(f"this is no {form} file", hint=_HINT, where=str(path))
    try:
        # Not strict: numbers that JSON lacks are the strings "inf" and "nan".
        return msgspec.convert(record, type=model, strict=False)
    except msgspec.ValidationError as error:
        raise InputError(f"the report does not fit its schema: {error}", where=str(path)) from error


def _fields(model: Any) -> dict[str, Any]:
    record = _plain(dataclasses.asdict(model))
    assert isinstance(record, dict)
    return record


def _plain(value: Any) -> Any:
    """JSON values of nested fields; infinities and NaN, which JSON lacks, become text."""
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return _SURROGATES.sub("\ufffd", value) if isinstance(value, str) else value
