"""Name the first wrong node of two versions that differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bridge.formats.request import ReadRequest
from bridge.verification.checks import Checks
from bridge.verification.compare import OutputResult, is_inexact
from bridge.verification.conventions import excuse, is_convention
from bridge.verification.deeper import ordinary_run
from bridge.verification.gradients import draw_cotangents, source_cotangents, target_cotangents
from bridge.verification.judging import Findings, Ran
from bridge.verification.loaded import Loaded
from bridge.verification.localise import (
    Case,
    Evidence,
    Localisation,
    locate_fault,
    locate_gradient_fault,
    write_reproduction,
)
from bridge.verification.localise.depth import depth
from bridge.verification.localise.locate import look_inside
from bridge.verification.localise.weights import wrong_weight
from bridge.verification.measure import Array
from bridge.verification.pairing import Correspondence
from bridge.verification.parties import FACTORY
from bridge.verification.report.depth import Depth
from bridge.verification.running import Runner
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Run
from bridge.worker.standalone import read_tensors, write_tensors

_ENOUGH = 0.1
"""A run may be chosen for its size if it shows this fraction of the largest difference."""

Found = tuple[Localisation, Evidence] | str
"""Where a fault is and what tells, or a sentence why that cannot be said."""


@dataclass(frozen=True)
class Specials:
    """The draws of special values that are no evidence, those that are evidence of a fault, and notes."""

    excused: frozenset[str]
    failures: tuple[str, ...]
    notes: tuple[str, ...]


class Explainer:
    """Localises what one verification found."""

    def __init__(
        self,
        loaded: Loaded,
        checks: Checks,
        correspondence: Correspondence,
        runner: Runner,
        ran: Sequence[Ran],
    ) -> None:
        self._loaded = loaded
        self._checks = checks
        self._correspondence = correspondence
        self._runner = runner
        self._ran = [each for each in ran if isinstance(each.target, Run)]
        self._misplaced: set[str] = set()
        self.seen: Depth | None = None
        """What explaining has shown of the values inside both versions; None where it did not look."""

    def explain(self, findings: Findings) -> Localisation | str:
        """The first wrong node, or why it cannot be named.

        A weight that differs bit for bit is surely wrong, and tells it. Otherwise the values inside both
        models do, or gradients where only those differ.
        """
        different = [each for each in findings.outputs if each.verdict == "different"]
        by_gradient = findings.gradients is not None and findings.gradients.verdict == "different"
        chosen = self._telling(different) if different or not by_gradient else ordinary_run(self._ran)
        if chosen is None:
            return "no inputs ran on both sides"
        case = self._case(chosen)
        by_weight = wrong_weight(findings.weights, self._loaded.target_party.converted)
        found = self._locate(case) if different or not by_gradient else self._locate_gradient(chosen, case)
        if isinstance(found, str):
            return found if by_weight is None else by_weight
        if found[0].how in ("anchors", "values"):
            self.seen = depth(found[1], chosen.draw.name, first_wrong=found[0].target.name)
        if self._checks.repro is not None:
            sides = (self._loaded.source_side, self._loaded.target_side)
            write_reproduction(self._checks.repro, *found, case, sides)
        return found[0] if by_weight is None else by_weight

    def look_inside(self, localisation: Localisation | None) -> Depth | str:
        """How far the values inside both versions are apart, or why that cannot be said."""
        chosen = ordinary_run(self._ran)
        if chosen is None:
            return "no inputs ran on both sides"
        found = look_inside(self._loaded.source_side, self._loaded.target_side, self._case(chosen))
        if isinstance(found, str):
            return found
        evidence, own = found
        wrong = None if localisation is None else localisation.target.name
        return depth(evidence, chosen.draw.name, own, first_wrong=wrong)

    def judge_specials(self, results: Sequence[OutputResult]) -> Specials:
        """Judge the places of NaN and infinities, in float64 where both versions can be computed in it.

        In lower precision kernels that fuse operators lose NaN, whatever the model says.
        """
        doubted = {
            reason.partition(":")[0]
            for each in results
            if each.verdict == "different"
            for reason in each.reasons
        }
        excused, failures, notes = [], [], []
        for ran in self._ran:
            if ran.draw.rule != "special":
                continue
            name = ran.draw.name
            same = self._runner.same_specials(ran)
            if same is None and name not in doubted:
                continue
            reason = None
            if same:
                reason = "in float64 both versions have NaN and infinities in the same places"
            else:
                reason = self._excuse(ran)
            if reason is not None:
                excused.append(name)
                if name in doubted or not same:
                    notes.append(f"{name} was not judged: {reason}")
                continue
            self._misplaced.add(name)
            if name not in doubted:
                failures.append(f"{name}: in float64, NaN or infinities are in other places of the outputs")
        return Specials(frozenset(excused), tuple(failures), tuple(notes))

    def _excuse(self, ran: Ran) -> str | None:
        """Why the places of NaN and infinities in the outputs tell nothing; None where they do."""
        sides = (
            (self._loaded.source_side, self._runner.source_file(ran.draw)),
            (self._loaded.target_side, self._runner.target_file(ran.draw)),
        )
        files = [side.scratch / "excuse.values.safetensors" for side, _ in sides]
        numbers = [
            side.submit("intermediates", inputs=str(inputs), values=str(file))
            for (side, inputs), file in zip(sides, files, strict=True)
        ]
        reason = None
        for (side, inputs), file, number, framework in zip(
            sides, files, numbers, self._loaded.frameworks, strict=True
        ):
            try:
                records = side.result(number)["records"]
            except TaskFailure as error:
                return f"the {side.label} cannot show where they come from ({error.text})"
            values = read_tensors(str(file))
            trace = [(record, values[str(position)]) for position, record in enumerate(records)]
            reason = reason or excuse(framework, trace, read_tensors(str(inputs)))
        return None if reason is not None and self._starts_elsewhere(ran) else reason

    def _starts_elsewhere(self, ran: Ran) -> bool:
        """Whether the places of special values first differ at an operator that has no way of its own."""
        found = self._locate(replace(self._case(ran), request=None))
        if isinstance(found, str):
            return False
        place = found[0]
        block = (place.target, place.source, *place.target_block, *place.source_block)
        return not any(each is not None and is_convention(each.operator) for each in block)

    def _telling(self, different: Sequence[OutputResult]) -> Ran | None:
        """The smallest of the runs at which the outputs differ most, at ordinary inputs if they tell."""
        rules = {errors.rule for each in different for errors in each.errors if not errors.passed}
        ordinary = [each for each in self._ran if each.draw.rule != "special"]
        ordinary = [each for each in ordinary if each.draw.rule in rules] or ordinary
        if not rules and all(each.worst is None for each in different):
            special = [each for each in self._ran if each.draw.name in self._misplaced]
            if special:
                return min(special, key=lambda each: each.draw.size)
        distances = [self._distance(each) for each in ordinary]
        enough = max(distances, default=0.0) * _ENOUGH
        clear = [each for each, far in zip(ordinary, distances, strict=True) if far >= enough]
        return min(clear, key=lambda each: each.draw.size, default=None)

    def _distance(self, ran: Ran) -> float:
        """How far the outputs of both versions are apart, relative to the source's."""
        assert isinstance(ran.target, Run)
        ours = self._correspondence.source_outputs(ran.source.outputs)
        theirs = self._correspondence.arranged(ran.target.outputs, ran.source.outputs)
        return max((_apart(*pair) for pair in zip(ours, theirs, strict=True)), default=0.0)

    def _locate(self, case: Case) -> Found:
        return locate_fault(self._loaded.source_side, self._loaded.target_side, case)

    def _locate_gradient(self, ran: Ran, case: Case) -> Found:
        drawn = draw_cotangents(self._correspondence, ran.source.outputs, self._checks.seed)
        source = source_cotangents(self._correspondence, drawn)
        target = target_cotangents(self._correspondence, drawn)
        return locate_gradient_fault(
            self._loaded.source_side,
            self._loaded.target_side,
            case,
            _cotangents(self._loaded.source_side.scratch / "explain.cotangents.safetensors", source),
            _cotangents(self._loaded.target_side.scratch / "explain.cotangents.safetensors", target),
        )

    def _case(self, ran: Ran) -> Case:
        party = self._loaded.source_party
        request = None
        if self._loaded.converted and party.request.get("format") not in (None, FACTORY):
            request = ReadRequest.from_json(party.request)
        return Case(
            self._runner.source_file(ran.draw),
            self._runner.target_file(ran.draw),
            self._correspondence.outputs or (),
            self._loaded.target_party.converted,
            request,
        )


def _apart(ours: Array, theirs: Array) -> float:
    """The relative distance of two outputs, infinite at other shapes; of integers the part that differs."""
    if ours.shape != theirs.shape:
        return float("inf")
    if not is_inexact(ours):
        return float(np.mean(ours != theirs)) if ours.size else 0.0
    finite = np.isfinite(ours) & np.isfinite(theirs)
    exact, other = np.where(finite, ours, 0), np.where(finite, theirs, 0)
    scale = float(np.linalg.norm(exact.astype(np.float64)))
    return float(np.linalg.norm(other.astype(np.float64) - exact)) / scale if scale else 0.0


def _cotangents(file: Path, cotangents: Mapping[int, Array]) -> Path:
    write_tensors(str(file), {str(position): each for position, each in cotangents.items()})
    return file
