"""Run the pairs of a suite in parallel, each in a process of its own."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from pathlib import Path

from bridge.errors import BridgeError
from bridge.verification.report import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.suite.file import Pair, Suite
from bridge.verification.suite.identity import identity
from bridge.verification.suite.options import as_arguments
from bridge.verification.suite.store import Store
from bridge.worker.launch import launching
from bridge.worker.pool import Client, Pool, supported
from bridge.worker.process import WorkerProcess
from bridge.worker.tasks import run_task

_MEASURED = frozenset({"speed", "max_slowdown", "max_memory"})
"""Options that time the models: such a pair runs alone, and its workers are started afresh."""
_GRACE = 60.0
"""Seconds beyond its own timeout that a pair has to start and to write its report."""
_DEFAULT_TIMEOUT = 600.0
NOT_RUN = "it was not run: another pair had failed before (--fail-fast)"

Progress = Callable[[str], None]


def run_suite(
    suite: Suite,
    *,
    jobs: int | None = None,
    state: Path | None = None,
    resume: bool = False,
    fail_fast: bool = False,
    reuse: bool = True,
    on_progress: Progress | None = None,
    on_finish: Callable[[PairReport], None] | None = None,
) -> SuiteReport:
    """Verify all pairs of a suite.

    `jobs` pairs run side by side, by default as many as there are processors; pairs whose speed is measured
    run alone, after the others. Each version computes with one thread, unless `threads` says otherwise, so
    that the number of jobs changes no bit of a report; one whose speed is measured has `bridge verify`'s
    default. `state` is where results are kept (default: `.bridge-suite` beside the file), and with `resume`
    what has not changed since is taken from there. After a failure, `fail_fast` starts no further pair.
    With `reuse`, workers are forked from processes that have imported the frameworks before, where the
    system supports that. `on_finish` hears of every pair as soon as it is done, from any thread.

    A pair that crashes, hangs, or cannot be read "could not be checked"; the others are not affected.
    """
    started = time.monotonic()
    running = _Running(
        suite,
        Store(state or suite.directory / ".bridge-suite" / suite.path.stem),
        resume,
        on_progress or (lambda text: None),
        on_finish or (lambda pair: None),
    )
    with _pool(reuse) as address, tempfile.TemporaryDirectory(prefix="bridge-suite-") as scratch:
        pairs = running.run(jobs or _processors(), fail_fast, address, Path(scratch))
    return SuiteReport(str(suite.path), pairs, seconds=time.monotonic() - started)


@contextmanager
def _pool(reuse: bool) -> Iterator[str | None]:
    if not reuse or not supported():
        yield None
        return
    with Pool() as pool, launching(Client(pool.address)):
        yield pool.address


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_measured(pair: Pair) -> bool:
    """Whether the speed or memory of a pair is measured."""
    return any(pair.options.get(each) for each in _MEASURED)


class _Running:
    def __init__(
        self,
        suite: Suite,
        store: Store,
        resume: bool,
        say: Progress,
        finish: Callable[[PairReport], None],
    ) -> None:
        self._suite = suite
        self._store = store
        self._resume = resume
        self._say = say
        self._finish = finish
        self._lock = threading.Lock()
        self._workers: dict[str, WorkerProcess] = {}
        self._stopped = False
        self._interrupted = False

    def run(self, jobs: int, fail_fast: bool, address: str | None, scratch: Path) -> tuple[PairReport, ...]:
        """The reports in the order of the suite."""
        found: dict[str, PairReport] = {}
        together = [each for each in self._suite.pairs if not is_measured(each)]
        alone = [each for each in self._suite.pairs if is_measured(each)]
        for pairs, width in ((together, jobs), (alone, 1)):
            for report in self._several(pairs, width, address, scratch):
                found[report.name] = report
                self._finish(report)
                if fail_fast and not report.passed:
                    self._stopped = True
        return tuple(
            found.get(each.name) or PairReport(each.name, each.source, each.target, error=NOT_RUN)
            for each in self._suite.pairs
        )

    def _several(
        self, pairs: Sequence[Pair], jobs: int, address: str | None, scratch: Path
    ) -> Iterator[PairReport]:
        waiting = list(reversed(pairs))
        futures: set[Future[PairReport]] = set()
        with ThreadPoolExecutor(max(1, jobs), thread_name_prefix="suite") as executor:
            try:
                while (waiting and not self._stopped) or futures:
                    while waiting and len(futures) < jobs and not self._stopped:
                        futures.add(executor.submit(self._one, waiting.pop(), address, scratch))
                    done, futures = wait(futures, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            except BaseException:
                self._interrupt()
                raise

    def _one(self, pair: Pair, address: str | None, scratch: Path) -> PairReport:
        """Verify one pair, or find the result of an earlier call."""
        started = time.monotonic()
        key = identity(pair, self._suite.directory)
        kept = self._store.find(pair.name, key) if self._resume else None
        if kept is not None:
            return PairReport(pair.name, pair.source, pair.target, kept, resumed=True)
        report, error = self._verified(pair, address, scratch)
        if report is not None and identity(pair, self._suite.directory) == key:
            self._store.keep(pair.name, key, report)
        return PairReport(
            pair.name, pair.source, pair.target, report, error, seconds=time.monotonic() - started
        )

    def _verified(self, pair: Pair, address: str | None, scratch: Path) -> tuple[Report | None, str]:
        measured = is_measured(pair)
        options = as_arguments(pair.options)
        if not measured:
            options.setdefault("threads", 1)
        timeout = options.get("timeout", _DEFAULT_TIMEOUT)
        file = scratch / f"{threading.get_ident()}.json"
        file.unlink(missing_ok=True)
        pool = None if measured else address
        try:
            with nullcontext() if pool is None else launching(Client(pool)):
                run_task(
                    "bridge.verification.suite.pair:run",
                    {
                        "source": pair.source,
                        "target": pair.target,
                        "options": options,
                        "pool": pool,
                        "report": str(file),
                    },
                    label="process of the pair",
                    timeout=timeout + _GRACE,
                    on_progress=lambda text: self._say(f"{pair.name}: {text}"),
                    prepared="task",
                    directory=str(self._suite.directory),
                    on_start=lambda worker: self._started(pair, worker),
                )
            return Report.from_json(file), ""
        except BridgeError as error:
            return None, _sentence(error)
        finally:
            with self._lock:
                self._workers.pop(pair.name, None)

    def _started(self, pair: Pair, worker: WorkerProcess) -> None:
        with self._lock:
            self._workers[pair.name] = worker
            if self._interrupted:
                worker.interrupt()

    def _interrupt(self) -> None:
        """End whatever runs, since nobody waits for it any more."""
        with self._lock:
            self._stopped = self._interrupted = True
            for worker in self._workers.values():
                worker.interrupt()


def _sentence(error: BridgeError) -> str:
    place = f"{error.where}: " if error.where else ""
    return f"{place}{error.message}" + (f" ({error.hint})" if error.hint else "")
