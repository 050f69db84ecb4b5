"""The steps of one verification, over two loaded workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from bridge.verification import weighing
from bridge.verification.checks import Checks
from bridge.verification.choosing import Choice, choose_inputs
from bridge.verification.compare import in_doubt, is_inexact_name
from bridge.verification.deeper import compare_gradients, compare_training
from bridge.verification.explaining import Explainer
from bridge.verification.inputs import Draw
from bridge.verification.judging import Findings, Ran, conclude, judge_outputs
from bridge.verification.loaded import Loaded
from bridge.verification.localise import Localisation
from bridge.verification.naming import structure
from bridge.verification.pairing import Correspondence
from bridge.verification.parties import Party
from bridge.verification.report import DrawReport, InputReport, Report, SideReport, Timing
from bridge.verification.report.depth import Depth
from bridge.verification.report.model import MatchedWeights
from bridge.verification.running import Runner
from bridge.verification.speed.result import SpeedResult
from bridge.verification.speed.settings import SpeedSettings
from bridge.verification.surroundings import Hashes, environment, start_hashing, started_at
from bridge.worker.failures import WorkerFailure
from bridge.worker.side import Description, Run

SpeedMeasure = Callable[[SpeedSettings, Checks, Correspondence, Choice], SpeedResult]


class Procedure:
    """One verification; `name` sets its files apart from those of others on the same workers.

    `measure_speed` is how speed and memory are measured, where they are asked for.
    """

    def __init__(
        self,
        loaded: Loaded,
        checks: Checks,
        name: str,
        started: float,
        say: Callable[[str], None],
        measure_speed: SpeedMeasure,
    ) -> None:
        self._loaded = loaded
        self._checks = checks
        self._name = name
        self._started = started
        self._say = say
        self._measure_speed = measure_speed
        self._notes: list[str] = []
        self._findings = Findings()
        self._localisation: Localisation | None = None
        self._depth: Depth | None = None

    def run(self) -> Report:
        """All steps; the verdict follows from what they find."""
        loaded, checks = self._loaded, self._checks
        if loaded.hashes is None:
            loaded.hashes = start_hashing(loaded.source_party, loaded.target_party, checks.inputs)
        requests = None
        if loaded.weights is None:
            requests = weighing.submit(loaded.source_side, loaded.target_side)
        correspondence, choice = choose_inputs(loaded, checks, self._name)
        if correspondence.mismatch is not None:
            self._findings.failures.append(correspondence.mismatch)
            return self._report([], "nothing")
        self._notes += choice.notes
        self._say("comparing the weights")
        if requests is not None:
            loaded.weights = weighing.settle(
                loaded.source_side, loaded.target_side, loaded.target_party, requests
            )
        weights = self._findings.weights = loaded.weights or weighing.Weights()
        self._say("running both versions")
        runner = Runner(loaded.source_side, loaded.target_side, correspondence, self._name, checks.precision)
        ran, held_against = runner.run(choice.draws)
        correspondence = runner.correspondence = loaded.correspond_outputs(checks, correspondence, ran)
        if correspondence.mismatch is not None:
            self._findings.failures.append(correspondence.mismatch)
            return self._report(ran, held_against)
        explainer = Explainer(loaded, checks, correspondence, runner, ran)
        self._judge(runner, correspondence, ran, explainer)
        if checks.gradients:
            self._say("comparing the gradients")
            self._findings.gradients = compare_gradients(
                loaded, checks, correspondence, ran, weights, self._name
            )
        if checks.training:
            self._say("comparing the training")
            self._findings.training = compare_training(
                loaded, checks, correspondence, choice, ran, weights, self._name
            )
        self._localise(explainer)
        self._look_inside(explainer)
        if checks.speed is not None:
            self._findings.speed = self._measure_speed(checks.speed, checks, correspondence, choice)
        if sum(each.draw.batch or 1 for each in ran) == 1:
            self._notes.append("one input alone cannot show whether the outputs vary with it; give several")
        self._notes += [*correspondence.notes, *correspondence.uncertain, *runner.notes]
        return self._report(ran, held_against)

    def _judge(
        self, runner: Runner, correspondence: Correspondence, ran: Sequence[Ran], explainer: Explainer
    ) -> None:
        """Judge the outputs; those in doubt again, with what a closer look adds."""
        names = self._loaded.source.outputs
        results, failures = judge_outputs(names, correspondence, ran)
        doubts = frozenset(rule for each in results for rule in in_doubt(each))
        if doubts:
            self._say("looking closer")
            integers = any(in_doubt(each) and not is_inexact_name(each.dtype) for each in results)
            runner.look_closer(ran, doubts, ties=integers)
            results, failures = judge_outputs(names, correspondence, ran)
        specials = explainer.judge_specials(results)
        results, failures = judge_outputs(names, correspondence, ran, excused=specials.excused)
        self._notes += specials.notes
        source_random, target_random = runner.unsteady(ran)
        self._findings.outputs = tuple(results)
        self._findings.failures += [*failures, *specials.failures]
        if source_random is not None:
            self._findings.unchecked.append(source_random)
        elif target_random is not None:
            self._findings.failures.insert(0, target_random)

    def _localise(self, explainer: Explainer) -> None:
        verdict, _ = conclude(self._findings)
        if verdict != "different" or not self._checks.localise:
            return
        self._say("looking for the first wrong node")
        found = explainer.explain(self._findings)
        if isinstance(found, str):
            self._notes.append(f"the fault could not be localised: {found}")
        else:
            self._localisation = found

    def _look_inside(self, explainer: Explainer) -> None:
        """How far the values inside are apart: all of them if asked for, else what localising has shown."""
        if not self._checks.depth:
            self._depth = explainer.seen
            return
        self._say("comparing the values inside")
        found = explainer.look_inside(self._localisation)
        if isinstance(found, str):
            self._notes.append(f"the values inside could not be compared: {found}")
        else:
            self._depth = found

    def _report(self, ran: Sequence[Ran], reference: str) -> Report:
        loaded, findings = self._loaded, self._findings
        verdict, reasons = conclude(findings)
        runs = [each.source for each in ran]
        target_runs = [each.target for each in ran if isinstance(each.target, Run)]
        return Report(
            verdict=verdict,
            reasons=reasons,
            source=_side_report(loaded.source_party, loaded.source),
            target=_side_report(loaded.target_party, loaded.target),
            seed=self._checks.seed,
            reference=reference,
            outputs=findings.outputs,
            draws=tuple(_draw_report(each.draw) for each in ran),
            weights=findings.weights.result,
            matched_weights=MatchedWeights.of(findings.weights.match),
            weights_note=findings.weights.note,
            gradients=findings.gradients,
            training=findings.training,
            speed=findings.speed,
            localisation=self._localisation,
            depth=self._depth,
            structure=structure(loaded.target_party, findings.weights.map),
            environment=environment(
                loaded.source_side,
                loaded.target_side,
                loaded.threads,
                Hashes() if loaded.hashes is None else loaded.hashes.result(),
            ),
            notes=tuple(dict.fromkeys((*self._notes, *loaded.source.notes, *loaded.target.notes))),
            timing=Timing(
                time.monotonic() - self._started,
                sum(each.seconds for each in runs),
                sum(each.seconds for each in target_runs),
                max((each.peak_bytes for each in runs), default=0),
                max((each.peak_bytes for each in target_runs), default=0),
                started_at(self._started),
            ),
        )


def unchecked(
    source: tuple[Party, Description | None],
    target: tuple[Party, Description | None],
    seed: int,
    error: WorkerFailure,
    started: float,
) -> Report:
    """The report of a verification that a worker did not survive."""
    reason = error.message if error.hint is None else f"{error.message}: {error.hint}"
    return Report(
        verdict="could not be checked",
        reasons=(reason,),
        source=_side_report(*source),
        target=_side_report(*target),
        seed=seed,
        reference="nothing",
        weights_note="the verification was not completed",
        timing=Timing(time.monotonic() - started, 0.0, 0.0, 0, 0, started_at(started)),
    )


def _side_report(party: Party, description: Description | None) -> SideReport:
    if description is None:
        return SideReport(party.path, "not loaded")
    return SideReport(party.path, description.what, description.notes)


def _draw_report(draw: Draw) -> DrawReport:
    return DrawReport(
        draw.name,
        draw.rule,
        tuple(
            InputReport(name, array.dtype.name, tuple(int(size) for size in array.shape))
            for name, array in draw.arrays.items()
        ),
    )
