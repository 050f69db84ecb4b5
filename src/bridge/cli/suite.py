"""`bridge verify --suite`: its options, and what the command does with them."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.core import ParameterSource

from bridge.cli.progress import Progress

if TYPE_CHECKING:
    from bridge.verification.report.suite import PairReport, SuiteReport

Function = TypeVar("Function", bound=Callable[..., Any])

_SUITE_ONLY = ("only", "jobs", "resume", "fail_fast", "state", "baseline", "update_baseline")
_WITH_SUITE = frozenset(
    {
        "suite",
        *_SUITE_ONLY,
        "annotations",
        "as_json",
        "debug",
        "html",
        "junit",
        "markdown",
        "quiet",
        "report",
        "sarif",
    }
)
"""What may be given beside --suite: everything else belongs into its file."""


def suite_options(function: Function) -> Function:
    """The options of a suite, which arrive as one argument, `suite`: a SuiteCall, or None for one pair."""

    @functools.wraps(function)
    def wrapped(**given: Any) -> Any:
        return function(suite=suite_call(given), **given)

    for option in reversed(
        (
            click.option(
                "--suite",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Verify all pairs of a TOML file (docs/suite.md) instead of SOURCE and TARGET.",
            ),
            click.option(
                "--only",
                metavar="NAME",
                multiple=True,
                help="Of a suite, this pair only, or those of a pattern such as text-*. Repeat it for more.",
            ),
            click.option(
                "--jobs",
                type=click.IntRange(min=1),
                metavar="N",
                help="How many pairs of a suite run side by side.  [default: all cores]",
            ),
            click.option(
                "--resume",
                is_flag=True,
                help="Keep the results of pairs that did not change since the last call.",
            ),
            click.option("--fail-fast", is_flag=True, help="Begin no further pair after one that failed."),
            click.option(
                "--state",
                type=click.Path(path_type=Path),
                metavar="DIR",
                help="Where a suite keeps its results.  [default: .bridge-suite/ beside the file]",
            ),
            click.option(
                "--baseline",
                type=click.Path(path_type=Path),
                metavar="FILE",
                help="Fail where errors or speed are worse than this file records.",
            ),
            click.option(
                "--update-baseline", is_flag=True, help="Record errors and speed in the file of --baseline."
            ),
        )
    ):
        wrapped = option(wrapped)
    return cast(Function, wrapped)


@dataclass(frozen=True)
class SuiteCall:
    """What was given for a suite."""

    suite: Path
    only: tuple[str, ...]
    jobs: int | None
    resume: bool
    fail_fast: bool
    state: Path | None
    baseline: Path | None
    update_baseline: bool


def suite_call(given: dict[str, Any]) -> SuiteCall | None:
    """The call of a suite, None where a single pair was given.

    `given` are the command's options by name; those of a suite are taken out. Raises UsageError where both
    were given, or neither.
    """
    context = click.get_current_context()
    call = {name: given.pop(name) for name in ("suite", *_SUITE_ONLY)}
    explicit = {
        name
        for name in context.params
        if context.get_parameter_source(name) in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    }
    if call["suite"] is None:
        for name in ("source", "target"):
            if given[name] is None:
                raise click.UsageError(f"Missing argument '{name.upper()}'.")
        for name in _SUITE_ONLY:
            if name in explicit:
                raise click.UsageError(f"{_spelled(name)} is for a suite: give --suite FILE")
        return None
    wrong = sorted(explicit - _WITH_SUITE)
    if wrong:
        names = ", ".join(map(_spelled, wrong))
        raise click.UsageError(
            f"{names} cannot be given with --suite: write it into the file, for all pairs under [defaults]"
        )
    if call["update_baseline"] and call["baseline"] is None:
        raise click.UsageError("--update-baseline needs --baseline FILE")
    return SuiteCall(**call)


def _spelled(name: str) -> str:
    command = click.get_current_context().command
    parameter = next(each for each in command.params if each.name == name)
    return parameter.opts[0] if isinstance(parameter, click.Option) else name.upper()


def verify_suite(call: SuiteCall, *, quiet: bool) -> SuiteReport:
    """Run the suite, saying on stderr what every pair came to."""
    from bridge.verification.suite import baseline, read_suite, run_suite

    suite = read_suite(call.suite)
    if call.only:
        suite = suite.only(call.only)
    recorded = None if call.baseline is None else baseline.read(call.baseline, new=call.update_baseline)
    with Progress(quiet=quiet) as progress:
        result = run_suite(
            suite,
            jobs=call.jobs,
            state=call.state,
            resume=call.resume,
            fail_fast=call.fail_fast,
            on_progress=progress,
            on_finish=_Finished(len(suite.pairs), progress),
        )
    if call.baseline is None or recorded is None:
        return result
    if call.update_baseline:
        return baseline.update(result, recorded, call.baseline, suite, partly=bool(call.only))
    return baseline.hold_against(result, recorded, suite, partly=bool(call.only))


class _Finished:
    """Says one line for every pair that is done."""

    def __init__(self, count: int, progress: Progress) -> None:
        self._count = count
        self._progress = progress
        self._done = 0
        self._lock = threading.Lock()

    def __call__(self, pair: PairReport) -> None:
        with self._lock:
            self._done += 1
            self._progress(f"{self._done} of {self._count} done, {pair.name}: {pair.verdict}")
