"""From a report and an accuracy to an answer in a sentence, with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from bridge.comparison.model import Accuracy, Choice, Conclusion
from bridge.verification.quantities import size
from bridge.verification.report import Report
from bridge.verification.speed.decide import MEMORY_FLOOR
from bridge.verification.speed.result import SpeedResult, SpeedRow

Winner = Literal["first", "second", "equal", "open"]

_WINNERS: dict[str, Winner] = {"slower": "first", "faster": "second", "equal": "equal", "undecided": "open"}
"""Of a row's decision, which is about the second version."""
_MEMORY_MARGIN = 1.1
_MODES = {"inference": "for inference", "training step": "for training"}


@dataclass(frozen=True)
class Speedup:
    """How many times as fast the faster version of a row is, with the ends of the 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} times as fast ({self.low:.2f} to {self.high:.2f})"


def conclude(first: str, second: str, report: Report, accuracy: Accuracy | None) -> Conclusion:
    """Which framework to take; `first` and `second` are their names."""
    names = {"first": first, "second": second}
    points = list(_points(names, report, accuracy))
    if report.verdict == "different":
        return Conclusion(
            "open",
            f"The {first} and the {second} version do not compute the same, so that this compares two "
            f"different models: {report.reasons[0] if report.reasons else 'see the report'}.",
            tuple(points),
        )
    rows = [] if report.speed is None else [each for each in report.speed.rows if each.ratio is not None]
    if not rows:
        reason = report.reasons[0] if report.reasons else "nothing could be timed on both sides"
        return Conclusion("open", f"It could not be decided: {reason}.", tuple(points))
    choice = _choice(rows)
    clauses = [clause for mode in _MODES if (clause := _mode_clause(names, mode, rows))]
    undecided = any(winner(each) == "open" for each in rows if each.variant == "plain")
    take = "As far as it could be decided, take" if undecided else "Take"
    opening = {
        "first": f"{take} {first} for this model on this machine",
        "second": f"{take} {second} for this model on this machine",
        "either": "Either will do for this model on this machine",
        "depends": "It depends on what this model is to do on this machine",
        "open": "It could not be decided on this machine",
    }[choice]
    same = (
        "; both compute the same"
        if report.verdict == "equivalent"
        else "; whether both compute the same is open"
    )
    return Conclusion(choice, f"{opening}: {'; '.join(clauses)}{same}.", tuple(points))


def winner(row: SpeedRow) -> Winner:
    """Which version is faster."""
    return _WINNERS[row.decided]


def speedup(row: SpeedRow) -> Speedup | None:
    """How many times as fast the faster version is; for rows without one, the first against the second."""
    if row.ratio is None:
        return None
    estimate = row.ratio.estimate
    if winner(row) == "second":
        return Speedup(1 / estimate.value, 1 / estimate.high, 1 / estimate.low)
    return Speedup(estimate.value, estimate.low, estimate.high)


def compared(row: SpeedRow, names: Mapping[Winner, str]) -> str:
    """The ratio of a row in words, with its interval and the clock that it rests on; empty without one."""
    if row.ratio is None:
        return ""
    clock = ", by processor time" if row.ratio.reading == "cpu" else ""
    who = winner(row)
    if who in ("first", "second"):
        return f"{names[who]}: {speedup(row)}{clock}"
    found = row.ratio.estimate
    times = f"{found.value:.2f} times as long ({found.low:.2f} to {found.high:.2f})"
    return f"{names['second']} takes {times}{clock}"


def lighter(first: float | None, second: float | None, floor: float) -> Winner:
    """Which of two amounts of memory is smaller, if by more than 10 % and the floor."""
    if first is None or second is None:
        return "open"
    small, large = sorted((first, second))
    if large <= _MEMORY_MARGIN * small or large - small <= floor:
        return "equal"
    return "first" if first < second else "second"


def _choice(rows: Sequence[SpeedRow]) -> Choice:
    """Plain rows decide, those of compiled models only where there are no others."""
    plain = [each for each in rows if each.variant == "plain"] or list(rows)
    winners = {winner(each) for each in plain}
    faster = winners & {"first", "second"}
    if len(faster) == 2:
        return "depends"
    if faster:
        return "first" if "first" in faster else "second"
    return "either" if "equal" in winners and "open" not in winners else "open"


def _mode_clause(names: dict[str, str], mode: str, rows: Iterable[SpeedRow]) -> str:
    """What one mode came to: its rows by who is faster."""
    found = [each for each in rows if each.mode == mode]
    parts = []
    for who in ("first", "second"):
        wins = [f"{speedup(row)}{_where(row)}" for row in found if winner(row) == who]
        if wins:
            parts.append(f"{names[who]} is {', '.join(wins)}")
    equal = [_where(row).strip() or "as it is" for row in found if winner(row) == "equal"]
    if equal:
        parts.append(f"both are equally fast {', '.join(equal)}")
    undecided = [f"{_where(row).strip()} {_interval(row)}".strip() for row in found if winner(row) == "open"]
    if undecided:
        parts.append(f"undecided {', '.join(undecided)}")
    return f"{_MODES[mode]}, {'; '.join(parts)}" if parts else ""


def _where(row: SpeedRow) -> str:
    at = "" if row.batch is None else f" at batch {row.batch}"
    return f"{at}, compiled" if row.variant == "compiled" else at


def _interval(row: SpeedRow) -> str:
    found = speedup(row)
    return "" if found is None else f"(ratio {found.low:.2f} to {found.high:.2f})"


def _points(names: dict[str, str], report: Report, accuracy: Accuracy | None) -> Iterable[str]:
    if accuracy is not None:
        yield accuracy.sentence
    if report.speed is None:
        return
    yield from _memory(names, report.speed)
    first, second = report.speed.source, report.speed.target
    if first is not None and second is not None:
        if first.disk_bytes is not None and second.disk_bytes is not None:
            yield (
                f"on disk {names['first']} takes {size(first.disk_bytes)}, {names['second']} "
                f"{size(second.disk_bytes)}"
            )
        yield (
            f"starting takes {names['first']} {first.import_seconds + first.load_seconds:.1f} s, "
            f"{names['second']} {second.import_seconds + second.load_seconds:.1f} s, framework and model"
        )
    busy = [
        each.label for each in report.speed.rows if each.ratio is not None and each.ratio.reading == "cpu"
    ]
    if busy:
        yield (
            f"the machine was busy with other work: by processor time instead of wall time are compared "
            f"{', '.join(busy)}"
        )
    yield f"up to {report.speed.margin:g} times counts as equally fast; intervals are 95 % intervals"
    yield from report.speed.notes


def _memory(names: dict[str, str], speed: SpeedResult) -> Iterable[str]:
    for mode in _MODES:
        rows = [
            each
            for each in speed.rows
            if each.mode == mode and each.variant == "plain" and each.memory.source and each.memory.target
        ]
        if not rows:
            continue
        row = rows[-1]
        assert row.memory.source is not None
        assert row.memory.target is not None
        amounts = row.memory.source.counted, row.memory.target.counted
        used = f"{names['first']} {size(amounts[0])}, {names['second']} {size(amounts[1])}"
        less = lighter(*amounts, MEMORY_FLOOR)
        if less in ("first", "second"):
            yield f"memory {_MODES[mode]}{_where(row)}: {used}; {names[less]} takes less"
        else:
            yield f"memory {_MODES[mode]}{_where(row)}: {used}, which is no difference that counts"
