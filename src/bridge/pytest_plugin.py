"""The pytest plugin: the fixture `assert_equivalent`, the marker `bridge`, and reports of all its checks.

Nothing of bridge is imported before a test asks for the fixture. docs/ci/README.md describes the options.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from bridge.verification.report import Report
    from bridge.verification.report.suite import PairReport, SuiteReport
    from bridge.verification.suite.baseline import Baseline

_MARKER = "bridge"
_WORKER_RESULTS = "bridge_results"
_STATE = pytest.StashKey["_Checks"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bridge", "equivalence of models")
    group.addoption(
        "--bridge-report",
        metavar="DIR",
        help="write the report of every check to this directory, and one page of all of them",
    )
    group.addoption(
        "--bridge-baseline",
        metavar="FILE",
        help="fail where errors or speed are worse than this file records",
    )
    group.addoption(
        "--bridge-update-baseline",
        action="store_true",
        help="record errors and speed in the file of --bridge-baseline",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        f"{_MARKER}(seeds=[0], max_error=None, **options): for assert_equivalent: the seeds to verify with, "
        "the largest relative error of the target that passes (stricter than the verdict, never weaker), and "
        "options of bridge.verify",
    )
    if config.getoption("--bridge-update-baseline") and config.getoption("--bridge-baseline") is None:
        raise pytest.UsageError("--bridge-update-baseline needs --bridge-baseline FILE")
    config.stash[_STATE] = _Checks(config)


@pytest.fixture(scope="session")
def _bridge_workers() -> Iterator[None]:
    """For all tests of a session: processes to fork workers from, and the sessions that were open last."""
    from bridge.verification.keeping import Sessions, keeping
    from bridge.worker.launch import launching
    from bridge.worker.pool import Client, Pool, supported

    with ExitStack() as stack:
        if supported():
            pool = stack.enter_context(Pool())
            stack.enter_context(launching(Client(pool.address)))
        stack.enter_context(keeping(stack.enter_context(Sessions())))
        yield


@pytest.fixture
def assert_equivalent(
    request: pytest.FixtureRequest,
    _bridge_workers: None,
) -> Callable[..., Any]:
    """`bridge.testing.assert_equivalent` with the options of the marker `bridge`.

    The versions may be paths, factories or live modules. The marker's options are those of the call where it
    does not say otherwise. The verdict and the largest errors are recorded for pytest's JUnit file.
    """
    settings = _settings(request.node)
    checks = request.config.stash[_STATE]
    name = request.node.nodeid
    count = 0

    def check(source: Any, target: Any, **options: Any) -> Any:
        __tracebackhide__ = True
        nonlocal count
        count += 1
        given = {**settings.options, **options}
        seeds = [given.pop("seed")] if "seed" in options else settings.seeds
        report = None
        for seed in seeds:
            title = name + (f" ({count})" if count > 1 else "") + (f" seed {seed}" if len(seeds) > 1 else "")
            report = checks.verify(title, source, target, {**given, "seed": seed})
            request.node.user_properties += _properties(report)
            checks.judge(title, report, settings.max_error)
        return report

    return check


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What the markers of a test say."""

    seeds: Sequence[int]
    max_error: float | None
    options: Mapping[str, Any]


def _settings(item: pytest.Item) -> _Settings:
    """The arguments of all markers of a test, those nearest to it over those of its class and module."""
    found: dict[str, Any] = {}
    for marker in reversed(list(item.iter_markers(_MARKER))):
        if marker.args:
            raise pytest.UsageError(f"{item.nodeid}: the marker {_MARKER} takes keyword arguments only")
        found.update(marker.kwargs)
    seeds = found.pop("seeds", None)
    if seeds is None:
        seeds = [found.pop("seed", 0)]
    return _Settings(list(seeds), found.pop("max_error", None), found)


class _Checks:
    """All checks of a test run."""

    def __init__(self, config: pytest.Config) -> None:
        def path(option: str) -> Path | None:
            text = config.getoption(option)
            return None if text is None else config.invocation_params.dir / text

        self.reports = path("--bridge-report")
        self.file = path("--bridge-baseline")
        self.updates = bool(config.getoption("--bridge-update-baseline"))
        self._baseline: Baseline | None = None
        self.pairs: dict[str, PairReport] = {}
        self.recorded: dict[str, Any] = {}

    def verify(
        self,
        title: str,
        source: Any,
        target: Any,
        options: Mapping[str, Any],
    ) -> Report:
        """The report of one check, kept for the reports of the run."""
        __tracebackhide__ = True
        from bridge.api import verify
        from bridge.errors import BridgeError
        from bridge.verification.report.suite import PairReport

        one, other = _described(source), _described(target)
        try:
            report = verify(source, target, **options)
        except BridgeError as error:
            self.pairs[title] = PairReport(title, one, other, error=error.message)
            raise
        self.pairs[title] = PairReport(title, one, other, report, seconds=report.timing.total_seconds)
        if self.reports is not None:
            self.reports.mkdir(parents=True, exist_ok=True)
            file = self.reports / f"{_file_name(title)}.json"
            report.to_json(file)
            report.to_html(file.with_suffix(".html"))
        return report

    def judge(self, title: str, report: Report, max_error: float | None) -> None:
        """Raise AssertionError where the versions differ, or are worse than was asked for or recorded."""
        __tracebackhide__ = True
        from bridge.testing import assert_passed

        assert_passed(report)
        worse = list(_above(report, max_error))
        if self.file is not None:
            from bridge.verification.suite import baseline

            if self.updates:
                self.recorded[title] = baseline.plain(baseline.record(report))
            else:
                if self._baseline is None:
                    self._baseline = baseline.read(self.file)
                recorded = self._baseline.pairs.get(title)
                if recorded is not None:
                    worse += baseline.compare(report, recorded).regressions
        if worse:
            self.pairs[title] = dataclasses.replace(self.pairs[title], regressions=tuple(worse))
            raise AssertionError(
                "\n  ".join(["the versions are equivalent, but worse than allowed:", *worse])
            )

    def to_text(self) -> str:
        """What the main process of a distributed run needs from a worker."""
        return json.dumps({"suite": self._suite().to_dict(), "recorded": self.recorded}, allow_nan=False)

    def add(self, text: str) -> None:
        """Take in what `to_text` gave in a worker."""
        from bridge.verification.report.suite import SuiteReport

        record = json.loads(text)
        with tempfile.TemporaryDirectory(prefix="bridge-") as scratch:
            file = Path(scratch, "suite.json")
            file.write_text(json.dumps(record["suite"]), encoding="utf-8")
            self.pairs.update({each.name: each for each in SuiteReport.from_json(file).pairs})
        self.recorded.update(record["recorded"])

    def _suite(self) -> SuiteReport:
        from bridge.verification.report.suite import SuiteReport

        return SuiteReport("pytest", tuple(self.pairs[name] for name in sorted(self.pairs)))

    def finish(self) -> None:
        """Write the page of all checks, and the baseline."""
        if self.pairs and self.reports is not None:
            suite = self._suite()
            self.reports.mkdir(parents=True, exist_ok=True)
            suite.to_json(self.reports / "suite.json")
            suite.to_html(self.reports / "index.html")
            suite.to_markdown(self.reports / "summary.md")
        if self.updates and self.file is not None and self.recorded:
            from bridge.verification.suite import baseline

            before = baseline.read(self.file, new=True)
            baseline.write(self.file, baseline.with_records(before, self.recorded))


def pytest_sessionfinish(session: pytest.Session) -> None:
    checks = session.config.stash[_STATE]
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        if checks.pairs:
            output[_WORKER_RESULTS] = checks.to_text()
        return
    checks.finish()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended: take over what it has found."""
    text = getattr(node, "workeroutput", {}).get(_WORKER_RESULTS)
    if text is not None:
        node.config.stash[_STATE].add(text)


def _properties(report: Report) -> list[tuple[str, object]]:
    """What pytest's JUnit file tells of a check."""
    errors = [each for output in report.outputs for each in output.errors]
    return [
        ("bridge_verdict", report.verdict),
        ("bridge_source_error", max((each.source_l2 or 0.0 for each in errors), default=0.0)),
        ("bridge_target_error", max((each.target_l2 for each in errors), default=0.0)),
    ]


def _above(report: Report, limit: float | None) -> Iterator[str]:
    if limit is None:
        return
    for output in report.outputs:
        for each in output.errors:
            error = max(each.target_l2, each.target_max)
            if not error <= limit:
                where = f"output {output.name}, {each.rule} inputs"
                yield f"{where}: error {error:.2g}, at most {limit:.2g} allowed"


def _described(version: Any) -> str:
    if isinstance(version, str | Path):
        return str(version)
    return f"{type(version).__module__}.{type(version).__qualname__}"


def _file_name(title: str) -> str:
    return re.sub(r"[^\w.-]+", "_", title).strip("_")
