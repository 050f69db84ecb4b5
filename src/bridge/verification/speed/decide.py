"""From measured blocks to figures, a decision, and a sentence for it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import replace

from bridge.verification.speed.blocks import Process, Role
from bridge.verification.speed.result import (
    Decision,
    Estimate,
    MemoryUse,
    Noise,
    Ratio,
    Reading,
    SideMemory,
    SideSpeed,
    Variant,
)
from bridge.verification.speed.statistics import block_spread, ratio, typical

NARROW = 1.06
"""An interval whose ends are at most so far apart, as a ratio, is as good as it gets."""
DISTURBED = 0.05
"""The fraction of its time that a worker may wait for a processor before wall time is called disturbed."""
MEMORY_FLOOR = 16 * 2**20
"""Allocators and lazily imported code differ by so many bytes: a difference below it means nothing."""
_SAMPLES = 1_000
_ONE_THREAD = (1, 1)


def decide(estimate: Estimate, margin: float) -> Decision:
    """What an interval says about the target, where a ratio up to `margin` counts as equal."""
    if estimate.low > margin:
        return "slower"
    if estimate.high < 1 / margin:
        return "faster"
    if estimate.low >= 1 / margin and estimate.high <= margin:
        return "equal"
    return "undecided"


def is_narrow(estimate: Estimate) -> bool:
    """Whether more measuring would not help much."""
    return estimate.high <= NARROW * estimate.low


def ratio_of(processes: Sequence[Process], reading: Reading) -> Ratio | None:
    """Target through source by one of the clocks; None where no process has both sides."""
    rounds = [[pair.by(reading) for pair in each.pairs] for each in processes if each.pairs]
    if not rounds:
        return None
    estimate, each = ratio(rounds)
    return Ratio(estimate, reading, each, sum(map(len, rounds)))


def noise_of(processes: Sequence[Process]) -> Noise | None:
    """How quiet the machine was."""
    blocks = [block for each in processes for found in each.blocks.values() for block in found]
    if not blocks:
        return None
    pairs = [pair.by("wall") for each in processes for pair in each.pairs]
    wall = sum(block.timed.wall for block in blocks)
    waits = [block.timed.waited for block in blocks]
    waiting = None if None in waits else min(sum(each or 0.0 for each in waits) / wall, 1.0)
    return Noise(
        block_spread(pairs),
        waiting,
        _median(each.stolen for each in processes),
        _median(each.others for each in processes),
    )


def choose(processes: Sequence[Process], noise: Noise | None) -> Ratio | None:
    """The ratio to decide by: that of wall time, or of processor time where that tells more.

    Other processes that keep the workers waiting disturb wall time, and not both sides alike: what hands its
    work from thread to thread waits more often. What computes in one thread, without waiting for anything
    else, takes as much processor time as it takes wall time on a quiet machine. Of what computes in several,
    processor time is no duration, but how much there is to do: the interval then reaches over both.
    """
    wall = ratio_of(processes, "wall")
    if wall is None or noise is None or noise.waiting is None or noise.waiting <= DISTURBED:
        return wall
    if any(each.opened[role].device != "cpu" for each in processes for role in each.opened):
        return wall
    cpu = ratio_of(processes, "cpu")
    assert cpu is not None
    if all(_alone_in_one_thread(each) for each in processes if each.pairs):
        return cpu
    low = min(wall.estimate.low, cpu.estimate.low)
    high = max(wall.estimate.high, cpu.estimate.high)
    return replace(wall, estimate=Estimate(wall.estimate.value, low, high))


def _alone_in_one_thread(process: Process) -> bool:
    for role, opened in process.opened.items():
        if (opened.within, opened.between) != _ONE_THREAD:
            return False
        wall = sum(block.timed.wall for block in process.blocks[role])
        cpu = sum(block.timed.cpu for block in process.blocks[role])
        waited = sum(block.timed.waited or 0.0 for block in process.blocks[role])
        if wall - cpu - waited > DISTURBED * wall or cpu > (1 + DISTURBED) * wall:
            return False
    return True


def sentence(found: Ratio | None, decided: Decision, margin: float, noise: Noise | None) -> str:
    """What was found, in words."""
    if found is None:
        return "not compared"
    interval = f"(95 % interval {found.estimate.low:.3g} to {found.estimate.high:.3g})"
    takes = f"the target takes {found.estimate.value:.3g} times as long as the source {interval}"
    by = ""
    if found.reading == "cpu":
        by = f", by processor time: {disturbance(noise)}"
    elif noise is not None and (noise.waiting or 0.0) > DISTURBED:
        by = f", by wall and processor time: {disturbance(noise)}"
    if decided == "slower":
        return takes + by
    if decided == "faster":
        return f"{takes}: it is {1 / found.estimate.value:.3g} times as fast{by}"
    if decided == "equal":
        return f"equally fast within {100 * (margin - 1):.3g} %: {takes}{by}"
    if is_narrow(found.estimate):
        return f"too close to the margin of {margin:.3g} to decide: {takes}{by}"
    if noise is not None and disturbed(noise):
        return f"the machine was too noisy to decide: {takes}{by or f'; {disturbance(noise)}'}"
    return f"not measured long enough to decide: {takes}{by}"


def disturbed(noise: Noise) -> bool:
    """Whether something else than the workers took part."""
    return (
        max(noise.waiting or 0.0, noise.stolen or 0.0, noise.spread) > DISTURBED
        or (noise.others or 0.0) > 2 * DISTURBED
    )


def disturbance(noise: Noise | None) -> str:
    """What disturbed, in words."""
    if noise is None:
        return "nothing is known about the machine"
    found = []
    if (noise.waiting or 0.0) > DISTURBED:
        found.append(f"the workers waited for a processor {100 * (noise.waiting or 0.0):.0f} % of the time")
    if (noise.others or 0.0) > DISTURBED:
        found.append(f"other processes used {100 * (noise.others or 0.0):.0f} % of the machine")
    if (noise.stolen or 0.0) > DISTURBED:
        found.append(f"the hypervisor took {100 * (noise.stolen or 0.0):.0f} %")
    if noise.spread > DISTURBED:
        found.append(f"equal blocks were {100 * noise.spread:.0f} % apart")
    return ", ".join(found) or "nothing else is known to have disturbed"


def side_speed(
    processes: Sequence[Process], role: Role, variant: Variant, batch: int | None
) -> SideSpeed | None:
    """The figures of one side; None where it was not timed."""
    found = [each for each in processes if each.blocks.get(role)]
    if not found:
        return None
    blocks = [block for each in found for block in each.blocks[role]]
    samples = [seconds for block in blocks for seconds in block.timed.seconds]
    median = typical([[block.log("wall") for block in each.blocks[role]] for each in found])
    items = batch or 1
    firsts = [each.opened[role].first_seconds for each in found]
    on_device = [seconds for block in blocks for seconds in block.timed.device_seconds or ()]
    return SideSpeed(
        samples=thinned(samples),
        calls=sum(len(block.timed.seconds) * block.group for block in blocks),
        median=median,
        p95=percentile(samples, 0.95),
        throughput=Estimate(items / median.value, items / median.high, items / median.low),
        # A compiler keeps what it made for the processes after the first.
        first_call_seconds=firsts[0] if variant == "compiled" else statistics.median(firsts),
        cpu_median=statistics.median(block.cpu for block in blocks),
        device_median=statistics.median(on_device) if on_device else None,
    )


def thinned(samples: Sequence[float]) -> tuple[float, ...]:
    """At most 1,000 of the samples, evenly."""
    count = len(samples)
    if count <= _SAMPLES:
        return tuple(samples)
    return tuple(samples[index * count // _SAMPLES] for index in range(_SAMPLES))


def percentile(samples: Sequence[float], fraction: float) -> float:
    """The smallest sample that so large a fraction does not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def memory_of(processes: Sequence[Process], before: dict[Role, int]) -> MemoryUse:
    """What both sides took beyond `before`, medians over the processes."""
    sides: dict[Role, SideMemory | None] = {}
    for role in before:
        peaks = [each.peaks[role] for each in processes if role in each.peaks]
        on_device = [device for _, device in peaks if device is not None]
        sides[role] = (
            SideMemory(
                max(0, round(statistics.median(peak for peak, _ in peaks)) - before[role]),
                round(statistics.median(on_device)) if on_device else None,
            )
            if peaks
            else None
        )
    source, target = sides["source"], sides["target"]
    ratio = None
    if source is not None and target is not None and alike(source, target) and source.counted >= MEMORY_FLOOR:
        ratio = target.counted / source.counted
    return MemoryUse(source, target, ratio)


def alike(source: SideMemory, target: SideMemory) -> bool:
    """Whether both tell the same kind of memory, that of the host or that of an accelerator."""
    return (source.device_bytes is None) == (target.device_bytes is None)


def _median(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return statistics.median(known) if known else None
