"""The limits that were asked for, held against what was measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bridge.verification.quantities import size
from bridge.verification.speed.decide import MEMORY_FLOOR, alike, is_narrow
from bridge.verification.speed.result import Gate, GateState, SideMemory, SpeedRow
from bridge.verification.speed.settings import MemoryLimit, SpeedSettings, memory_limit


def check_gates(rows: Sequence[SpeedRow], settings: SpeedSettings, *, why_none: str) -> tuple[Gate, ...]:
    """Every limit on every row that both sides run; `why_none` says why there may be no row."""
    compared = [each for each in rows if each.source is not None and each.target is not None]
    return (
        *_slowdowns(compared, settings.max_slowdown, why_none),
        *_memories(compared, settings, why_none),
    )


def _slowdowns(rows: Sequence[SpeedRow], limit: float | None, why_none: str) -> Iterable[Gate]:
    if limit is None:
        return
    text = f"{limit:g}"
    if not rows:
        yield Gate("slowdown", text, "", "undecided", None, f"the speed could not be compared: {why_none}")
    for row in rows:
        assert row.ratio is not None
        estimate = row.ratio.estimate
        state: GateState = "undecided"
        # The true ratio is at the limit as far as anybody could tell: the best estimate decides.
        near = is_narrow(estimate)
        if estimate.high <= limit or (near and estimate.value <= limit):
            state = "passed"
        elif estimate.low > limit or near:
            state = "failed"
        found = (
            f"{estimate.value:.3g} times as long as the source (95 % interval {estimate.low:.3g} to "
            f"{estimate.high:.3g}; at most {text} was asked for)"
        )
        reason = {
            "passed": f"{row.label}: the target takes {found}",
            "failed": f"slower: {row.label}: the target takes {found}",
            "undecided": f"the speed could not be decided: {row.label}: {row.sentence}",
        }[state]
        yield Gate("slowdown", text, row.label, state, estimate.value, reason)


def _memories(rows: Sequence[SpeedRow], settings: SpeedSettings, why_none: str) -> Iterable[Gate]:
    if settings.max_memory is None:
        return
    limit = memory_limit(settings.max_memory)
    if not rows:
        reason = f"the memory could not be compared: {why_none}"
        yield Gate("memory", limit.text, "", "undecided", None, reason)
    for row in rows:
        source, target = row.memory.source, row.memory.target
        if source is None or target is None:
            reason = f"the memory could not be compared: {row.label}: a worker ended before it told"
            yield Gate("memory", limit.text, row.label, "undecided", None, reason)
        elif limit.ratio is not None and not alike(source, target):
            reason = (
                f"the memory could not be compared: {row.label}: only one side tells what it takes on an "
                "accelerator; give an amount, such as 2GiB"
            )
            yield Gate("memory", limit.text, row.label, "undecided", None, reason)
        else:
            yield _memory(row.label, source, target, limit)


def _memory(label: str, source: SideMemory, target: SideMemory, limit: MemoryLimit) -> Gate:
    took = f"{label}: the target takes {size(target.counted)}"
    if limit.size is not None:
        passed = target.counted <= limit.size
        value = float(target.counted)
        found = f"{took} (at most {limit.text} was asked for)"
    else:
        assert limit.ratio is not None
        passed = target.counted <= limit.ratio * source.counted + MEMORY_FLOOR
        value = target.counted / max(source.counted, 1)
        found = f"{took}, the source {size(source.counted)} (at most {limit.text} times was asked for)"
    return Gate(
        "memory",
        limit.text,
        label,
        "passed" if passed else "failed",
        value,
        found if passed else f"more memory: {found}",
    )
