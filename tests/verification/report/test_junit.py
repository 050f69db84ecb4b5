"""JUnit XML: read by a parser, and held against the rules of Jenkins' and Surefire's schemas."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from examples import DIFFERENT, MEASURED, REPORTS, SUITE, UNCHECKED
from junitparser import Error, Failure, JUnitXml, Skipped

_CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out", "system-err"},
    "properties": {"property"},
    "testcase": {"skipped", "error", "failure", "system-out", "system-err"},
}
_ATTRIBUTES = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, set[str]()),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"name", "tests", "failures", "errors"},
    ),
    "property": ({"name", "value"}, {"name", "value"}),
    "testcase": ({"name", "classname", "time"}, {"name"}),
    "failure": ({"type", "message"}, set[str]()),
    "error": ({"type", "message"}, set[str]()),
    "skipped": ({"type", "message"}, set[str]()),
}
_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")


def _check(element: ElementTree.Element) -> None:
    """What the schemas allow: children, attributes, the form of times, and a dated suite without a zone."""
    allowed, required = _ATTRIBUTES.get(element.tag, (set(), set()))
    assert required <= set(element.attrib) <= allowed, element.tag
    assert {child.tag for child in element} <= _CHILDREN.get(element.tag, set()), element.tag
    if "time" in element.attrib:
        assert _TIME.fullmatch(element.attrib["time"])
    if "timestamp" in element.attrib:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", element.attrib["timestamp"])
    tags = [child.tag for child in element]
    assert tags.count("properties") <= 1
    assert "properties" not in tags[1:]
    for child in element:
        _check(child)


def _written(result: Any, tmp_path: Path) -> tuple[ElementTree.Element, JUnitXml]:
    file = tmp_path / "junit.xml"
    result.to_junit(file)
    return ElementTree.parse(file).getroot(), JUnitXml.fromfile(str(file))


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_keeps_the_rules(name: str, tmp_path: Path) -> None:
    root, parsed = _written(REPORTS[name], tmp_path)
    _check(root)
    (suite,) = list(parsed)
    counts = {"failures": Failure, "errors": Error, "skipped": Skipped}
    for attribute, kind in counts.items():
        found = sum(isinstance(each, kind) for case in suite for each in case.result)
        assert getattr(suite, attribute) == found
    assert suite.tests == len(list(suite))


def test_a_difference_is_a_failure_and_what_could_not_be_checked_an_error(tmp_path: Path) -> None:
    _, different = _written(DIFFERENT, tmp_path)
    results = {case.name: [type(each) for each in case.result] for suite in different for case in suite}
    assert results["output logits"] == []
    assert results["output scores"] == [Failure]
    assert results["verdict"] == [Failure]
    _, unchecked = _written(UNCHECKED, tmp_path)
    results = {case.name: [type(each) for each in case.result] for suite in unchecked for case in suite}
    assert results == {"weights": [Skipped], "verdict": [Error]}


def test_the_last_case_names_the_first_wrong_node(tmp_path: Path) -> None:
    root, _ = _written(DIFFERENT, tmp_path)
    failure = root.findall(".//failure")[-1]
    assert "Gelu act in body (model.py:13)" in str(failure.text)


def test_a_gate_is_a_case(tmp_path: Path) -> None:
    _, parsed = _written(MEASURED, tmp_path)
    results = {case.name: [type(each) for each in case.result] for suite in parsed for case in suite}
    assert results["slowdown inference, batch 8, at most 1.1"] == [Failure]
    assert results["output logits"] == []


def test_a_suite_has_a_test_suite_for_each_pair(tmp_path: Path) -> None:
    root, parsed = _written(SUITE, tmp_path)
    _check(root)
    assert [each.name for each in parsed] == ["right", "wrong <b>", "crashed", "slower"]
    assert [(each.failures, each.errors) for each in parsed] == [(0, 0), (2, 0), (0, 1), (1, 0)]
    assert (parsed.failures, parsed.errors) == (3, 1)
