"""Comments for pull requests: within GitHub's limit, and with nothing of a model's text taken for markup."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examples import DIFFERENT, EQUIVALENT, HOSTILE, REPORTS, SUITE, hostile, huge, wrong_output
from markdown_it import MarkdownIt

from bridge.verification.report.markdown import LONGEST
from bridge.verification.report.suite import PairReport, SuiteReport


def _rendered(result: Any, tmp_path: Path) -> tuple[str, list[Any]]:
    file = tmp_path / "comment.md"
    result.to_markdown(file)
    text = file.read_text(encoding="utf-8")
    return text, MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)


def _flat(tokens: list[Any]) -> list[Any]:
    return [each for token in tokens for each in (token, *_flat(token.children or []))]


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_short_and_begins_with_its_verdict(name: str, tmp_path: Path) -> None:
    text, tokens = _rendered(REPORTS[name], tmp_path)
    assert len(text.encode()) <= LONGEST
    assert tokens[0].tag == "h2"
    assert text.count("<details>") == text.count("</details>")


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_never_markup(name: str, tmp_path: Path) -> None:
    _, tokens = _rendered(hostile(name), tmp_path)
    html = [each.content for each in _flat(tokens) if each.type in ("html_block", "html_inline")]
    assert all(
        line.startswith(("<details>", "<summary>", "</details>"))
        for block in html
        for line in block.splitlines()
        if line
    )
    plain = [each.content for each in _flat(tokens) if each.type == "text"]
    assert not any("@everyone" in each or "alert(1)" in each for each in plain)


def test_tables_have_as_many_cells_as_columns(tmp_path: Path) -> None:
    _, tokens = _rendered(hostile(HOSTILE[6]), tmp_path)
    rows: list[int] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append(0)
        rows[-1:] = [rows[-1] + 1] if token.type in ("th_open", "td_open") else rows[-1:]
    assert rows
    assert set(rows) == {6}


def test_a_huge_model_has_its_worst_outputs_first(tmp_path: Path) -> None:
    text, _ = _rendered(huge(), tmp_path)
    assert "and 480 more outputs" in text
    assert text.index("`out407`") < text.index("`out0`")


def test_what_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    outputs = tuple(wrong_output(f"out{number}") for number in range(20))
    report = replace(DIFFERENT, outputs=outputs, reasons=tuple("é" * 480 for _ in range(80)))
    pairs = tuple(PairReport(f"pair{number}", "a", "b", report) for number in range(10))
    text, _ = _rendered(SuiteReport("many", pairs), tmp_path)
    assert LONGEST - 45_000 < len(text.encode()) <= LONGEST
    assert "There is more in the full report" in text


def test_a_suite_has_a_table_and_folds_the_pairs(tmp_path: Path) -> None:
    text, _ = _rendered(SUITE, tmp_path)
    assert "Of 4 pairs of models, 2 differ, 1 could not be checked, 1 computes the same." in text
    assert "| `wrong <b>` | ❌ different | 0.0061 (7.9e-06) | 4.0 s |" in text
    assert "<summary>❌ wrong &lt;b&gt;</summary>" in text
    assert "1.4 times slower" in text


def test_an_equivalent_report_says_so_in_a_sentence(tmp_path: Path) -> None:
    text, _ = _rendered(EQUIVALENT, tmp_path)
    assert text.startswith(
        "## ✅ Equivalent\n\nThe two versions of this model compute the same: 2 outputs agree"
    )
