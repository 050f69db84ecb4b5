"""From what was found about both versions to the verdict, as docs/verdict.md defines it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from bridge.verification.compare import OutputResult, Sample, Verdict, compare_output, is_inexact
from bridge.verification.gradients import GradientsResult
from bridge.verification.inputs import Draw
from bridge.verification.measure import Array
from bridge.verification.pairing import Correspondence
from bridge.verification.speed.result import SpeedResult
from bridge.verification.training import TrainingResult
from bridge.verification.weighing import Weights
from bridge.worker.side import Run

_SHOWN = 8


@dataclass
class Ran:
    """What one draw gave: the runs of both sides, or why the target failed, and the source in float64.

    A closer look adds `function`, the target in float64, and `noisy`, the source with noise.
    """

    draw: Draw
    source: Run
    target: Run | str
    reference: list[Array] | None = None
    function: list[Array] | None = None
    noisy: list[list[Array]] = field(default_factory=list)
    epsilon: float | None = None


@dataclass
class Findings:
    """Everything that a verdict follows from.

    `failures` are ways in which the target gives no outputs to compare, `unchecked` what should have been
    checked and could not be. `gradients`, `training` and `speed` are None where they were not asked for.
    """

    outputs: tuple[OutputResult, ...] = ()
    weights: Weights = field(default_factory=Weights)
    gradients: GradientsResult | None = None
    training: TrainingResult | None = None
    speed: SpeedResult | None = None
    failures: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def no_reference(outputs: Sequence[Array], reference: Sequence[Array]) -> str | None:
    """Why a run in float64 is none: another number of outputs, or one that is not float64 but should be."""
    if len(outputs) != len(reference):
        return f"it gives {len(reference)} outputs instead of {len(outputs)}"
    for output, wide in zip(outputs, reference, strict=True):
        if is_inexact(output) and wide.dtype.name not in ("float64", "complex128"):
            return f"an output stays {wide.dtype}"
    return None


def judge_outputs(
    names: Sequence[str] | None,
    correspondence: Correspondence,
    ran: Sequence[Ran],
    *,
    excused: Collection[str] = (),
) -> tuple[list[OutputResult], list[str]]:
    """Every output judged over all draws, and the ways in which the target failed to give any.

    `names` are those of the source's outputs. `excused` is as in `compare_output`.
    """
    failures = [
        f"the target fails on the inputs {each.draw.name}, which the source runs: {each.target}"
        for each in ran
        if isinstance(each.target, str)
    ]
    both = [(each, each.target) for each in ran if isinstance(each.target, Run)]
    if not both or correspondence.outputs is None:
        return [], failures
    for each, run in both:
        if len(run.outputs) != len(both[0][1].outputs):
            count = len(both[0][1].outputs)
            return [], [
                *failures,
                f"{each.draw.name}: the target gives {len(run.outputs)} outputs, not {count}",
            ]
    samples: list[list[Sample]] = [[] for _ in correspondence.outputs]
    for each, run in both:
        for position, sample in enumerate(_samples(each, run, correspondence)):
            samples[position].append(sample)
    results = []
    for paired, group in zip(correspondence.outputs, samples, strict=True):
        name = names[paired.source] if names else f"output{paired.source}"
        results.append(compare_output(name, group, excused=excused))
    return results, failures


def _samples(ran: Ran, run: Run, correspondence: Correspondence) -> list[Sample]:
    """One sample for each output that is compared, in the source's order and layout."""
    source = correspondence.source_outputs(ran.source.outputs)
    target = correspondence.arranged(run.outputs, ran.source.outputs)
    reference = None if ran.reference is None else correspondence.source_outputs(ran.reference)
    function = (
        None if ran.function is None else correspondence.arranged(ran.function, ran.reference or source)
    )
    noisy = [correspondence.source_outputs(each) for each in ran.noisy]
    return [
        Sample(
            ran.draw.name,
            ran.draw.rule,
            ran.draw.batch,
            source[position],
            target[position],
            None if reference is None else reference[position],
            None if function is None else function[position],
            tuple(each[position] for each in noisy),
            ran.epsilon,
        )
        for position in range(len(source))
    ]


def conclude(findings: Findings) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict over everything, and the reasons where it is not "equivalent"."""
    deeper = [each for each in (findings.gradients, findings.training) if each is not None]
    speed = findings.speed
    different = list(findings.failures)
    different += _reasons(findings.outputs, "different")
    different += _weight_reasons(findings.weights)
    for each in deeper:
        if each.verdict == "different":
            different += _some(each.reasons)
    different += [] if speed is None else speed.failed
    if different:
        return "different", tuple(different)
    unchecked = _reasons(findings.outputs, "could not be checked")
    unchecked += findings.unchecked
    if findings.weights.unread is not None:
        unchecked.append(findings.weights.unread)
    for each in deeper:
        if each.verdict == "could not be checked":
            unchecked += _some(each.reasons)
    unchecked += [] if speed is None else speed.undecided
    if not findings.outputs:
        unchecked.append("there are no outputs to compare")
    elif not any(each.varies or each.varies is None for each in findings.outputs):
        unchecked.append("no output varies with the inputs, so their equality proves nothing")
    return ("could not be checked", tuple(unchecked)) if unchecked else ("equivalent", ())


def _reasons(outputs: Sequence[OutputResult], verdict: Verdict) -> list[str]:
    return [
        f"output {each.name}: {reason}"
        for each in outputs
        if each.verdict == verdict
        for reason in each.reasons
    ]


def _weight_reasons(weights: Weights) -> list[str]:
    if weights.result is not None and not weights.result.passed:
        wrong = len(weights.result.differences) + len(weights.result.unmapped)
        return [f"{wrong} of {weights.result.compared} weights are not the source's"]
    if weights.match is not None:
        return _some([f"weight {each.target}: {each.reason}" for each in weights.match.differences])
    return []


def _some(sentences: Sequence[str]) -> list[str]:
    more = len(sentences) - _SHOWN
    return [*sentences[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
