"""The report for a terminal with colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from bridge.verification.compare import OutputResult, Verdict
from bridge.verification.report.model import Report
from bridge.verification.report.suite import SuiteReport
from bridge.verification.report.text import depth_line
from bridge.verification.report.untrusted import lines, printable
from bridge.verification.report.words import (
    SYMBOLS,
    count,
    gradients_line,
    headline,
    suite_headline,
    training_line,
    weights_line,
)
from bridge.verification.speed.words import speed_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_COLOURS: dict[Verdict, str] = {
    "equivalent": "green",
    "different": "red",
    "could not be checked": "yellow",
}
_MOST_ROWS = 30


def show(result: Report | SuiteReport, console: Console | None = None) -> None:
    """Print a report: with colours and tables where somebody looks at it, else as the text of `summary()`.

    Nothing in a report is taken for markup.
    """
    from rich.console import Console

    console = console or Console(highlight=False)
    if not console.is_terminal:
        print(result.summary(), file=console.file)
        return
    parts = _report(result) if isinstance(result, Report) else _suite(result)
    for part in parts:
        console.print(part, highlight=False)


def _report(report: Report) -> Iterable[RenderableType]:
    yield _verdict(report.verdict)
    yield _text(headline(report))
    yield from _listed(report.reasons, _COLOURS[report.verdict])
    if report.localisation is not None:
        yield _field("first wrong node", report.localisation.summary())
    yield _field("source", f"{report.source.path} ({report.source.what})")
    yield _field("target", f"{report.target.path} ({report.target.what})")
    yield _field("inputs", f"{count(len(report.draws), 'set')} with seed {report.seed}")
    if report.outputs:
        yield _outputs(report.outputs)
    yield _field("weights", weights_line(report))
    if report.gradients is not None:
        yield _field("gradients", gradients_line(report.gradients))
    if report.training is not None:
        yield _field("training", training_line(report.training))
        yield from _listed(report.training.conventions, "")
    if report.speed is not None:
        yield from (_field("speed", line) for line in speed_lines(report.speed))
    if report.depth is not None:
        yield _field("values inside", depth_line(report))
    yield from (_field("note", note) for note in report.notes)


def _suite(suite: SuiteReport) -> Iterable[RenderableType]:
    rows: list[tuple[Text | str, ...]] = []
    for each in suite.pairs:
        told = [] if each.passed else [line for reason in each.reasons for line in lines(reason)]
        why = "".join(told[:1]) + (f" (and {len(told) - 1} more)" if len(told) > 1 else "")
        rows.append((printable(each.name, 60), _symbol(each.verdict), f"{each.seconds:.1f} s", why))
    yield _table(("pair", "verdict", "time", "why"), rows)
    yield _verdict(suite.verdict)
    yield _text(f"{suite_headline(suite)} {suite.seconds:.1f} s.")
    yield from (_field("note", note) for note in suite.notes)


def _outputs(outputs: Sequence[OutputResult]) -> RenderableType:
    rows: list[tuple[Text | str, ...]] = []
    for output in sorted(outputs, key=lambda each: each.verdict == "equivalent"):
        name, verdict = f"{printable(output.name, 60)} ({output.dtype})", _symbol(output.verdict)
        rows += [
            (
                name if position == 0 else "",
                verdict if position == 0 else "",
                errors.rule,
                _number(errors.source_l2),
                _text(f"{errors.target_l2:.2g}", "" if errors.passed else "red"),
                _number(errors.tolerance_l2),
            )
            for position, errors in enumerate(output.errors)
        ]
        if not output.errors:
            rows.append((name, verdict, "", "", "", ""))
    header = ("output", "verdict", "inputs", "source error", "target error", "tolerance")
    return _table(header, rows, numbers=(3, 4, 5))


def _table(
    header: Sequence[str], rows: Sequence[Sequence[Text | str]], numbers: Sequence[int] = ()
) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for position, title in enumerate(header):
        table.add_column(
            title,
            justify="right" if position in numbers else "left",
            overflow="fold",
            no_wrap=position in numbers,
        )
    for row in rows[:_MOST_ROWS]:
        table.add_row(*(each if not isinstance(each, str) else _text(each) for each in row))
    if len(rows) > _MOST_ROWS:
        table.caption = f"and {len(rows) - _MOST_ROWS} more rows; --html and --report have all"
    return table


def _verdict(verdict: Verdict) -> Text:
    return _text("verdict: ").append(f"{SYMBOLS[verdict]} {verdict}", f"bold {_COLOURS[verdict]}")


def _symbol(verdict: Verdict) -> Text:
    return _text(f"{SYMBOLS[verdict]} {verdict}", _COLOURS[verdict])


def _field(name: str, value: str) -> Text:
    return _text(f"{name}: ", "bold").append("\n  ".join(lines(value)), "not bold")


def _listed(texts: Iterable[str], style: str) -> Iterable[RenderableType]:
    from rich.padding import Padding

    for text in texts:
        yield Padding(_text("\n".join(lines(text)), style), (0, 0, 0, 2))


def _text(text: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(text, style)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2g}"
