"""What a check of the suite finds, and what a new baseline may drop."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from scripts.onnx_suite import known_passes
from scripts.onnx_suite.outcome import Outcome
from scripts.onnx_suite.run import renew_baseline


def test_a_case_that_used_to_pass_is_a_fault() -> None:
    before = frozenset({"a", "b", "c"})
    outcomes = [Outcome("a", "passed"), Outcome("b", "refused", "no"), Outcome("d", "failed")]
    assert [each.case for each in known_passes.faults(before, outcomes)] == ["b"]


def test_wrong_numbers_are_a_fault_whether_or_not_they_were_right_before() -> None:
    outcomes = [Outcome("new", "wrong"), Outcome("known", "wrong"), Outcome("drawn", "random")]
    found = known_passes.faults(frozenset({"known", "drawn"}), outcomes)
    assert [each.case for each in found] == ["new", "known"]


def test_a_case_that_was_not_run_is_none() -> None:
    assert known_passes.faults(frozenset({"a", "b"}), [Outcome("a", "passed")]) == []


def test_the_file_is_sorted_and_comes_back(tmp_path: Path) -> None:
    outcomes = [Outcome("z", "passed"), Outcome("a", "random"), Outcome("m", "refused")]
    assert known_passes.write("torch", outcomes, tmp_path).read_text() == "a\nz\n"
    assert known_passes.read("torch", tmp_path) == {"a", "z"}
    assert known_passes.read("tf", tmp_path) == frozenset()


def test_a_new_baseline_drops_cases_only_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_passes, "FOLDER", tmp_path)
    console = Console(quiet=True)
    assert renew_baseline(console, "tf", [Outcome("a", "passed")], allowed=False)
    fewer = [Outcome("a", "failed"), Outcome("b", "passed")]
    assert not renew_baseline(console, "tf", fewer, allowed=False)
    assert known_passes.read("tf") == {"a"}
    assert renew_baseline(console, "tf", fewer, allowed=True)
    assert known_passes.read("tf") == {"b"}


def test_rounding_is_no_fault_of_a_case_that_never_passed() -> None:
    assert known_passes.faults(frozenset(), [Outcome("half", "rounding")]) == []
    assert known_passes.faults(frozenset({"half"}), [Outcome("half", "rounding")]) != []
