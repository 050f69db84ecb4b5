"""The report as text."""

from __future__ import annotations

from collections.abc import Sequence

from bridge.verification.compare import Errors, OutputResult
from bridge.verification.gradients import GradientsResult
from bridge.verification.report.model import MatchedWeights, Report
from bridge.verification.training import TrainingResult

_SHOWN = 8


def render(report: Report) -> str:
    """A few lines: the verdict and why, the outputs, the weights, what the reader should know."""
    lines = [f"verdict: {report.verdict}"]
    lines += [f"  {reason}" for reason in report.reasons]
    if report.localisation is not None:
        lines.append(f"first wrong node: {report.localisation.summary()}")
    lines += [
        f"source:  {report.source.path} ({report.source.what})",
        f"target:  {report.target.path} ({report.target.what})",
        f"inputs:  {_draws(report)}",
        f"held against: {report.reference}",
        "outputs:",
    ]
    lines += [f"  {line}" for output in report.outputs for line in _output(output)]
    lines.append(f"weights: {weights_line(report)}")
    if report.gradients is not None:
        lines.append(f"gradients: {gradients_line(report.gradients)}")
    if report.training is not None:
        lines.append(f"training: {training_line(report.training)}")
        lines += [f"  convention: {each}" for each in report.training.conventions]
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
    if errors.function_l2 is not None:
        text += f"; {errors.function_l2:.2g} apart in float64"
    return text if errors.stable else text + " (source too unstable to judge)"


def weights_line(report: Report) -> str:
    """What was found about the weights, in one line."""
    weights = report.weights
    if weights is None:
        if report.matched_weights is not None:
            return _matched_line(report.matched_weights)
        return f"not compared: {report.weights_note}"
    if weights.passed:
        return f"{weights.compared} tensors, {weights.elements} elements, equal bit for bit"
    wrong = [f"{each.target} ({each.reason})" for each in weights.differences]
    wrong += [f"{name} (not in the weight map)" for name in weights.unmapped]
    more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
    return f"{len(wrong)} of {weights.compared} tensors differ: {', '.join(wrong[:_SHOWN])}{more}"


def _matched_line(matched: MatchedWeights) -> str:
    total = matched.tensors + len(matched.ambiguous) + len(matched.suspects) + len(matched.unmatched_target)
    text = (
        f"{matched.tensors} of the target's {total} tensors, {matched.elements} elements, are equal bit for "
        "bit to tensors of the source (matched by their values)"
    )
    wrong = [f"{each.target}: {each.reason}" for each in matched.suspects]
    return "; ".join([text, *_some(wrong)])


def gradients_line(gradients: GradientsResult) -> str:
    """What was found about the gradients, in one line."""
    if gradients.verdict == "could not be checked":
        return f"could not be checked: {'; '.join(gradients.notes)}"
    compared = [each for each in gradients.tensors if each.verdict != "not comparable"]
    largest = max((each.error for each in compared if each.error is not None), default=0.0)
    text = (
        f"{gradients.verdict}: {len(compared)} tensors compared in float64, the largest error {largest:.2g}"
    )
    left_out = len(gradients.tensors) - len(compared)
    return text + (f"; {left_out} not comparable" if left_out else "")


def training_line(training: TrainingResult) -> str:
    """What was found about the training, in one line."""
    if training.verdict == "could not be checked":
        return f"could not be checked: {'; '.join(training.notes)}"
    mode = "training" if training.training else "inference"
    apart = "" if training.loss_error is None else f", losses up to {training.loss_error:.2g} apart"
    return (
        f"{training.verdict}: {training.steps} steps in float64 ({mode} mode, rate {training.rate:.2g}, "
        f"momentum {training.momentum:g}, dropout off){apart}, {len(training.tensors)} tensors compared"
    )


def _some(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _SHOWN
    return [*lines[:_SHOWN], *([f"and {more} more"] if more > 0 else [])]
