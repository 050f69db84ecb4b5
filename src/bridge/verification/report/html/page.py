"""From a report to its page: what the templates show, put together."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from bridge.comparison.model import Comparison
from bridge.comparison.table import rows as comparison_rows
from bridge.verification import quantities
from bridge.verification.compare import Errors, OutputResult
from bridge.verification.report import words
from bridge.verification.report.findings import wrong_weights
from bridge.verification.report.html.plots import Plot, Plots
from bridge.verification.report.html.tree import Branch, tree
from bridge.verification.report.markdown import worst_errors
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.report.text import depth_line
from bridge.verification.report.untrusted import lines, printable

_TEMPLATES = Path(__file__).with_name("templates")
_PLOTTED_OUTPUTS = 12
_PLOTTED_OUTPUTS_OF_A_PAIR = 3
_PLOTTED_ROWS = 8
_OPEN_ROWS = 20
"""Rows of a table that are seen at once; more are folded."""
_MOST_PLOTTED_PAIRS = 20
_LONGEST_TEXT = 2000


@dataclass(frozen=True)
class OutputView:
    """One output with its worst kind of inputs, and the kind that its plot shows, if it has one."""

    output: OutputResult
    worst: Errors | None
    shown: Errors | None
    plot: Plot | None


@dataclass(frozen=True)
class ReportView:
    """One report as its part of the page shows it.

    `prefix` begins the identifiers of that part, and `label` the names that its tables have for those who
    do not see them.
    """

    report: Report
    prefix: str
    label: str
    outputs: tuple[OutputView, ...]
    depth: Plot | None
    gradients: Plot | None
    losses: Plot | None
    latencies: tuple[Plot, ...]
    memory: Plot | None
    tree: Branch | None
    plots: bool

    @property
    def why(self) -> str:
        """What the section is called that has the reasons."""
        if words.is_beyond_limits_alone(self.report):
            return "What is beyond a limit"
        return "What differs" if self.report.verdict == "different" else "Why it could not be decided"

    @property
    def sections(self) -> list[tuple[str, str]]:
        """The sections of the page, by their anchors."""
        report = self.report
        known = [
            ("why", self.why, bool(report.reasons)),
            ("outputs", "Outputs", True),
            ("depth", "Depth", report.depth is not None),
            ("weights", "Weights", True),
            ("gradients", "Gradients", report.gradients is not None),
            ("training", "Training", report.training is not None),
            ("speed", "Speed and memory", report.speed is not None),
            ("names", "Names", self.tree is not None),
            ("inputs", "Inputs", bool(report.draws)),
            ("environment", "Environment and hashes", report.environment is not None),
            ("notes", "Notes", bool(report.notes)),
        ]
        return [(f"{self.prefix}{anchor}", title) for anchor, title, there in known if there]

    @property
    def detailed(self) -> list[OutputView]:
        """The outputs whose kinds of inputs are all listed."""
        return [
            each for each in self.outputs if each.plot is not None or each.output.verdict != "equivalent"
        ][:_PLOTTED_OUTPUTS] or list(self.outputs[:_PLOTTED_OUTPUTS])


def render(report: Report) -> str:
    """The page of one report."""
    view = _view(report, Plots(), "", "", _PLOTTED_OUTPUTS)
    return _page("report.html.j2", view=view, title=_title(report.verdict, report.target.path))


def render_suite(suite: SuiteReport) -> str:
    """The page of a suite: its table, and every pair folded."""
    plots = Plots()
    budget = _MOST_PLOTTED_PAIRS
    views: list[tuple[PairReport, ReportView | None]] = []
    for number, pair in enumerate(suite.pairs, 1):
        if pair.report is None:
            views.append((pair, None))
            continue
        outputs = _PLOTTED_OUTPUTS_OF_A_PAIR if budget > 0 or not pair.passed else 0
        budget -= 1
        views.append((pair, _view(pair.report, plots, f"pair{number}-", f"Pair {number}: ", outputs)))
    return _page("suite.html.j2", suite=suite, views=views, title=_title(suite.verdict, suite.name))


def render_comparison(comparison: Comparison) -> str:
    """The page of one model in two frameworks: the answer, the table of both, and the report beneath."""
    view = _view(comparison.report, Plots(), "", "", _PLOTTED_OUTPUTS)
    title = f"{comparison.first} or {comparison.second}: {printable(comparison.model, 100)}"
    return _page(
        "comparison.html.j2", comparison=comparison, rows=comparison_rows(comparison), view=view, title=title
    )


def _view(report: Report, plots: Plots, prefix: str, label: str, most_outputs: int) -> ReportView:
    ordered = sorted(report.outputs, key=lambda each: each.verdict == "equivalent")
    outputs = []
    for position, output in enumerate(ordered):
        worst = worst_errors(output)
        shown = worst if output.verdict != "equivalent" else _ordinary(output) or worst
        plot = plots.errors(shown) if shown is not None and position < most_outputs else None
        outputs.append(OutputView(output, worst, shown, plot))
    speed = report.speed if most_outputs else None
    wrong = None if report.localisation is None else report.localisation.target.scope
    return ReportView(
        report=report,
        prefix=prefix,
        label=label,
        outputs=tuple(outputs),
        depth=plots.depth(report.depth) if report.depth is not None and most_outputs else None,
        gradients=plots.gradients(report.gradients)
        if report.gradients is not None and most_outputs
        else None,
        losses=plots.losses(report.training) if report.training is not None and most_outputs else None,
        latencies=tuple(
            plot
            for row in (() if speed is None else speed.rows[:_PLOTTED_ROWS])
            if (plot := plots.latency(row)) is not None
        ),
        memory=None if speed is None else plots.memory(speed),
        tree=None if report.structure is None else tree(report.structure, wrong),
        plots=plots.available,
    )


def _ordinary(output: OutputResult) -> Errors | None:
    """The errors at the inputs that the verdict rests on most."""
    return next((each for each in output.errors if each.rule in ("user", "typical")), None)


def _after_verdict(text: str) -> str:
    """A line without the verdict that it begins with."""
    return text.partition(": ")[2]


def _date(text: str) -> str:
    """An ISO date in UTC for people."""
    return text.replace("T", " ").replace("+00:00", " UTC")


def _title(verdict: str, name: str) -> str:
    return f"{verdict.capitalize()}: {printable(name, 100)}"


def _page(template: str, **values: Any) -> str:
    script = _read("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = (
        _environment()
        .get_template(template)
        .render(style=Markup(_read("page.css")), script=Markup(script), script_hash=digest, **values)
    )
    return page if page.endswith("\n") else page + "\n"


@cache
def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    """All that a template shows is escaped and can be seen; a name that it does not know is an error."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        after_verdict=_after_verdict,
        base=_base,
        count=words.count,
        date=_date,
        duration=quantities.duration,
        name=_name,
        number=quantities.number,
        prose=_prose,
        rounded=quantities.rounded,
        shape=_shape,
        size=quantities.size,
    )
    environment.globals.update(
        depth_line=depth_line,
        gradients_line=words.gradients_line,
        headline=words.headline,
        open_rows=_OPEN_ROWS,
        suite_headline=words.suite_headline,
        symbols=words.SYMBOLS,
        title_of=words.title,
        training_line=words.training_line,
        weights_line=words.weights_line,
        worst_errors=worst_errors,
        wrong_weights=wrong_weights,
    )
    return environment


def _shown(value: object) -> object:
    """Text that is not markup already, without characters that cannot be seen."""
    return printable(value, _LONGEST_TEXT) if type(value) is str else value


def _name(text: object) -> Markup:
    """A name of the model: as code, in the direction of its own writing."""
    return Markup("<code><bdi>{}</bdi></code>").format(printable(str(text)))


def _prose(text: str) -> Markup:
    """Sentences; the output of a program keeps its lines."""
    return Markup("<br>").join(escape(line) for line in lines(text))


def _base(path: str) -> str:
    """The last part of a path, or of a reference to Python."""
    return path.rstrip("/").rpartition("/")[2] or path


def _shape(sizes: Sequence[int]) -> str:
    return " x ".join(map(str, sizes)) if sizes else "scalar"
