"""The pytest plugin: the fixture `assert_equivalent`, which leaves its findings with the test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def assert_equivalent(record_property: Callable[[str, object], None]) -> Callable[..., Any]:
    """`bridge.testing.assert_equivalent`, its verdict and largest errors recorded for pytest's JUnit file."""
    from bridge.api import verify
    from bridge.testing import assert_passed

    def check(source: Any, target: Any, **options: Any) -> Any:
        report = verify(source, target, **options)
        errors = [each for output in report.outputs for each in output.errors]
        record_property("bridge_verdict", report.verdict)
        record_property("bridge_source_error", max((each.source_l2 or 0.0 for each in errors), default=0.0))
        record_property("bridge_target_error", max((each.target_l2 for each in errors), default=0.0))
        return assert_passed(report)

    return check
