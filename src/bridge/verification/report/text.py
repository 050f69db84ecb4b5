"""The report as text."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.verification.compare import OutputResult
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport, SuiteReport
from bridge.verification.report.untrusted import escaped, lines, printable
from bridge.verification.report.words import error_line, gradients_line, some, training_line, weights_line
from bridge.verification.speed.words import speed_lines


def render(report: Report) -> str:
    """A few lines: the verdict and why, the outputs, the weights, what the reader should know.

    Every line begins with a word that can be searched for, or is indented. Names take part in one line
    each, whatever they hold.
    """
    text = [f"verdict: {report.verdict}", *_indented(report.reasons)]
    if report.localisation is not None:
        text.append(f"first wrong node: {report.localisation.summary()}")
    text += [
        f"source:  {report.source.path} ({report.source.what})",
        f"target:  {report.target.path} ({report.target.what})",
        f"inputs:  {_draws(report)}",
        f"held against: {report.reference}",
        "outputs:",
    ]
    text += [f"  {line}" for output in report.outputs for line in _output(output)]
    text.append(f"weights: {weights_line(report)}")
    if report.gradients is not None:
        text.append(f"gradients: {gradients_line(report.gradients)}")
    if report.training is not None:
        text.append(f"training: {training_line(report.training)}")
        text += [f"  convention: {each}" for each in report.training.conventions]
    if report.speed is not None:
        told = speed_lines(report.speed)
        text += [line if line.startswith(" ") else f"speed: {line}" for line in told]
        text += [f"  {each}" for each in (*report.speed.failed, *report.speed.undecided)]
    if report.depth is not None:
        text.append(f"values inside: {depth_line(report)}")
    text += [f"note: {note}" for note in report.notes]
    return "\n".join(map(escaped, text))


def render_suite(suite: SuiteReport) -> str:
    """A line for each pair, the reasons of those that are not equivalent, and the verdict over all."""
    text = []
    width = max((len(printable(each.name, 60)) for each in suite.pairs), default=0)
    for each in suite.pairs:
        text.append(
            f"{printable(each.name, 60):<{width}}  {each.verdict}  {each.seconds:.1f} s{_resumed(each)}"
        )
        text += [] if each.passed else _indented(some(list(each.reasons)))
        if each.report is not None and each.report.localisation is not None:
            text.append(f"  first wrong node: {each.report.localisation.summary()}")
    counts = ", ".join(f"{number} {verdict}" for verdict, number in suite.counts.items() if number)
    text.append(f"verdict: {suite.verdict} ({counts or 'no pairs'}) in {suite.seconds:.1f} s")
    text += [f"note: {note}" for note in suite.notes]
    return "\n".join(map(escaped, text))


def depth_line(report: Report) -> str:
    """How far the values inside are apart, in one line."""
    assert report.depth is not None
    measured = [each.function for each in report.depth.points if each.function is not None]
    apart = f", at most {max(measured):.2g} apart in float64" if measured else ""
    return f"{len(report.depth.points)} of {report.depth.values} have a counterpart in the source{apart}"


def _resumed(pair: PairReport) -> str:
    return ", from an earlier call" if pair.resumed else ""


def _indented(reasons: Iterable[str]) -> list[str]:
    """A reason may be the last output of a worker, of many lines."""
    return [f"  {line}" for reason in reasons for line in lines(reason)]


def _draws(report: Report) -> str:
    names = ", ".join(draw.name for draw in report.draws)
    return f"{len(report.draws)} sets with seed {report.seed}: {names}" if names else "none"


def _output(output: OutputResult) -> list[str]:
    found = [f"{printable(output.name)} ({output.dtype}): {output.verdict}"]
    found += [f"  {error_line(each)}" for each in output.errors]
    if output.worst is not None:
        worst = output.worst
        place = ", ".join(str(axis) for axis in worst.index)
        text = f"farthest off at [{place}] of {worst.draw}: source {worst.source}, target {worst.target}"
        found.append("  " + text + (f", float64 {worst.reference}" if worst.reference is not None else ""))
    if output.varies is False:
        found.append("  does not vary with the inputs, so it proves nothing")
    return found
