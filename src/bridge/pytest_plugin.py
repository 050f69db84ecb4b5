"""The pytest plugin: the fixture `assert_equivalent`, which leaves its report with the test.

A test that uses it gets `bridge_verdict` and `bridge_source_error`/`bridge_target_error` as properties in
pytest's JUnit file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture
def assert_equivalent(record_property: Callable[[str, object], None]) -> Callable[..., Any]:
    """`bridge.testing.assert_equivalent`, recording the verdict and the largest errors."""
    from bridge.testing import assert_equivalent as check

    def assert_(source: Any, target: Any, **options: Any) -> Any:
        report = check(source, target, **options)
        errors = [each for output in report.outputs for each in output.errors]
        record_property("bridge_verdict", report.verdict)
        record_property("bridge_source_error", max((each.source_l2 or 0.0 for each in errors), default=0.0))
        record_property("bridge_target_error", max((each.target_l2 for each in errors), default=0.0))
        return report

    return assert_
