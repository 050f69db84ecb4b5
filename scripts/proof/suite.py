"""What `bridge verify --suite` saves over single calls, and whether its reports are the same.

python -m scripts.proof.suite                    # 20 right pairs
python -m scripts.proof.suite --pairs 8 --jobs 4

The pairs are verified by as many single calls of `bridge verify`, one after the other, and by one suite. Both
compute with one thread for each version. Then one pair is replaced by one that crashes and one by one that
hangs. Exits with 1 where the suite takes BAR of the time of the single calls or more, where a report differs
in anything but its timing, or where a pair loses its verdict through the faults of others.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.proof import pairs
from scripts.proof.pairs import PAIRS, Pair

BAR = 0.6
WORK = Path(__file__).resolve().parents[2] / "fixtures" / "artifacts" / "pairs"
_FAULTS = """
import os, signal, time

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def hang():
    time.sleep(3600)
"""


@dataclass(frozen=True)
class Cost:
    """Wall seconds, and those of all processors."""

    wall: float
    cpu: float


def main() -> int:
    """Measure, print, and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=20, metavar="N", help="how many pairs (default: 20)")
    parser.add_argument("--jobs", type=int, metavar="N", help="how many side by side (default: all cores)")
    parser.add_argument("--work", type=Path, default=WORK, help="where the models are, or are written to")
    arguments = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    chosen = [each for each in PAIRS.values() if not each.unstable][: arguments.pairs]
    pairs.build(arguments.work, [each.name for each in chosen])
    jobs = [] if arguments.jobs is None else ["--jobs", str(arguments.jobs)]
    with tempfile.TemporaryDirectory(prefix="bridge-suite-proof-") as scratch:
        directory = Path(scratch)
        single, singly = _singly(chosen, arguments.work, directory)
        together, reports, codes = _suite(chosen, arguments.work, directory, jobs, faults=False)
        wrong = [name for name, report in singly.items() if reports.get(name) != report]
        _, with_faults, verdicts = _suite(chosen, arguments.work, directory, jobs, faults=True)
    lost = [
        each.name
        for each in chosen[2:]
        if verdicts[each.name] != codes[each.name] or each.name not in with_faults
    ]
    wall, cpu = together.wall / single.wall, together.cpu / single.cpu
    others = len(chosen) - 2
    print(f"{len(chosen)} single calls: {single.wall:.1f} s, {single.cpu:.1f} s of processor time")
    print(f"one suite: {together.wall:.1f} s, {together.cpu:.1f} s of processor time")
    print(f"ratio: {wall:.2f} ({cpu:.2f} of the processor time), bar {BAR}")
    print(f"reports equal but for timing: {len(singly) - len(wrong)} of {len(singly)} {wrong or ''}")
    print(f"verdicts kept beside a crash and a hang: {others - len(lost)} of {others} {lost or ''}")
    print(f"{chosen[0].name} (crash), {chosen[1].name} (hang): {verdicts[chosen[0].name]}")
    return int(wall >= BAR or bool(wrong) or bool(lost))


def _singly(chosen: Sequence[Pair], work: Path, directory: Path) -> tuple[Cost, dict[str, Any]]:
    """The cost of single calls, and their reports by name."""
    reports = {}
    started = _now()
    for each in chosen:
        file = directory / f"{each.name}.json"
        paths = [str(pairs.source_path(work, each.name)), str(pairs.target_path(work, each.name))]
        _bridge("verify", *paths, "--threads", "1", "--report", str(file), "-q")
        reports[each.name] = file
    cost = _since(started)
    return cost, {name: _comparable(json.loads(file.read_text())) for name, file in reports.items()}


def _suite(
    chosen: Sequence[Pair], work: Path, directory: Path, jobs: Sequence[str], *, faults: bool
) -> tuple[Cost, dict[str, Any], dict[str, str]]:
    """The cost of one suite, its reports and its verdicts by name; with `faults` the first two pairs fail."""
    (directory / "faults.py").write_text(_FAULTS)
    lines = []
    for position, each in enumerate(chosen):
        target = str(pairs.target_path(work, each.name))
        if faults and position < 2:
            target = ("faults:crash", "faults:hang")[position]
        lines += ["[[pair]]", f"name = {json.dumps(each.name)}"]
        lines += [
            f"source = {json.dumps(str(pairs.source_path(work, each.name)))}",
            f"target = {json.dumps(target)}",
        ]
        lines += ["timeout = 30"] if faults and position == 1 else []
    name = "faults" if faults else "suite"
    file, report = directory / f"{name}.toml", directory / f"{name}.report.json"
    file.write_text("\n".join(lines))
    started = _now()
    _bridge("verify", "--suite", str(file), *jobs, "--report", str(report), "-q")
    cost = _since(started)
    found = json.loads(report.read_text())["pairs"]
    reports = {each["name"]: _comparable(each["report"]) for each in found if each["report"] is not None}
    return cost, reports, {each["name"]: each["verdict"] for each in found}


def _comparable(report: dict[str, Any]) -> dict[str, Any]:
    """A report without what may differ between equal runs: how long it took, and how it was called."""
    environment = report.get("environment") or {}
    environment.pop("command", None)
    return {key: value for key, value in report.items() if key not in ("timing", "speed")}


def _bridge(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "bridge", *arguments], check=False, stderr=subprocess.DEVNULL)


def _now() -> Cost:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(time.monotonic(), used.ru_utime + used.ru_stime)


def _since(started: Cost) -> Cost:
    now = _now()
    return Cost(now.wall - started.wall, now.cpu - started.cpu)


if __name__ == "__main__":
    sys.exit(main())
