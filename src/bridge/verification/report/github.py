"""The findings as workflow commands, which GitHub shows at lines of code.

https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands
"""

from __future__ import annotations

from bridge.verification.report.findings import RULES, Finding, findings, pair_findings, repository_path
from bridge.verification.report.model import Report
from bridge.verification.report.suite import SuiteReport
from bridge.verification.report.untrusted import lines, printable

_LONGEST = 3000
"""Characters of a message; GitHub cuts longer ones."""


def render(report: Report) -> str:
    """A line for each finding; empty where the versions are equivalent."""
    return "".join(_command(each) for each in findings(report))


def render_suite(suite: SuiteReport) -> str:
    """The findings of all pairs, with the pair's name before each."""
    return "".join(_command(each, pair.name) for pair in suite.pairs for each in pair_findings(pair))


def _command(finding: Finding, pair: str = "") -> str:
    properties = {}
    if finding.place is not None:
        properties["file"] = printable(repository_path(finding.place.path), _LONGEST)
        properties["line"] = str(finding.place.line)
    title = RULES[finding.rule]
    properties["title"] = f"{printable(pair)}: {title}" if pair else title
    level = "notice" if finding.level == "note" else finding.level
    values = ",".join(f"{name}={_property(value)}" for name, value in properties.items())
    told = "\n".join(lines(finding.text))
    message = told if len(told) <= _LONGEST else told[: _LONGEST - 2] + " …"
    return f"::{level} {values}::{_data(message)}\n"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
