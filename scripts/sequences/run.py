"""Measures every sequence model that must work, and prints a table.

python -m scripts.sequences.run                         # all; results are kept
python -m scripts.sequences.run --resume                # go on after an interruption
python -m scripts.sequences.run --sample 6 --seed 7 --check
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fixtures import build
from fixtures.sequences import SEQUENCES
from scripts.sequences import page
from scripts.sequences.measure import ROOT, WORK, Measurement, measure

BASELINE = Path(__file__).parent / "baseline.json"


def chosen(only: list[str], sample: int | None, seed: int) -> list[str]:
    """Names whose text was asked for, all without; of these a sample, drawn by the seed."""
    names = [name for name in SEQUENCES if not only or any(text in name for text in only)]
    if sample is not None and sample < len(names):
        drawn = set(random.Random(seed).sample(names, sample))
        names = [name for name in names if name in drawn]
    return names


def kept(name: str, live: bool) -> Path:
    return WORK / f"{name}{'.live' if live else ''}.json"


def results(names: Iterable[str], *, jobs: int, resume: bool, live: bool) -> list[Measurement]:
    """Measure models in so many processes at a time, and print each as it is done."""

    def one(name: str) -> Measurement:
        file = kept(name, live)
        if resume and file.is_file():
            return Measurement(**json.loads(file.read_text()))
        found = measure(name, live=live)
        file.write_text(json.dumps(found.to_json(), indent=1) + "\n")
        return found

    done = []
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(one, names):
            print(page.line(found), flush=True)
            done.append(found)
    return done


def regressions(found: list[Measurement], baseline: dict[str, str]) -> list[str]:
    """Models that are worse than the baseline says: failing where they passed, or no longer native."""
    order = ("failed", "passed", "native", "refused")
    return [
        f"{each.name}: {page.verdict(each)}, was {baseline[each.name]}"
        for each in found
        if each.name in baseline and order.index(page.verdict(each)) < order.index(baseline[each.name])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the sequence models that must work.")
    parser.add_argument("--only", action="append", default=[], metavar="TEXT", help="names that contain it")
    parser.add_argument("--sample", type=int, metavar="N", help="so many of them, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="models at a time (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="keep results of an earlier run")
    parser.add_argument("--live", action="store_true", help="the Python API with live objects, not the CLI")
    parser.add_argument("--json", action="store_true", help="print all results as JSON at the end")
    parser.add_argument("--check", action="store_true", help="exit 1 if worse than the committed baseline")
    parser.add_argument("--update", action="store_true", help="write the baseline and docs/sequences.md")
    options = parser.parse_args()

    names = chosen(options.only, options.sample, options.seed)
    if options.live:
        names = [name for name in names if not name.startswith("tf1_")]
    WORK.mkdir(parents=True, exist_ok=True)
    build.make_together(names)
    found = results(names, jobs=options.jobs, resume=options.resume, live=options.live)
    print(page.summary(found))
    if options.json:
        print(json.dumps([each.to_json() for each in found]))
    if options.update:
        verdicts = {each.name: page.verdict(each) for each in found}
        BASELINE.write_text(json.dumps(verdicts, indent=1) + "\n")
        (ROOT / "docs" / "sequences.md").write_text(page.document(found))
    if options.check:
        worse = regressions(found, json.loads(BASELINE.read_text()))
        print("\n".join(["", *(worse or ["nothing is worse than the baseline"])]))
        return int(bool(worse))
    return int(not all(each.passed for each in found))


if __name__ == "__main__":
    sys.exit(main())
