"""Run the standard's own suite: `scripts/conformance --target torch`.

Every case is converted, its emitted text run, and its outputs compared. Cases run in worker processes,
each with a time limit; a crash costs one case.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from bridge.errors import EnvironmentFailure
from bridge.worker.process import WorkerProcess
from scripts.onnx_suite import cases

ROOT = Path(__file__).resolve().parents[2]
ENGINES = ("torch", "tf", "onnxruntime", "onnx2torch")
OUTCOMES = ("passed", "wrong", "refused", "failed", "timed out", "crashed")
_START_SECONDS = 180.0
"""A worker imports its framework and generates the suite before its first case."""

Outcome = dict[str, Any]


class Worker:
    """One worker process, started anew after a crash or a time-out."""

    def __init__(self, engine: str, limit: float) -> None:
        self._engine = engine
        self._limit = limit
        self._process: WorkerProcess | None = None

    def attempt(self, name: str) -> Outcome:
        fresh = self._process is None
        if self._process is None:
            command = [sys.executable, "-m", "scripts.onnx_suite.worker", self._engine]
            self._process = WorkerProcess(
                command, label="conformance worker", environment={"OMP_NUM_THREADS": "1"}
            )
        started = time.monotonic()
        limit = self._limit + (_START_SECONDS if fresh else 0.0)
        try:
            self._process.send({"case": name})
            return self._process.receive(deadline=started + limit)
        except EnvironmentFailure as error:
            self.close()
            late = time.monotonic() - started >= limit
            return {
                "case": name,
                "outcome": "timed out" if late else "crashed",
                "reason": f"over {self._limit:.0f} s" if late else error.message,
            }

    def close(self) -> None:
        if self._process is not None:
            self._process.close()
            self._process = None


def run_cases(engine: str, names: list[str], *, jobs: int, limit: float) -> list[Outcome]:
    """The outcomes of cases, in their order."""
    local = threading.local()
    workers: list[Worker] = []

    def attempt(name: str) -> Outcome:
        if not hasattr(local, "worker"):
            local.worker = Worker(engine, limit)
            workers.append(local.worker)
        outcome: Outcome = local.worker.attempt(name)
        return outcome

    try:
        with ThreadPoolExecutor(jobs) as pool, Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{engine}: {len(names)} cases", total=len(names))
            outcomes = []
            for outcome in pool.map(attempt, names):
                outcomes.append(outcome)
                progress.advance(task)
            return outcomes
    finally:
        for worker in workers:
            worker.close()


def choose(
    known: dict[str, cases.SuiteCase], *, pattern: str, category: str | None, sample: int | None, seed: int
) -> list[str]:
    """The names of the cases to run; a sample is drawn with the seed."""
    names = [
        each.name for each in known.values() if pattern in each.name and category in (None, each.category)
    ]
    if sample is not None and sample < len(names):
        names = sorted(random.Random(seed).sample(names, sample))
    return names


def summary(known: dict[str, cases.SuiteCase], outcomes: list[Outcome]) -> Table:
    """How many cases of each category ended how."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for each in outcomes:
        case = known[each["case"]]
        for group in (case.category, f"({case.kind})", "all"):
            counts[group][each["outcome"]] += 1
    table = Table("", *OUTCOMES, "of")
    groups = [*cases.CATEGORIES, "(tensors)", "(strings)", "(sequences)", "(training)", "all"]
    for group in groups:
        if counts[group]:
            numbers = [str(counts[group][each]) for each in OUTCOMES]
            table.add_row(group, *numbers, str(counts[group].total()))
    return table


@click.command()
@click.option("--target", type=click.Choice(["torch", "tf"]), help="convert and run the emitted text")
@click.option("--engine", type=click.Choice(ENGINES[2:]), help="a peer instead")
@click.option("-k", "pattern", default="", help="only cases whose name contains this")
@click.option("--category", type=click.Choice(cases.CATEGORIES))
@click.option("--sample", type=int, help="that many cases, drawn with --seed")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--jobs", type=int, default=2, show_default=True)
@click.option("--limit", type=float, default=60.0, show_default=True, help="seconds for a case")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="write every outcome here")
@click.option("-v", "--verbose", is_flag=True, help="print every case that did not pass")
def main(
    target: str | None,
    engine: str | None,
    pattern: str,
    category: str | None,
    sample: int | None,
    seed: int,
    jobs: int,
    limit: float,
    json_file: Path | None,
    verbose: bool,
) -> None:
    """The ONNX standard's own test suite against emitted models."""
    engine = target or engine
    if engine is None:
        raise click.UsageError("name a --target, or a peer with --engine")
    known = cases.collect()
    names = choose(known, pattern=pattern, category=category, sample=sample, seed=seed)
    outcomes = run_cases(engine, names, jobs=jobs, limit=limit)
    console = Console()
    if verbose:
        for each in outcomes:
            if each["outcome"] != "passed":
                console.print(
                    f"{each['outcome']:9} {each['case']}: {each['reason']}", markup=False, soft_wrap=True
                )
    console.print(summary(known, outcomes))
    times = [each["seconds"] for each in outcomes if "seconds" in each]
    if times:
        console.print(f"time to convert a case, median: {statistics.median(times) * 1000:.1f} ms")
    if json_file is not None:
        json_file.write_text(json.dumps(outcomes, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
