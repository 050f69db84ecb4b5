"""The reports of many pairs as one: what `bridge verify --suite` found."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import ExitCode
from bridge.verification.compare import Verdict
from bridge.verification.report.model import Report

VERDICTS: tuple[Verdict, ...] = ("different", "could not be checked", "equivalent")
"""From the worst to the best."""


@dataclass(frozen=True)
class PairReport:
    """One pair of a suite.

    `report` is None where the verification gave none, as for a bad request or a crash of its process;
    `error` says why, in sentences. `regressions` are sentences: in what the pair is worse than its baseline
    although it is equivalent. `resumed`: the report is that of an earlier, interrupted call.
    """

    name: str
    source: str
    target: str
    report: Report | None = None
    error: str = ""
    regressions: tuple[str, ...] = ()
    resumed: bool = False
    seconds: float = field(default=0.0, compare=False)

    @property
    def verdict(self) -> Verdict:
        """The report's; a regression against the baseline is a difference."""
        if self.report is None:
            return "could not be checked"
        return "different" if self.regressions else self.report.verdict

    @property
    def passed(self) -> bool:
        return self.verdict == "equivalent"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the verdict is not "equivalent"."""
        if self.report is None:
            return (self.error,)
        return (*self.report.reasons, *self.regressions)


@dataclass(frozen=True)
class SuiteReport:
    """All pairs of a suite, in the order of its file. `notes` are sentences about the whole suite."""

    name: str
    pairs: tuple[PairReport, ...]
    notes: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def verdict(self) -> Verdict:
        """The worst of the pairs'; a suite without pairs could not be checked."""
        found = {each.verdict for each in self.pairs}
        return next((each for each in VERDICTS if each in found), "could not be checked")

    @property
    def passed(self) -> bool:
        return self.verdict == "equivalent"

    @property
    def exit_code(self) -> ExitCode:
        """What the command line exits with."""
        if self.passed:
            return ExitCode.OK
        return ExitCode.DIFFERENT if self.verdict == "different" else ExitCode.ENVIRONMENT

    @property
    def counts(self) -> dict[Verdict, int]:
        """How many pairs have each verdict."""
        found = Counter(each.verdict for each in self.pairs)
        return {verdict: found[verdict] for verdict in VERDICTS}

    def summary(self) -> str:
        """The suite as text for a terminal, a line for each pair and the reasons of those that failed."""
        from bridge.verification.report.text import render_suite

        return render_suite(self)

    def to_dict(self) -> dict[str, Any]:
        """The suite as JSON values."""
        from bridge.verification.report.json import suite_to_dict

        return suite_to_dict(self)

    @classmethod
    def from_json(cls, path: str | Path) -> SuiteReport:
        """Read what `to_json` wrote. Raises InputError where that is not what the file holds."""
        from bridge.verification.report.json import read_suite

        return read_suite(Path(path))

    def to_json(self, path: str | Path) -> None:
        """Write the suite with the whole report of every pair as JSON."""
        from bridge.verification.report.json import dump

        Path(path).write_text(dump(self.to_dict()), encoding="utf-8")

    def to_junit(self, path: str | Path) -> None:
        """Write one JUnit file, a test suite for each pair."""
        from bridge.verification.report.junit import render_suite

        Path(path).write_text(render_suite(self), encoding="utf-8")

    def to_markdown(self, path: str | Path) -> None:
        """Write a comment for a pull request: a table of the pairs, and the folded report of each."""
        from bridge.verification.report.markdown import render_suite

        Path(path).write_text(render_suite(self), encoding="utf-8")

    def to_sarif(self, path: str | Path) -> None:
        """Write the findings of all pairs as SARIF 2.1.0, for code scanning."""
        from bridge.verification.report.sarif import render_suite

        Path(path).write_text(render_suite(self), encoding="utf-8")

    def to_html(self, path: str | Path) -> None:
        """Write one self-contained HTML page: a table of the pairs, and the folded report of each."""
        from bridge.verification.report.html import render_suite

        Path(path).write_text(render_suite(self), encoding="utf-8")

    def annotations(self) -> str:
        """The findings as workflow commands that GitHub shows at the lines of code."""
        from bridge.verification.report.github import render_suite

        return render_suite(self)
