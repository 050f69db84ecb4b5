"""The cases that are known to pass, committed beside this file, and what has changed since."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from scripts.onnx_suite.outcome import Outcome

FOLDER = Path(__file__).with_name("baseline")


def read(target: str, folder: Path | None = None) -> frozenset[str]:
    """The names of the cases that a target passed; none where nothing was committed."""
    file = (folder or FOLDER) / f"{target}.txt"
    return frozenset(file.read_text(encoding="utf-8").split()) if file.is_file() else frozenset()


def regressions(passed_before: frozenset[str], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Outcomes of cases that used to pass and do not."""
    return [each for each in outcomes if each.case in passed_before and not each.passes]


def faults(passed_before: frozenset[str], outcomes: Iterable[Outcome]) -> list[Outcome]:
    """What fails a check: cases that used to pass and do not, and wrong numbers without an error."""
    known = list(outcomes)
    wrong = [each for each in known if each.verdict == "wrong"]
    return [*wrong, *(each for each in regressions(passed_before, known) if each not in wrong)]


def write(target: str, outcomes: Iterable[Outcome], folder: Path | None = None) -> Path:
    """Write the names of the cases that pass, sorted, one a line."""
    (folder or FOLDER).mkdir(exist_ok=True)
    file = (folder or FOLDER) / f"{target}.txt"
    names = sorted(each.case for each in outcomes if each.passes)
    file.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    return file
