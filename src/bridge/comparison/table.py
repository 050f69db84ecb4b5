"""The rows of the table that a comparison shows: what was measured, of both, and who is ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bridge.comparison.conclude import Winner, compared, lighter, winner
from bridge.comparison.model import Comparison, Interval
from bridge.verification.quantities import duration, rounded, size
from bridge.verification.speed.decide import MEMORY_FLOOR
from bridge.verification.speed.result import SpeedSide


@dataclass(frozen=True)
class Row:
    """One line: `ahead` names the better one, or is `equal`, `undecided`, or empty where neither can be."""

    what: str
    first: str
    second: str
    ahead: str
    detail: str = ""


def rows(found: Comparison) -> list[Row]:
    """All lines, speed first."""
    return [*_speed(found), *_memory(found), *_sides(found), *_accuracy(found)]


def _speed(found: Comparison) -> Iterator[Row]:
    names = _names(found)
    for row in () if found.report.speed is None else found.report.speed.rows:
        times = [
            f"{duration(side.median.value)}" if side is not None else "-" for side in (row.source, row.target)
        ]
        ahead = names[winner(row)] if row.ratio is not None else ""
        detail = compared(row, names) or "; ".join(row.notes)
        yield Row(row.label, times[0], times[1], ahead, detail)
        if row.source is not None and row.target is not None and (row.batch or 1) > 1:
            yield Row(
                f"{row.label}, samples a second",
                rounded(row.source.throughput.value),
                rounded(row.target.throughput.value),
                ahead,
            )


def _names(found: Comparison) -> dict[Winner, str]:
    return {"first": found.first, "second": found.second, "equal": "equal", "open": "undecided"}


def _memory(found: Comparison) -> Iterator[Row]:
    for row in () if found.report.speed is None else found.report.speed.rows:
        amounts = [None if side is None else side.counted for side in (row.memory.source, row.memory.target)]
        if amounts == [None, None]:
            continue
        shown = ["-" if each is None else size(each) for each in amounts]
        who = lighter(amounts[0], amounts[1], MEMORY_FLOOR)
        yield Row(f"memory, {row.label}", shown[0], shown[1], "" if who == "open" else _names(found)[who])


def _sides(found: Comparison) -> Iterator[Row]:
    speed = found.report.speed
    if speed is None or speed.source is None or speed.target is None:
        return
    one, other = speed.source, speed.target

    def line(
        what: str, show: Callable[[float], str], values: tuple[float | None, float | None], floor: float = 0
    ) -> Row:
        shown = ["-" if each is None else show(each) for each in values]
        who = lighter(*values, floor)
        return Row(what, shown[0], shown[1], "" if who == "open" else _names(found)[who])

    yield line("importing the framework", duration, (one.import_seconds, other.import_seconds))
    yield line("loading the model", duration, (one.load_seconds, other.load_seconds))
    yield line("first call", duration, _first_calls(found))
    yield line("memory of the loaded model", size, (one.loaded_bytes, other.loaded_bytes), MEMORY_FLOOR)
    yield line("on disk", size, (one.disk_bytes, other.disk_bytes))
    yield Row("threads", _threads(one), _threads(other), "")
    yield Row("device", one.device, other.device, "")


def _first_calls(found: Comparison) -> tuple[float | None, float | None]:
    assert found.report.speed is not None
    for row in found.report.speed.rows:
        if row.source is not None and row.target is not None:
            return row.source.first_call_seconds, row.target.first_call_seconds
    return None, None


def _threads(side: SpeedSide) -> str:
    return str(side.threads.within or side.threads.asked)


def _accuracy(found: Comparison) -> Iterator[Row]:
    accuracy = found.accuracy
    if accuracy is None:
        return
    if accuracy.metric is not None and accuracy.first is not None and accuracy.second is not None:
        is_share = accuracy.metric == "accuracy"
        shown = [_interval(each, is_share) for each in (accuracy.first, accuracy.second)]
        ahead = "equal"
        if accuracy.p_value is not None and accuracy.p_value < 0.05:
            ahead = found.first if accuracy.first.value > accuracy.second.value else found.second
        yield Row(f"{accuracy.metric} on {accuracy.samples:,} samples", shown[0], shown[1], ahead)
    if accuracy.agreement is not None:
        yield Row("same class predicted", _interval(accuracy.agreement, True), "", "")
    yield Row("largest difference of an output", f"{accuracy.largest_difference:.1e}", "", "")


def _interval(found: Interval, share: bool) -> str:
    form = "{:.1%} ({:.1%} to {:.1%})" if share else "{:.4g} ({:.4g} to {:.4g})"
    return form.format(found.value, found.low, found.high)
