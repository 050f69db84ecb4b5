"""The ONNX standard's own test suite against what bridge emits: `scripts/conformance --help`."""

from __future__ import annotations

import json
import random
import shutil
import statistics
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from scripts.onnx_suite import cases, coverage, known_passes, timing
from scripts.onnx_suite.agreement import agreement
from scripts.onnx_suite.modes import BARS
from scripts.onnx_suite.outcome import VERDICTS, Outcome
from scripts.onnx_suite.runner import run_cases, worker_command

TARGETS = ("torch", "tf")
PEERS = ("onnxruntime", "onnx2torch")
MODES = ("run", "pt2", "compile", "device", "saved", "xla", "agree", "timing")
GIGABYTE = 10**9


class Suite:
    """The suite's cases and how to run those that were chosen."""

    def __init__(
        self, known: dict[str, cases.SuiteCase], names: list[str], jobs: int, limit: float, memory: float
    ) -> None:
        self.known = known
        self.names = names
        self._jobs = jobs
        self._limit = limit
        self._memory = int(memory * GIGABYTE)

    def run(self, engine: str, mode: str = "run", *, store: Path | None = None) -> list[Outcome]:
        """The outcomes with one engine in one mode."""
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task(f"{engine}: {len(self.names)} cases", total=len(self.names))
            return run_cases(
                worker_command(engine, mode, self._memory),
                self.names,
                jobs=self._jobs,
                limit=self._limit,
                options={} if store is None else {"store": str(store)},
                on_outcome=lambda outcome: progress.advance(task),
            )

    @property
    def whole(self) -> bool:
        """Whether every case was chosen."""
        return len(self.names) == len(self.known)


def choose(
    known: Mapping[str, cases.SuiteCase], *, pattern: str, category: str | None, sample: int | None, seed: int
) -> list[str]:
    """The names of the cases to run; a sample is drawn with the seed."""
    names = [
        each.name for each in known.values() if pattern in each.name and category in (None, each.category)
    ]
    if sample is not None and sample < len(names):
        names = sorted(random.Random(seed).sample(names, sample))
    return names


def print_counts(console: Console, known: Mapping[str, cases.SuiteCase], outcomes: Sequence[Outcome]) -> None:
    """How many cases of each category ended how."""
    table = Table("", *VERDICTS, "of")
    for group, numbers in coverage.counts(known, outcomes).items():
        table.add_row(group, *(str(numbers[each]) for each in VERDICTS), str(numbers.total()))
    console.print(table)
    drawn = sum(each.verdict == "random" for each in outcomes)
    passed = sum(each.passes for each in outcomes)
    console.print(
        f"{passed} of {len(outcomes)} pass, {drawn} of them random ones, judged by type and shape only"
    )
    times = [each.seconds for each in outcomes if each.seconds is not None]
    if times:
        console.print(f"time to convert a case, median: {statistics.median(times) * 1000:.1f} ms")


def print_mode(console: Console, mode: str, outcomes: Sequence[Outcome]) -> bool:
    """How a mode's cases ended; whether its bar is reached."""
    bar = BARS[mode]
    counted = [each for each in outcomes if not each.excluded]
    others: dict[str, list[Outcome]] = {}
    for each in outcomes:
        if each.excluded:
            others.setdefault(each.excluded, []).append(each)
    passed = sum(each.passes for each in counted)
    share = passed / len(counted) if counted else 1.0
    console.print(
        f"{mode}: {passed} of {len(counted)} {bar.counted} pass, {share:.1%} (bar: {bar.share:.0%})"
    )
    notes = Counter(each.reason for each in counted if each.passes and each.reason)
    for note, number in sorted(notes.items()):
        console.print(f"  {number} of them {note}")
    for reason, group in sorted(others.items()):
        too = sum(each.passes for each in group)
        console.print(
            f"  not counted: {len(group)} ({reason})" + (f", {too} of which pass as well" if too else "")
        )
    return share >= bar.share


def check_baseline(console: Console, target: str, outcomes: Sequence[Outcome]) -> bool:
    """Whether everything that used to pass does, and nothing is wrong; says what is not."""
    faults = known_passes.faults(known_passes.read(target), outcomes)
    for each in faults:
        console.print(f"{each.verdict}: {each.case}: {each.reason}", markup=False, soft_wrap=True)
    found = (
        f"{len(faults)} cases are wrong or used to pass" if faults else "everything that used to pass does"
    )
    console.print(f"baseline of {target}: {found}")
    return not faults


def renew_baseline(console: Console, target: str, outcomes: Sequence[Outcome], *, allowed: bool) -> bool:
    """Write what passes; refuses to drop a case that used to pass, unless that is allowed."""
    dropped = known_passes.regressions(known_passes.read(target), outcomes)
    if dropped and not allowed:
        for each in dropped:
            console.print(f"{each.verdict}: {each.case}: {each.reason}", markup=False, soft_wrap=True)
        console.print(f"{len(dropped)} cases used to pass; drop them with --allow-regressions")
        return False
    console.print(f"wrote {known_passes.write(target, outcomes)}")
    return True


@click.command()
@click.option("--target", type=click.Choice(TARGETS), help="Convert, and run the emitted text.")
@click.option("--engine", type=click.Choice(PEERS), help="A peer instead.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="run",
    show_default=True,
    help="torch: pt2 (saved and loaded), compile (torch.compile), "
    "device (none is mixed up), timing (beside onnx2torch); "
    "tf: saved (SavedModel elsewhere), xla (jit_compile); agree needs no target.",
)
@click.option("--timing", "timed", is_flag=True, help="The same as --mode timing.")
@click.option("--backend", type=click.Choice(["inductor", "aot_eager"]), help="Of --mode compile.")
@click.option("-k", "pattern", default="", help="Only cases whose name contains this.")
@click.option("--category", type=click.Choice(cases.CATEGORIES))
@click.option("--sample", type=int, help="That many cases, drawn with --seed.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--jobs", type=int, default=2, show_default=True)
@click.option("--limit", type=float, default=60.0, show_default=True, help="Seconds for a case.")
@click.option("--memory", type=float, default=8.0, show_default=True, help="Gigabytes for a worker.")
@click.option("--check", is_flag=True, help="Exit 1 if a case is wrong, or used to pass and does not.")
@click.option("--update-baseline", is_flag=True, help="Commit to what passes now.")
@click.option("--allow-regressions", is_flag=True, help="Let --update-baseline drop cases.")
@click.option("--docs", is_flag=True, help="Write the page in docs/coverage.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every outcome here.")
@click.option("-v", "--verbose", is_flag=True, help="Print every case that did not pass.")
def main(
    target: str | None,
    engine: str | None,
    mode: str,
    timed: bool,
    backend: str | None,
    pattern: str,
    category: str | None,
    sample: int | None,
    seed: int,
    jobs: int,
    limit: float,
    memory: float,
    check: bool,
    update_baseline: bool,
    allow_regressions: bool,
    docs: bool,
    json_file: Path | None,
    verbose: bool,
) -> None:
    """The ONNX standard's own test suite against emitted models.

    Exit code 1: --check found something, or a mode does not reach its bar.
    """
    mode = "timing" if timed else mode
    chosen = _chosen_engine(target, engine, mode)
    known = cases.collect()
    names = choose(known, pattern=pattern, category=category, sample=sample, seed=seed)
    suite = Suite(known, names, jobs, limit, memory)
    if (docs or update_baseline) and (mode != "run" or not suite.whole or target is None):
        raise click.UsageError("--docs and --update-baseline take all cases of a --target")
    console = Console(width=None if Console().is_terminal else 140)
    good = True
    if mode == "agree":
        outcomes = _agree(suite)
        agreeing = sum(each.passes for each in outcomes)
        console.print(f"both targets agree on {agreeing} of {len(outcomes)} cases that both pass (bar: all)")
        good = agreeing == len(outcomes)
    elif mode == "timing":
        outcomes = suite.run("torch", "timing")
        text, good = timing.report(outcomes)
        console.print(text)
    elif mode == "run":
        outcomes = suite.run(chosen)
        print_counts(console, known, outcomes)
    else:
        name = _backend(backend) if mode == "compile" else mode
        outcomes = [_counted(known[each.case], each, name) for each in suite.run(chosen, name)]
        good = print_mode(console, name, outcomes)
    if verbose:
        for each in outcomes:
            if not each.passes and not each.excluded:
                console.print(f"{each.verdict}: {each.case}: {each.reason}", markup=False, soft_wrap=True)
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(each) for each in outcomes], indent=1) + "\n")
    if target is not None and check:
        good = check_baseline(console, target, outcomes) and good
    if target is not None and docs:
        console.print(f"wrote {coverage.write(target, known, outcomes)}")
    if target is not None and update_baseline:
        good = renew_baseline(console, target, outcomes, allowed=allow_regressions) and good
    if not good:
        raise SystemExit(1)


def _chosen_engine(target: str | None, engine: str | None, mode: str) -> str:
    if mode == "agree":
        return ""
    if (target is None) == (engine is None):
        raise click.UsageError("name a --target, or a peer with --engine")
    chosen = target or engine or ""
    fits = {"torch": ("run", "pt2", "compile", "device", "timing"), "tf": ("run", "saved", "xla")}
    if mode not in fits.get(chosen, ("run",)):
        raise click.UsageError(f"--mode {mode} is not for {chosen}")
    return chosen


def _counted(case: cases.SuiteCase, outcome: Outcome, mode: str) -> Outcome:
    """An outcome with what excludes its case, which a worker that died could not say."""
    died = outcome.verdict in ("timed out", "crashed")
    return replace(outcome, excluded=BARS[mode].excluded(case)) if died else outcome


def _backend(asked: str | None) -> str:
    """Inductor where there is a C++ compiler for it to use, else the backend that needs none."""
    return asked or ("inductor" if shutil.which("g++") or shutil.which("clang++") else "aot_eager")


def _agree(suite: Suite) -> list[Outcome]:
    with tempfile.TemporaryDirectory(prefix="bridge-agree-") as scratch:
        stores = (Path(scratch, "torch"), Path(scratch, "tf"))
        ours = [suite.run(target, store=store) for target, store in zip(TARGETS, stores, strict=True)]
        return agreement(suite.known, ours[0], ours[1], stores)


if __name__ == "__main__":
    main()
