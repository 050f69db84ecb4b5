"""The report as a comment for a pull request, in the Markdown of GitHub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from bridge.verification.compare import Errors, OutputResult, Verdict
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.report.untrusted import lines, printable
from bridge.verification.report.words import (
    count,
    gradients_line,
    headline,
    suite_headline,
    title,
    training_line,
    weights_line,
)

LONGEST = 65_536
"""What GitHub takes as the body of a comment; here it counts bytes, of which a character may have several."""
_ROWS = 20
_ICONS: dict[Verdict, str] = {"equivalent": "✅", "different": "❌", "could not be checked": "⚠️"}
_LEFT_OUT = "\n\n_There is more in the full report; a comment may not be longer._\n"


def render(report: Report) -> str:
    """The verdict, a table of the outputs, and the rest folded."""
    heading = f"## {_ICONS[report.verdict]} {title(report)}"
    return _fitting([f"{heading}\n\n{headline(report)}", *_sections(report)])


def render_suite(suite: SuiteReport) -> str:
    """A table of the pairs, and a folded section for each that is not equivalent, then for the others."""
    rows = [
        (
            _code(each.name),
            f"{_ICONS[each.verdict]} {each.verdict}",
            _error_of(each),
            f"{each.seconds:.1f} s",
        )
        for each in suite.pairs
    ]
    table = _table(("pair", "verdict", "largest error (tolerance)", "time"), rows)
    parts = [f"## {_ICONS[suite.verdict]} {suite.verdict.capitalize()}\n\n{suite_headline(suite)}", table]
    for each in sorted(suite.pairs, key=lambda pair: pair.passed):
        parts.append(_folded(f"{_ICONS[each.verdict]} {_html(printable(each.name, 80))}", _pair(each)))
    return _fitting(parts)


def _pair(pair: PairReport) -> str:
    parts = [_fenced(pair.regressions)] if pair.regressions else []
    if pair.report is None:
        return "\n\n".join([*parts, _fenced([pair.error])])
    return "\n\n".join([*parts, headline(pair.report), *_sections(pair.report, folded=False)])


def _sections(report: Report, *, folded: bool = True) -> list[str]:
    parts = [f"{_code(report.source.path)} → {_code(report.target.path)}"]
    if report.localisation is not None:
        parts.append(f"**First wrong node:**\n\n{_fenced([report.localisation.summary()])}")
    if report.outputs:
        parts.append(_outputs(report.outputs))
    if report.speed is not None and report.speed.rows:
        rows = [(each.label, _plain(each.sentence)) for each in report.speed.rows[:_ROWS]]
        parts.append(_table(("speed", "found"), rows))
    details = []
    if report.reasons:
        details.append(("Why", _fenced(report.reasons)))
    details.append(("Weights", _fenced([weights_line(report)])))
    if report.gradients is not None:
        details.append(("Gradients", _fenced([gradients_line(report.gradients), *report.gradients.reasons])))
    if report.training is not None:
        told = (training_line(report.training), *report.training.reasons, *report.training.conventions)
        details.append(("Training", _fenced(told)))
    if report.notes:
        details.append((count(len(report.notes), "note"), _fenced(report.notes)))
    if report.environment is not None and report.environment.files:
        hashes = [f"{each.sha256}  {each.path}" for each in report.environment.files]
        details.append(("Hashes of what was compared (SHA-256)", _fenced(hashes)))
    if folded:
        return [*parts, *(_folded(title, body) for title, body in details)]
    return [*parts, *(f"**{title}**\n\n{body}" for title, body in details)]


def _outputs(outputs: Sequence[OutputResult]) -> str:
    """The outputs that differ first, each with its worst kind of inputs."""
    ordered = sorted(outputs, key=lambda each: each.verdict == "equivalent")
    rows = [_output(each) for each in ordered[:_ROWS]]
    table = _table(("output", "verdict", "inputs", "source error", "target error", "tolerance"), rows)
    more = len(ordered) - _ROWS
    return table + (f"\n\nand {count(more, 'more output')}" if more > 0 else "")


def _output(output: OutputResult) -> tuple[str, ...]:
    verdict = f"{_ICONS[output.verdict]} {output.verdict}"
    worst = worst_errors(output)
    if worst is None:
        return (_code(output.name), verdict, "", "", "", "")
    return (
        _code(output.name),
        verdict,
        worst.rule,
        _number(worst.source_l2),
        _number(worst.target_l2),
        _number(worst.tolerance_l2),
    )


def worst_errors(output: OutputResult) -> Errors | None:
    """The kind of inputs at which an output is nearest to its tolerance, or farthest beyond it."""
    return max(
        output.errors,
        key=lambda each: (not each.passed, each.target_l2 / (each.tolerance_l2 or 1.0)),
        default=None,
    )


def _error_of(pair: PairReport) -> str:
    worst = [worst_errors(each) for each in (() if pair.report is None else pair.report.outputs)]
    errors = max((each for each in worst if each is not None), key=lambda each: each.target_l2, default=None)
    if errors is None:
        return ""
    return f"{_number(errors.target_l2)} ({_number(errors.tolerance_l2)})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"


def _fitting(parts: Iterable[str]) -> str:
    """The parts as far as they fit; the first ones are the most important."""
    text = ""
    for part in parts:
        longer = f"{text}\n\n{part}" if text else part
        if len(longer.encode(errors="replace")) + len(_LEFT_OUT.encode()) > LONGEST:
            return text + _LEFT_OUT
        text = longer
    return text + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    all_rows = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in all_rows
    )


def _folded(title: str, body: str) -> str:
    """`title` is HTML."""
    return f"<details>\n<summary>{title}</summary>\n\n{body}\n\n</details>"


def _code(text: str) -> str:
    """A name that nothing in it can turn into anything else, mentions and HTML included."""
    shown = printable(text, 80) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    space = " " if shown.startswith("`") or shown.endswith("`") else ""
    return f"{fence}{space}{shown}{space}{fence}"


def _fenced(texts: Iterable[str]) -> str:
    told = [line for text in texts for line in lines(text, 500)]
    more = len(told) - 4 * _ROWS
    told = [*told[: 4 * _ROWS], *([f"and {more} more lines"] if more > 0 else [])]
    fence = "`" * max(3, 1 + max((len(run) for line in told for run in re.findall("`+", line)), default=0))
    return "\n".join([f"{fence}text", *told, fence])


def _plain(text: str) -> str:
    """A sentence as text, with nothing in it that Markdown would take for a sign."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~@$&-])", r"\\\1", printable(text, 500))


def _html(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("@", "&#64;")
