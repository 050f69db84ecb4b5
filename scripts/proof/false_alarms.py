"""Verify right pairs with many seeds: whatever is called "different" is a false alarm.

python -m scripts.proof.false_alarms                        # all pairs, 20 seeds each
python -m scripts.proof.false_alarms --resume               # goes on after an interruption
python -m scripts.proof.false_alarms --pairs unet lstm --seeds 3

A line of JSON is kept for every verification. Exits with 1 after a false alarm, with 3 where a pair that
is not declared unstable could not be checked.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError
from bridge.verification.checks import Checks
from bridge.verification.compare import EPSILONS, Errors
from bridge.verification.parties import resolve
from bridge.verification.report import Report
from bridge.verification.session import Session
from scripts.proof import pairs
from scripts.proof.pairs import PAIRS, Pair

WORK = Path(__file__).resolve().parents[2] / "fixtures" / "artifacts" / "pairs"
_FLOAT32_EPSILON = 2.0**-23


@dataclass(frozen=True)
class Record:
    """One verification: the verdict, and how far both sides were off where they were farthest.

    `source` and `target` are e_s and e_t of the kind of inputs and the norm with the largest share of its
    tolerance used, `used` is that share; `function` the largest distance in float64, where it was looked
    at. `close` counts the comparisons in which e_t alone did not pass.
    """

    pair: str
    seed: int
    verdict: str
    reasons: list[str]
    source: float
    target: float
    used: float
    function: float | None
    close: int
    worst: str
    seconds: float


def measure(pair: str, report: Report, seconds: float) -> Record:
    """The record of one report."""
    measured = [(each, output.name) for output in report.outputs for each in output.errors]
    shares = [share for each, name in measured for share in _shares(each, name)]
    used, source, target, worst = max(shares, default=(0.0, 0.0, 0.0, ""))
    functions = [each.function_l2 for each, _ in measured if each.function_l2 is not None]
    return Record(
        pair,
        report.seed,
        report.verdict,
        list(report.reasons),
        source,
        target,
        used,
        max(functions, default=None),
        sum(target > EPSILONS * _FLOAT32_EPSILON for _, _, target, _ in shares),
        worst,
        round(seconds, 2),
    )


def _shares(errors: Errors, output: str) -> Iterator[tuple[float, float, float, str]]:
    """The share of the tolerance that is used, e_s and e_t, in both norms."""
    norms = (
        ("l2", errors.source_l2, errors.target_l2, errors.tolerance_l2),
        ("max", errors.source_max, errors.target_max, errors.tolerance_max),
    )
    for norm, source, target, tolerance in norms:
        if errors.stable and source is not None and tolerance:
            yield target / tolerance, source, target, f"{output} {errors.rule} {norm}"


def verify_pair(pair: Pair, directory: Path, seeds: Iterable[int], timeout: float) -> Iterator[Record]:
    """Verify a pair with each seed, both versions loaded once."""
    source = resolve(pairs.source_path(directory, pair.name), as_target=False)
    target = resolve(pairs.target_path(directory, pair.name), as_target=True)
    with Session(source, target, threads=1, timeout=timeout) as session:
        for seed in seeds:
            started = time.monotonic()
            try:
                report = session.verify(Checks(seed=seed, localise=False))
            except BridgeError as error:
                seconds = round(time.monotonic() - started, 2)
                yield Record(pair.name, seed, "refused", [str(error)], 0, 0, 0, None, 0, "", seconds)
            else:
                yield measure(pair.name, report, time.monotonic() - started)


def sweep(
    names: Sequence[str], seeds: int, directory: Path, results: Path, *, resume: bool, timeout: float
) -> list[Record]:
    """Verify pairs with the seeds from 0, except those that `results` holds already if `resume`."""
    done = read_records(results) if resume else []
    known = {(each.pair, each.seed) for each in done}
    records = [each for each in done if each.pair in names and each.seed < seeds]
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a" if resume else "w", encoding="utf-8") as file:
        for name in names:
            left = [seed for seed in range(seeds) if (name, seed) not in known]
            if not left:
                continue
            for record in verify_pair(PAIRS[name], directory, left, timeout):
                file.write(json.dumps(asdict(record)) + "\n")
                file.flush()
                records.append(record)
            print(row(PAIRS[name], [each for each in records if each.pair == name]), flush=True)
    return records


def read_records(path: Path) -> list[Record]:
    if not path.is_file():
        return []
    return [Record(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


_COLUMNS = ("equivalent", "e_s", "e_t", "used", "float64", "seconds")
_HEADER = f"{'pair':28} {'direction':11} {'made':10} " + " ".join(f"{each:>10}" for each in _COLUMNS)


def row(pair: Pair, records: Sequence[Record]) -> str:
    """A line of the table; errors are those of the comparison that used most of its tolerance."""
    worst = max(records, key=lambda each: each.used)
    functions = [each.function for each in records if each.function is not None]
    verdicts = Counter(each.verdict for each in records)
    cells = (
        f"{verdicts['equivalent']}/{len(records)}",
        f"{worst.source:.1e}",
        f"{worst.target:.1e}",
        f"{worst.used:.2f}",
        f"{max(functions):.1e}" if functions else "",
        f"{math.fsum(each.seconds for each in records):.1f}",
    )
    others = "".join(f"  {count} {verdict}" for verdict, count in verdicts.items() if verdict != "equivalent")
    start = f"{pair.name:28} {pair.source + ' -> ' + pair.target:11} {pair.made:10} "
    return start + " ".join(f"{cell:>10}" for cell in cells) + others


def summarise(records: Sequence[Record]) -> tuple[dict[str, Any], int]:
    """Counts over all records, and the exit code."""
    alarms = [each for each in records if each.verdict == "different"]
    unchecked = [each for each in records if each.verdict in ("could not be checked", "refused")]
    unexpected = [each for each in unchecked if not PAIRS[each.pair].unstable]
    summary = {
        "pairs": len({each.pair for each in records}),
        "verifications": len(records),
        "false alarms": len(alarms),
        "not checked": len(unchecked),
        "not checked without a reason": len(unexpected),
        "seconds": round(math.fsum(each.seconds for each in records), 1),
    }
    return summary, 1 if alarms else 3 if unexpected else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--pairs", nargs="+", metavar="NAME", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--seeds", type=int, default=20, help="how many seeds, from 0 (default: 20)")
    parser.add_argument("--work", type=Path, default=WORK, help="where the models are kept")
    parser.add_argument("--results", type=Path, help="default: WORK/false_alarms.jsonl")
    parser.add_argument("--resume", action="store_true", help="keep the results that are there")
    parser.add_argument("--timeout", type=float, default=300, help="seconds for one verification")
    options = parser.parse_args()
    pairs.build(options.work, options.pairs)
    print(_HEADER)
    results = options.results or options.work / "false_alarms.jsonl"
    records = sweep(
        options.pairs, options.seeds, options.work, results, resume=options.resume, timeout=options.timeout
    )
    for each in records:
        if each.verdict != "equivalent":
            print(f"{each.pair}, seed {each.seed}: {each.verdict}: {'; '.join(each.reasons)}")
    summary, code = summarise(records)
    print(json.dumps(summary))
    return code


if __name__ == "__main__":
    sys.exit(main())
