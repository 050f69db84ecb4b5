"""Text for terminals: colours where somebody looks, and nothing of a model's text that acts."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from examples import DIFFERENT, EQUIVALENT, HOSTILE, MEASURED, REPORTS, SUITE, UNCHECKED, hostile, huge
from rich.console import Console

from bridge.verification.report.terminal import show

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def _shown(result: Any, *, terminal: bool, width: int = 100) -> str:
    file = io.StringIO()
    show(result, Console(file=file, force_terminal=terminal, width=width, color_system="truecolor"))
    return file.getvalue()


@pytest.mark.parametrize("name", REPORTS)
def test_without_a_terminal_it_is_the_summary(name: str) -> None:
    assert _shown(REPORTS[name], terminal=False) == REPORTS[name].summary() + "\n"


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("terminal", [True, False])
def test_names_neither_act_nor_forge_lines(name: str, terminal: bool) -> None:
    text = _COLOUR.sub("", _shown(hostile(name), terminal=terminal))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)
    found = [line for line in text.splitlines() if line.startswith("verdict:")]
    assert len(found) == 1
    assert "different" in found[0]
    assert not any(line.startswith("::") for line in text.splitlines())


def test_the_summary_can_be_searched() -> None:
    lines = DIFFERENT.summary().splitlines()
    assert lines[0] == "verdict: different"
    for start in (
        "first wrong node: ",
        "source:  ",
        "target:  ",
        "inputs:  ",
        "outputs:",
        "weights: ",
        "note: ",
    ):
        assert any(line.startswith(start) for line in lines)
    assert "speed: inference, batch 8: the target takes 1.31 times as long" in MEASURED.summary()


def test_a_crash_shows_the_last_output_indented() -> None:
    lines = UNCHECKED.summary().splitlines()
    assert lines[:3] == [
        "verdict: could not be checked",
        "  the target worker died of signal 11: its last output:",
        "  Segmentation fault",
    ]
    assert lines[3] == "  \\x1b[31mcore dumped"


def test_a_terminal_shows_colours_and_a_table() -> None:
    text = _shown(DIFFERENT, terminal=True)
    assert "\x1b[1;31m✗ different" in text
    plain = _COLOUR.sub("", text)
    assert re.search(r"scores \(float32\)\s+✗ different\s+typical\s+6.1e-08\s+0.0061\s+7.9e-06", plain)
    assert max(map(len, plain.splitlines())) <= 100


def test_a_narrow_terminal_is_kept_to() -> None:
    plain = _COLOUR.sub("", _shown(DIFFERENT, terminal=True, width=60))
    assert max(map(len, plain.splitlines())) <= 60


def test_many_outputs_are_cut_and_said() -> None:
    text = _shown(huge(), terminal=True)
    assert "more rows" in text
    assert len(text.splitlines()) < 80


def test_a_suite_has_a_line_for_each_pair_and_the_verdict_last() -> None:
    lines = SUITE.summary().splitlines()
    assert lines[0] == "right      equivalent  3.0 s"
    assert lines[1] == "wrong <b>  different  4.0 s"
    assert "  first wrong node: " in lines[3]
    assert lines[-2] == "verdict: different (2 different, 1 could not be checked, 1 equivalent) in 9.5 s"
    assert "slower     different  0.0 s, from an earlier call" in lines
    shown = _COLOUR.sub("", _shown(SUITE, terminal=True))
    assert "? could not be checked" in shown
    assert "Of 4 pairs of models" in shown


def test_an_equivalent_report_is_green() -> None:
    assert "\x1b[1;32m✓ equivalent" in _shown(EQUIVALENT, terminal=True)
