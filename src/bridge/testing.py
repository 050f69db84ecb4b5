"""Assertions about model versions, for tests."""

from __future__ import annotations

from typing import Any

from bridge.api import verify
from bridge.errors import EnvironmentFailure
from bridge.verification import Report

_LONGEST = 3


def assert_equivalent(source: Any, target: Any, **options: Any) -> Report:
    """Verify that two versions of a model are equivalent; the arguments are those of `bridge.verify`.

    Returns the report. Raises AssertionError, which says what differs and where, where they differ, and
    EnvironmentFailure where that could not be checked: neither is a pass, and a test run tells them apart.
    """
    __tracebackhide__ = True
    return assert_passed(verify(source, target, **options))


def assert_passed(report: Report) -> Report:
    """The report itself, if its verdict is "equivalent"; the errors of `assert_equivalent` otherwise."""
    __tracebackhide__ = True
    if report.verdict == "could not be checked":
        raise EnvironmentFailure(
            f"the versions could not be checked: {'; '.join(report.reasons)}",
            hint="docs/verdict.md says what can be done",
        )
    if not report.passed:
        raise AssertionError(explain(report))
    return report


def explain(report: Report) -> str:
    """Why two versions are not equivalent, in a few lines: what differs most, and the first wrong node."""
    lines = [f"verdict: {report.verdict}"]
    lines += [f"  {reason}" for reason in report.reasons[:_LONGEST]]
    if len(report.reasons) > _LONGEST:
        lines.append(f"  and {len(report.reasons) - _LONGEST} more")
    worst = _worst(report)
    if worst is not None:
        lines.append(f"worst output: {worst}")
    located = report.localisation
    if located is not None:
        away = "" if located.error is None else f", {located.error:.1e} away"
        lines.append(f"first wrong node: {located.target}{away}")
        if located.source is not None:
            lines.append(f"  in the source: {located.source}")
        lines += [f"  {note}" for note in located.notes]
    lines += [f"source: {report.source.path} ({report.source.what})"]
    lines += [f"target: {report.target.path} ({report.target.what})"]
    return "\n".join(lines)


def _worst(report: Report) -> str | None:
    """The output that is farthest off, and where."""
    wrong = [each for each in report.outputs if each.verdict == "different" and each.worst is not None]
    if not wrong:
        return None
    output = max(wrong, key=lambda each: max((error.target_l2 for error in each.errors), default=0.0))
    place = output.worst
    assert place is not None
    index = ", ".join(map(str, place.index))
    exact = "" if place.reference is None else f", float64 {place.reference}"
    return f"{output.name} at [{index}] of {place.draw}: source {place.source}, target {place.target}{exact}"
