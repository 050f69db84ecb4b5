"""Assertions about model versions, for tests."""

from __future__ import annotations

from typing import Any

from bridge.api import verify
from bridge.errors import EnvironmentFailure
from bridge.verification import Report


def assert_equivalent(source: Any, target: Any, **options: Any) -> Report:
    """Verify that two versions of a model are equivalent; the arguments are those of `bridge.verify`.

    Returns the report. Raises AssertionError with its summary where they differ, and EnvironmentFailure
    where that could not be checked: neither is a pass, and a test run tells them apart.
    """
    return assert_passed(verify(source, target, **options))


def assert_passed(report: Report) -> Report:
    """The report itself, if its verdict is "equivalent"; the errors of `assert_equivalent` otherwise."""
    if report.verdict == "could not be checked":
        raise EnvironmentFailure(
            f"the versions could not be checked: {'; '.join(report.reasons)}",
            hint="docs/verdict.md says what can be done",
        )
    if not report.passed:
        raise AssertionError(report.summary())
    return report
