"""The options of the forms in which a report is written, and their writing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import click

if TYPE_CHECKING:
    from bridge.verification.report import Report
    from bridge.verification.report.suite import SuiteReport

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Wanted:
    """The files to write, and whether to print annotations for lines of code."""

    html: Path | None
    markdown: Path | None
    junit: Path | None
    sarif: Path | None
    report: Path | None = None
    annotations: Literal["github"] | None = None


def report_options(*, json_file: bool = True) -> Callable[[Function], Function]:
    """The forms of a report, which arrive as one argument, `wanted`. `json_file`: JSON is one of them."""

    def file(name: str, text: str) -> Callable[[Function], Function]:
        return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=text)

    options = [
        file("--html", "Write the report as a web page."),
        file("--markdown", "Write it as a comment for a pull request."),
        file("--junit", "Write it as JUnit XML for CI."),
        file("--sarif", "Write it as SARIF for code scanning."),
        click.option(
            "--annotations",
            type=click.Choice(["github"]),
            help="Print what differs as annotations of lines of code, on stderr.",
        ),
    ]
    if json_file:
        options.insert(0, file("--report", "Write it as JSON, which bridge report reads."))

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(**given: Any) -> Any:
            names = [name for name in Wanted.__dataclass_fields__ if name in given]
            return function(wanted=Wanted(**{name: given.pop(name) for name in names}), **given)

        for option in reversed(options):
            wrapped = option(wrapped)
        return cast(Function, wrapped)

    return decorate


def deliver(result: Report | SuiteReport, wanted: Wanted, *, as_json: bool, quiet: bool) -> None:
    """Write what was asked for, and print the result: with colours where somebody looks at it."""
    if wanted.report is not None:
        result.to_json(wanted.report)
    if wanted.html is not None:
        result.to_html(wanted.html)
    if wanted.markdown is not None:
        result.to_markdown(wanted.markdown)
    if wanted.junit is not None:
        result.to_junit(wanted.junit)
    if wanted.sarif is not None:
        result.to_sarif(wanted.sarif)
    if as_json:
        from bridge.verification.report.json import dump

        click.echo(dump(result.to_dict()), nl=False)
    elif not quiet:
        from bridge.verification.report.terminal import show

        show(result)
    if wanted.annotations is not None:
        # GitHub reads both streams; stdout may be JSON.
        click.echo(result.annotations(), nl=False, err=True)


def with_command(report: Report) -> Report:
    """The report with the command line that it was made by."""
    arguments = click.get_current_context().find_root().obj
    if report.environment is None or arguments is None:
        return report
    return replace(report, environment=replace(report.environment, command=("bridge", *arguments)))
