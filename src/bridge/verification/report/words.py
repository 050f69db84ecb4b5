"""What a report says in sentences, for every rendering alike."""

from __future__ import annotations

from bridge.verification.compare import Errors, Verdict
from bridge.verification.gradients import GradientsResult
from bridge.verification.report.findings import wrong_weights
from bridge.verification.report.model import MatchedWeights, Report
from bridge.verification.report.suite import SuiteReport
from bridge.verification.report.untrusted import printable
from bridge.verification.training import TrainingResult

SHOWN = 8
"""How many of many similar things a line lists."""

SYMBOLS: dict[Verdict, str] = {"equivalent": "✓", "different": "✗", "could not be checked": "?"}


def headline(report: Report) -> str:
    """The verdict in one sentence for somebody who has never heard of bridge."""
    if report.verdict == "equivalent":
        return f"The two versions of this model compute the same: {_what_agrees(report)}."
    if report.verdict == "could not be checked":
        return "It could not be decided whether the two versions of this model compute the same."
    if is_beyond_limits_alone(report):
        return (
            "The two versions of this model compute the same, but the target takes more time or memory than "
            "was allowed."
        )
    return f"The two versions of this model do not compute the same{_where(report)}."


def is_beyond_limits_alone(report: Report) -> bool:
    """Whether nothing differs but a limit of time or memory is not kept."""
    gates = () if report.speed is None else report.speed.failed
    return report.verdict == "different" and bool(gates) and set(report.reasons) <= set(gates)


def title(report: Report) -> str:
    """The verdict in a word or two, at the head of a page."""
    return "Beyond a limit" if is_beyond_limits_alone(report) else report.verdict.capitalize()


def _what_agrees(report: Report) -> str:
    outputs, draws = len(report.outputs), len(report.draws)
    agree = count(outputs, "output agrees", "outputs agree")
    parts = [f"{agree} within rounding on {count(draws, 'set')} of inputs"]
    if report.weights is not None and report.weights.passed:
        parts.append(f"{count(report.weights.compared, 'weight is', 'weights are')} equal bit for bit")
    if report.gradients is not None and report.gradients.passed:
        parts.append("gradients agree")
    if report.training is not None and report.training.passed:
        parts.append(f"{count(report.training.steps, 'training step agrees', 'training steps agree')}")
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _where(report: Report) -> str:
    wrong = [each for each in report.outputs if each.verdict == "different"]
    weights = wrong_weights(report)
    parts = []
    if wrong:
        parts.append(
            f"{len(wrong)} of {count(len(report.outputs), 'output')} differ{'s' * (len(wrong) == 1)}"
        )
    if weights:
        parts.append(f"{count(len(weights), 'weight is', 'weights are')} not the source's")
    if not parts and report.gradients is not None and report.gradients.verdict == "different":
        parts.append("gradients differ")
    if not parts and report.training is not None and report.training.verdict == "different":
        parts.append("they train differently")
    return f": {' and '.join(parts)}" if parts else ""


def suite_headline(suite: SuiteReport) -> str:
    """The verdict over a suite in one sentence."""
    counts = suite.counts
    total = count(len(suite.pairs), "pair")
    if suite.passed:
        return (
            f"All {total} of models compute the same."
            if len(suite.pairs) > 1
            else "The pair computes the same."
        )
    words: dict[Verdict, tuple[str, str]] = {
        "different": ("differs", "differ"),
        "could not be checked": ("could not be checked", "could not be checked"),
        "equivalent": ("computes the same", "compute the same"),
    }
    parts = [f"{counts[each]} {words[each][counts[each] != 1]}" for each in words if counts[each]]
    return f"Of {total} of models, {', '.join(parts)}." if suite.pairs else "The suite has no pairs."


def count(things: int, one: str, many: str | None = None) -> str:
    """A number and its noun: `1 output`, `2,000 outputs`."""
    return f"{things:,} {one if things == 1 else many or one + 's'}"


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
    wrong = [f"{printable(each.target)} ({each.reason})" for each in weights.differences]
    wrong += [f"{printable(name)} (not in the weight map)" for name in weights.unmapped]
    return f"{len(wrong)} of {weights.compared} tensors differ: {', '.join(some(wrong))}"


def _matched_line(matched: MatchedWeights) -> str:
    total = matched.tensors + len(matched.ambiguous) + len(matched.suspects) + len(matched.unmatched_target)
    text = (
        f"{matched.tensors} of the target's {total} tensors, {matched.elements} elements, are equal bit for "
        "bit to tensors of the source (matched by their values)"
    )
    wrong = [f"{printable(each.target)}: {each.reason}" for each in matched.suspects]
    return "; ".join([text, *some(wrong)])


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


def some(texts: list[str]) -> list[str]:
    """The first of many, and how many more there are."""
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
