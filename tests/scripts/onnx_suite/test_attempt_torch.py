"""Attempting cases with PyTorch: as they are, saved, and compiled."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from scripts.onnx_suite import cases, modes
from scripts.onnx_suite.attempt import Attempt
from scripts.onnx_suite.outcome import Outcome

importlib.import_module("torch")


@pytest.fixture(scope="module")
def known() -> dict[str, cases.SuiteCase]:
    return cases.collect()


def attempt(known: dict[str, cases.SuiteCase], name: str, mode: str, directory: Path) -> Outcome:
    return Attempt("torch", mode)(known[name], directory, {})


def test_outcomes(known: dict[str, cases.SuiteCase], tmp_path: Path) -> None:
    assert attempt(known, "test_add", "run", tmp_path).verdict == "passed"
    assert attempt(known, "test_bernoulli", "run", tmp_path).verdict == "random"
    refused = attempt(known, "test_string_concat", "run", tmp_path)
    assert refused.verdict == "refused"
    assert refused.reason


def test_outputs_are_stored_where_that_is_asked(known: dict[str, cases.SuiteCase], tmp_path: Path) -> None:
    case = known["test_add"]
    Attempt("torch", "run")(case, tmp_path, {"store": str(tmp_path / "store")})
    _, (expected,) = next(case.data_sets())
    stored = cases.read_value(tmp_path / "store" / "test_add-0-0.pb", case.model.graph.output[0].type)
    assert stored.tobytes() == expected.tobytes()


@pytest.mark.parametrize("mode", ["pt2", "aot_eager"])
def test_modes(known: dict[str, cases.SuiteCase], mode: str, tmp_path: Path) -> None:
    assert attempt(known, "test_softmax_axis_1", mode, tmp_path) == Outcome(
        "test_softmax_axis_1", "passed", seconds=pytest.approx(0, abs=60)
    )
    strings = attempt(known, "test_string_concat", mode, tmp_path)
    assert (strings.verdict, strings.excluded) == ("refused", "the case itself is refused")


def test_another_result_in_a_mode_is_wrong(
    known: dict[str, cases.SuiteCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def astray(self: modes.SavedProgram, converted: modes.Converted) -> str:
        right = converted.run(next(converted.case.data_sets())[0])
        modes.expect([each + 1 for each in right], right, label="here: ", rtol=0.0, atol=0.0)
        return ""

    monkeypatch.setattr(modes.SavedProgram, "__call__", astray)
    outcome = attempt(known, "test_relu", "pt2", tmp_path)
    assert outcome.verdict == "wrong"
    assert outcome.reason.startswith("here: ")


def test_what_a_framework_raises_is_a_failure(
    known: dict[str, cases.SuiteCase], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any) -> None:
        raise KeyError("nothing like it")

    monkeypatch.setattr(modes.SavedProgram, "__call__", fails)
    outcome = attempt(known, "test_relu", "pt2", tmp_path)
    assert (outcome.verdict, outcome.reason) == ("failed", "KeyError: 'nothing like it'")
