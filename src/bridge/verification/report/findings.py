"""What a report has to say to somebody who looks at code: each finding with its place."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bridge.verification.localise import Place
from bridge.verification.report.model import Report
from bridge.verification.report.suite import PairReport

Level = Literal["error", "warning", "note"]

RULES = {
    "different-output": "An output of the target is not the source's",
    "different-weight": "A weight of the target is not the source's",
    "different-gradient": "A gradient of the target is not the source's",
    "different-training": "The target does not train as the source does",
    "failed-gate": "The target is slower, or takes more memory, than was allowed",
    "regression": "The target is worse than its baseline",
    "not-checked": "It could not be decided whether the versions are equivalent",
}
"""The kinds of findings, and what each means."""


@dataclass(frozen=True)
class CodePlace:
    """A line of a file, whose `path` is as the report names it, and what is computed there, in words."""

    path: str
    line: int
    what: str


@dataclass(frozen=True)
class Finding:
    """One thing that somebody should look at. `related` are further places that help to understand it."""

    rule: str
    level: Level
    text: str
    place: CodePlace | None = None
    related: tuple[CodePlace, ...] = ()


def repository_path(path: str) -> str:
    """A path relative to the repository that a CI job has checked out (else to the working directory).

    A path elsewhere is absolute. Its slashes are forward ones.
    """
    root = Path(os.environ.get("GITHUB_WORKSPACE") or os.getcwd())
    full = Path(os.path.normpath(Path.cwd() / path))
    return (full.relative_to(root) if full.is_relative_to(root) else full).as_posix()


def findings(report: Report) -> tuple[Finding, ...]:
    """Nothing where the versions are equivalent; otherwise one finding for each way in which they are not.

    All that follows from a fault in the target is placed at the first wrong node.
    """
    if report.verdict == "equivalent":
        return ()
    if report.verdict == "could not be checked":
        return (Finding("not-checked", "warning", _sentences(report.reasons)),)
    places = [] if report.localisation is None else code_places(report)
    place, related = (places[0], tuple(places[1:])) if places else (None, ())
    located = () if report.localisation is None else (report.localisation.summary(),)
    found = [
        Finding(rule, "error", _sentences((*texts, *located)), place, related)
        for rule, texts in _differences(report)
        if texts
    ]
    gates = () if report.speed is None else report.speed.failed
    found += [Finding("failed-gate", "error", text) for text in gates]
    if not found:
        found.append(
            Finding("different-output", "error", _sentences((*report.reasons, *located)), place, related)
        )
    return tuple(found)


def pair_findings(pair: PairReport) -> tuple[Finding, ...]:
    """Those of a pair's report, and its regressions."""
    if pair.report is None:
        return (Finding("not-checked", "warning", pair.error),)
    regressions = tuple(Finding("regression", "error", each) for each in pair.regressions)
    return (*findings(pair.report), *regressions)


def _differences(report: Report) -> list[tuple[str, list[str]]]:
    outputs = [
        f"output {each.name}: {reason}"
        for each in report.outputs
        if each.verdict == "different"
        for reason in each.reasons
    ]
    weights = [f"weight {name}: {reason}" for name, reason in wrong_weights(report)]
    gradients, training = report.gradients, report.training
    return [
        ("different-output", outputs),
        ("different-weight", weights),
        (
            "different-gradient",
            list(gradients.reasons) if gradients and gradients.verdict == "different" else [],
        ),
        (
            "different-training",
            list(training.reasons) if training and training.verdict == "different" else [],
        ),
    ]


def wrong_weights(report: Report) -> list[tuple[str, str]]:
    """The target's tensors that are not the source's, and why."""
    wrong: list[tuple[str, str]] = []
    if report.weights is not None:
        wrong += [(each.target, each.reason) for each in report.weights.differences]
        wrong += [(name, "it is not in the weight map") for name in report.weights.unmapped]
    if report.matched_weights is not None:
        wrong += [(each.target, each.reason) for each in report.matched_weights.suspects if each.decides]
    return wrong


def code_places(report: Report) -> list[CodePlace]:
    """The lines of the first wrong node: the target's, then the source's; as far as they are known."""
    found = report.localisation
    if found is None:
        return []
    sides: list[tuple[str, Place]] = [("target", found.target)]
    sides += [("target", each) for each in found.target_block]
    sides += [] if found.source is None else [("source", found.source)]
    sides += [("source", each) for each in found.source_block]
    places = [place for side, each in sides if (place := _code_place(report, side, each)) is not None]
    return list({(place.path, place.line): place for place in reversed(places)}.values())[::-1]


def _code_place(report: Report, side: str, place: Place) -> CodePlace | None:
    path, colon, line = (place.location or "").rpartition(":")
    if not colon or not line.isdecimal():
        return None
    if side == "target" and report.structure is not None and path == report.structure.file:
        path = f"{report.target.path}/{path}"
    what = f"{place.operator} {place.name}" + (f" in {place.scope}" if place.scope else "")
    return CodePlace(path, int(line), f"{what} of the {side}")


def _sentences(texts: tuple[str, ...] | list[str]) -> str:
    return "\n".join(texts)
