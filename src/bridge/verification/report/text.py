"""The report as text."""

from __future__ import annotations

from bridge.verification.compare import Errors, OutputResult
from bridge.verification.report.model import Report

_SHOWN = 8


def render(report: Report) -> str:
    """A few lines: the verdict and why, the outputs, the weights, what the reader should know."""
    lines = [f"verdict: {report.verdict}"]
    lines += [f"  {reason}" for reason in report.reasons]
    lines += [
        f"source:  {report.source.path} ({report.source.what})",
        f"target:  {report.target.path} ({report.target.what})",
        f"inputs:  {_draws(report)}",
        f"held against: {report.reference}",
        "outputs:",
    ]
    lines += [f"  {line}" for output in report.outputs for line in _output(output)]
    lines.append(f"weights: {weights_line(report)}")
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join(lines)


def _draws(report: Report) -> str:
    names = ", ".join(draw.name for draw in report.draws)
    return f"{len(report.draws)} sets with seed {report.seed}: {names}" if names else "none"


def _output(output: OutputResult) -> list[str]:
    lines = [f"{output.name} ({output.dtype}): {output.verdict}"]
    lines += [f"  {error_line(each)}" for each in output.errors]
    if output.worst is not None:
        worst = output.worst
        place = ", ".join(str(axis) for axis in worst.index)
        text = f"farthest off at [{place}] of {worst.draw}: source {worst.source}, target {worst.target}"
        lines.append("  " + text + (f", float64 {worst.reference}" if worst.reference is not None else ""))
    if output.varies is False:
        lines.append("  does not vary with the inputs, so it proves nothing")
    return lines


def error_line(errors: Errors) -> str:
    """One rule's distances in words."""
    if errors.source_l2 is None or errors.tolerance_l2 is None:
        return f"{errors.rule}: distance from the source {errors.target_l2:.2g}"
    if errors.held_against == "source":
        text = f"{errors.rule}, large sets: distance from the source {errors.target_l2:.2g}"
    else:
        text = (
            f"{errors.rule}: error of the source {errors.source_l2:.2g}, of the target {errors.target_l2:.2g}"
        )
    text += f", tolerance {errors.tolerance_l2:.2g}"
    return text if errors.stable else text + " (source too unstable to judge)"


def weights_line(report: Report) -> str:
    """What was found about the weights, in one line."""
    weights = report.weights
    if weights is None:
        return f"not compared: {report.weights_note}"
    if weights.passed:
        return f"{weights.compared} tensors, {weights.elements} elements, equal bit for bit"
    wrong = [f"{each.target} ({each.reason})" for each in weights.differences]
    wrong += [f"{name} (not in the weight map)" for name in weights.unmapped]
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{len(wrong)} of {weights.compared} tensors differ: {', '.join(wrong[:_SHOWN])}{more}"
