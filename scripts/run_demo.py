"""Train the fixtures, convert each to the other framework, verify, and print one table.

Exits with 0 only if every pair is equivalent and the digit classifiers agree on every test image.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bridge import api
from bridge.errors import BridgeError, ExitCode
from bridge.verification.report import Report
from fixtures import build

MODELS = (
    ("linear regression", "linear_torch", "model.pt2", "tf"),
    ("linear regression", "linear_tf1", "saved_model", "torch"),
    ("digits CNN", "digits_torch", "model.pt2", "tf"),
    ("digits CNN", "digits_keras", "model.keras", "torch"),
)
HEADER = (
    "model",
    "direction",
    "parameters",
    "conversion",
    "source error",
    "target error",
    "same predictions",
    "verdict",
)
NAMES = {"torch": "PyTorch", "tf": "TensorFlow"}


class Row(NamedTuple):
    """One line of the table, and the exit code that it alone would give."""

    cells: tuple[str, ...]
    code: int


def convert(title: str, fixture: str, file: str, to: str, scratch: Path) -> Row:
    directory = build.artifacts(fixture)
    direction = f"{NAMES['tf' if to == 'torch' else 'torch']} to {NAMES[to]}"
    started = time.perf_counter()
    try:
        result = api.convert(directory / file, to=to, output=scratch / fixture)
    except BridgeError as error:
        print(error, file=sys.stderr)
        return Row((title, direction, "", "", "", "", "", "failed"), int(error.exit_code))
    seconds = time.perf_counter() - started - result.timings["verify"]
    assert result.report is not None
    trained = [each for each in result.weights.tensors if each.kind == "parameter"]
    source, target = errors(result.report)
    agreement = agree(result, directory / "test.npz")
    code = int(result.report.exit_code)
    if agreement is not None and agreement[0] != agreement[1]:
        code = code or int(ExitCode.DIFFERENT)
    cells = (
        title,
        direction,
        f"{sum(math.prod(each.shape) for each in trained):,}",
        f"{seconds:.1f} s",
        source,
        target,
        "" if agreement is None else f"{agreement[0]} of {agreement[1]}",
        result.report.verdict,
    )
    return Row(cells, code)


def errors(report: Report) -> tuple[str, str]:
    """The largest relative errors of both versions against the source in float64."""
    found = [each for output in report.outputs for each in output.errors]
    source = [each.source_l2 for each in found if each.source_l2 is not None]
    return (
        f"{max(source):.1e}" if source else "no reference",
        f"{max(each.target_l2 for each in found):.1e}" if found else "",
    )


def agree(result: api.Result, test: Path) -> tuple[int, int] | None:
    """On how many of the test images the converted model predicts what its source predicted in training."""
    if not test.is_file():
        return None
    data = np.load(test)
    (scores,) = result.run(data["image"])
    return int((np.asarray(scores).argmax(1) == data["predictions"]).sum()), len(data["predictions"])


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(
        line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
    )


def main() -> int:
    started = time.perf_counter()
    rows = []
    with tempfile.TemporaryDirectory(prefix="bridge-demo-") as scratch:
        for title, fixture, file, to in MODELS:
            print(f"{title}: train, convert {fixture}/{file} to {to}, verify …", file=sys.stderr, flush=True)
            rows.append(convert(title, fixture, file, to, Path(scratch)))
    print()
    print(table([HEADER, *(row.cells for row in rows)]))
    print(f"\n{time.perf_counter() - started:.0f} seconds in all")
    return max(row.code for row in rows)


if __name__ == "__main__":
    sys.exit(main())
