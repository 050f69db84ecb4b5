"""SARIF: the requirements of version 2.1.0 and of GitHub, for what is written here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from examples import DIFFERENT, EQUIVALENT, REPORTS, SUITE, WRONG_WEIGHT, hostile
from jsonschema import Draft202012Validator


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


def _list(items: Any, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "uniqueItems": True}


_TEXT = {"type": "string", "minLength": 1}
_MESSAGE = _object("text", text=_TEXT)
_PHYSICAL = _object(
    "artifactLocation region",
    artifactLocation=_object("uri", uri=_TEXT),
    region=_object("startLine", startLine={"type": "integer", "minimum": 1}),
)
_RESULT = _object(
    "ruleId ruleIndex level message locations partialFingerprints",
    ruleId=_TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=_MESSAGE,
    locations=_list(_object("physicalLocation", physicalLocation=_PHYSICAL), 1),
    relatedLocations=_list(
        _object(
            "physicalLocation message",
            physicalLocation=_PHYSICAL,
            message=_MESSAGE,
            id={"type": "integer", "minimum": 0},
        )
    ),
    partialFingerprints={"type": "object", "additionalProperties": _TEXT},
)
_DRIVER = _object(
    "name rules",
    name=_TEXT,
    version=_TEXT,
    rules=_list(_object("id", id=_TEXT, shortDescription=_MESSAGE, help=_MESSAGE)),
)
_RUN = _object(
    "tool results",
    tool=_object("driver", driver=_DRIVER),
    automationDetails=_object("id", id=_TEXT),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": _RESULT},
)
_LOG = {"$schema": {"type": "string"}, "version": {"const": "2.1.0"}, "runs": _list(_RUN, 1)}
_RULES = Draft202012Validator(_object("version runs", **_LOG))
"""What section 3 of the specification demands of the objects that are written, and no property besides."""


def _log(result: Any, tmp_path: Path) -> dict[str, Any]:
    result.to_sarif(tmp_path / "bridge.sarif")
    log: dict[str, Any] = json.loads((tmp_path / "bridge.sarif").read_text(encoding="utf-8"))
    _RULES.validate(log)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for each in run["results"]:
        assert rules[each["ruleIndex"]] == each["ruleId"]
        for place in (*each["locations"], *each.get("relatedLocations", ())):
            uri = place["physicalLocation"]["artifactLocation"]["uri"]
            assert uri.isascii()
            assert not any(character in uri for character in ' <>"{}|\\^`\n')
            assert urlsplit(uri).scheme in ("", "file")
    return log


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_keeps_the_rules(name: str, tmp_path: Path) -> None:
    log = _log(REPORTS[name], tmp_path)
    assert bool(log["runs"][0]["results"]) is not REPORTS[name].passed


def test_a_difference_is_at_the_line_of_the_first_wrong_node(tmp_path: Path) -> None:
    (result,) = _log(DIFFERENT, tmp_path)["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "out/model.py"}, "region": {"startLine": 13}}
    related = result["relatedLocations"][0]
    assert related["physicalLocation"]["artifactLocation"]["uri"] == "net.py"
    assert related["message"]["text"] == "Gelu gelu in body.act of the source"


def test_without_a_line_the_target_is_the_place(tmp_path: Path) -> None:
    (result,) = _log(WRONG_WEIGHT, tmp_path)["runs"][0]["results"]
    assert result["ruleId"] == "different-weight"
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == "out"


def test_fingerprints_tell_findings_apart_and_last(tmp_path: Path) -> None:
    first = _log(SUITE, tmp_path)["runs"][0]["results"]
    prints = [each["partialFingerprints"]["bridgeFinding/v1"] for each in first]
    assert len(set(prints)) == len(prints) == 3
    again = _log(SUITE, tmp_path)["runs"][0]["results"]
    assert prints == [each["partialFingerprints"]["bridgeFinding/v1"] for each in again]


def test_paths_are_quoted(tmp_path: Path) -> None:
    results = _log(hostile("my model/ä#1?.py"), tmp_path)["runs"][0]["results"]
    uris = {each["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for each in results}
    assert all(each.endswith("my%20model/%C3%A4%231%3F.py") for each in uris)


def test_equivalent_versions_have_no_results(tmp_path: Path) -> None:
    assert _log(EQUIVALENT, tmp_path)["runs"][0]["results"] == []
