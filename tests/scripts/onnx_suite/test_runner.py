"""A case that kills its worker, hangs, or takes all memory is an outcome, and the next case runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.onnx_suite import runner
from scripts.onnx_suite.runner import run_cases

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import os, resource, signal, sys, time
from scripts.onnx_suite.outcome import Outcome
from scripts.onnx_suite.worker import serve

def attempt(request, directory):
    match request["case"]:
        case "killed":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "exits":
            os._exit(3)
        case "hangs":
            time.sleep(600)
        case "talks":
            print("noise on stdout", flush=True)
        case "fills":
            resource.setrlimit(resource.RLIMIT_DATA, (2**29, 2**29))
            bytearray(2**30)
    assert not any(directory.iterdir())
    (directory / "left behind").touch()
    return Outcome(request["case"], "passed", request.get("note", ""))

serve(attempt, int(sys.argv[1]))
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return [sys.executable, str(program)]


def test_every_end_of_a_worker_is_an_outcome(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "START_SECONDS", 20.0)
    names = ["first", "killed", "second", "exits", "fills", "talks", "last"]
    outcomes = run_cases(command, names, jobs=1, limit=5.0)
    assert [(each.case, each.verdict) for each in outcomes] == [
        ("first", "passed"),
        ("killed", "crashed"),
        ("second", "passed"),
        ("exits", "crashed"),
        ("fills", "crashed"),
        ("talks", "passed"),
        ("last", "passed"),
    ]
    assert "SIGSEGV" in outcomes[1].reason
    assert "3" in outcomes[3].reason


def test_a_hanging_case_is_ended(command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "START_SECONDS", 20.0)
    outcomes = run_cases(command, ["first", "hangs", "last"], jobs=1, limit=1.0)
    assert [each.verdict for each in outcomes] == ["passed", "timed out", "passed"]
    assert outcomes[1].reason == "over 1 s"


def test_outcomes_keep_the_order_of_the_cases_and_options_arrive(command: list[str]) -> None:
    names = [f"case {number}" for number in range(20)]
    heard: list[str] = []
    outcomes = run_cases(
        command,
        names,
        jobs=2,
        limit=20.0,
        options={"note": "n"},
        on_outcome=lambda one: heard.append(one.case),
    )
    assert [each.case for each in outcomes] == names == heard
    assert {each.reason for each in outcomes} == {"n"}
