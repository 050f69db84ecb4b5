"""From the outputs and weights of both versions to the verdict, as docs/verdict.md defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.verification.compare import OutputResult, Sample, Verdict, compare_output, is_inexact
from bridge.verification.inputs import Draw
from bridge.verification.measure import Array
from bridge.verification.pairing import output_order
from bridge.verification.weights import WeightsResult
from bridge.worker.side import Description, Run


@dataclass
class Ran:
    """What one draw gave: the runs of both sides, or why the target failed, and the float64 outputs."""

    draw: Draw
    source: Run
    target: Run | str
    reference: list[Array] | None = None


def signature_mismatch(source: Description, target: Description) -> str | None:
    """How the numbers of inputs and outputs differ; None where they do not or are not known."""
    if len(source.inputs) != len(target.inputs):
        return f"the source has {len(source.inputs)} inputs, the target {len(target.inputs)}"
    if source.outputs is not None and target.outputs is not None:
        return _count_mismatch(len(source.outputs), len(target.outputs))
    return None


def no_reference(outputs: Sequence[Array], reference: Sequence[Array]) -> str | None:
    """Why a run in float64 is none: another number of outputs, or one that is not float64 but should be."""
    if len(outputs) != len(reference):
        return f"it gives {len(reference)} outputs instead of {len(outputs)}"
    for output, wide in zip(outputs, reference, strict=True):
        if is_inexact(output) and wide.dtype.name not in ("float64", "complex128"):
            return f"an output stays {wide.dtype}"
    return None


def judge_outputs(
    source: Description, target: Description, ran: Sequence[Ran]
) -> tuple[list[OutputResult], list[str]]:
    """Every output judged over all draws, and the ways in which the target failed to give any."""
    failures = [
        f"the target fails on the inputs {each.draw.name}, which the source runs: {each.target}"
        for each in ran
        if isinstance(each.target, str)
    ]
    both = [(each, each.target) for each in ran if isinstance(each.target, Run)]
    if not both:
        return [], failures
    for each, run in both:
        mismatch = _count_mismatch(len(each.source.outputs), len(run.outputs))
        if mismatch is not None:
            return [], [*failures, mismatch]
    count = len(both[0][0].source.outputs)
    names = source.outputs or target.outputs or [f"output{position}" for position in range(count)]
    order = output_order(source.outputs, target.outputs, count)
    results = []
    for position, name in enumerate(names):
        samples = [
            Sample(
                each.draw.name,
                each.draw.rule,
                each.draw.batch,
                each.source.outputs[position],
                run.outputs[order[position]],
                None if each.reference is None else each.reference[position],
            )
            for each, run in both
        ]
        results.append(compare_output(name, samples))
    return results, failures


def _count_mismatch(source: int, target: int) -> str | None:
    return None if source == target else f"the source has {source} outputs, the target {target}"


def conclude(
    failures: Sequence[str],
    outputs: Sequence[OutputResult],
    weights: WeightsResult | None,
    unread_weights: str | None = None,
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict over everything, and the reasons where it is not "equivalent".

    `unread_weights` says why weights that should be compared could not be read.
    """
    different = list(failures)
    different += [
        f"output {each.name}: {reason}"
        for each in outputs
        if each.verdict == "different"
        for reason in each.reasons
    ]
    if weights is not None and not weights.passed:
        wrong = len(weights.differences) + len(weights.unmapped)
        different.append(f"{wrong} of {weights.compared} weights are not the source's")
    if different:
        return "different", tuple(different)
    unchecked = [
        f"output {each.name}: {reason}"
        for each in outputs
        if each.verdict == "could not be checked"
        for reason in each.reasons
    ]
    if unread_weights is not None:
        unchecked.append(unread_weights)
    if not outputs:
        unchecked.append("there are no outputs to compare")
    elif not any(each.varies or each.varies is None for each in outputs):
        unchecked.append("no output varies with the inputs, so their equality proves nothing")
    return ("could not be checked", tuple(unchecked)) if unchecked else ("equivalent", ())
