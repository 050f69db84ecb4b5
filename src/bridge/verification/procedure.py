"""The steps of one verification, over two loaded workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bridge.hub.weights import WeightMap
from bridge.verification import inputs as drawing
from bridge.verification.checks import Checks
from bridge.verification.compare import in_doubt, is_inexact_name
from bridge.verification.fitting import common_sizes, vocabularies
from bridge.verification.inputs import Draw, InputPlan
from bridge.verification.judging import Findings, Ran, conclude, judge_outputs
from bridge.verification.mapping import Mapped, parse_map
from bridge.verification.pairing import Correspondence, correspond_inputs, correspond_outputs
from bridge.verification.parties import Party
from bridge.verification.report import DrawReport, InputReport, Report, SideReport, Timing
from bridge.verification.running import Runner, outcome
from bridge.verification.sizes import check_batches, checked_shapes, parse_shapes
from bridge.verification.user_inputs import apply_specs, split, user_draws
from bridge.verification.weights import compare_weights, is_of
from bridge.worker.failures import TaskFailure, WorkerFailure
from bridge.worker.side import Description, Run, Side, TensorSpec
from bridge.worker.standalone import read_tensors


@dataclass(frozen=True)
class Loaded:
    """Both versions, loaded, and what their workers say about them.

    `drop_in`: the target is to have the source's very interface, names and layouts included.
    """

    source_party: Party
    target_party: Party
    source_side: Side
    target_side: Side
    source: Description
    target: Description
    drop_in: bool


class Procedure:
    """One verification; `name` sets its files apart from those of others on the same workers."""

    def __init__(
        self, loaded: Loaded, checks: Checks, name: str, started: float, say: Callable[[str], None]
    ) -> None:
        self._loaded = loaded
        self._checks = checks
        self._name = name
        self._started = started
        self._say = say
        self._notes: list[str] = []
        self._findings = Findings()

    def run(self) -> Report:
        source, target = self._loaded.source, self._loaded.target
        weights = self._submit_weights()
        correspondence = correspond_inputs(
            source.inputs,
            target.inputs,
            given=_given(self._checks.map_inputs),
            converted=self._loaded.target_party.converted is not None,
            layouts=not self._loaded.drop_in,
            source_sorted=self._loaded.source_party.sorts_names,
            target_sorted=self._loaded.target_party.sorts_names,
        )
        if correspondence.mismatch is not None:
            self._findings.failures.append(correspondence.mismatch)
            return self._report([], "nothing")
        draws = self._draws(correspondence)
        self._say("running both versions")
        runner = Runner(self._loaded.source_side, self._loaded.target_side, correspondence, self._name)
        self._compare_weights(weights)
        ran, held_against = runner.run(draws)
        correspondence = self._correspond_outputs(correspondence, ran)
        if correspondence.mismatch is not None:
            self._findings.failures.append(correspondence.mismatch)
            return self._report(ran, held_against)
        self._judge(runner, correspondence, ran)
        if sum(each.draw.batch or 1 for each in ran) == 1:
            self._notes.append("one input alone cannot show whether the outputs vary with it; give several")
        self._notes += [*correspondence.notes, *correspondence.uncertain, *runner.notes]
        return self._report(ran, held_against)

    def _draws(self, correspondence: Correspondence) -> list[Draw]:
        checks = self._checks
        specs, sets = split(checks.inputs, seed=checks.seed)
        asked = apply_specs(self._loaded.source.inputs, specs)
        draws = user_draws(sets, asked)
        if checks.draw if checks.draw is not None else not sets:
            fitted, notes = common_sizes(asked, self._loaded.target, correspondence)
            self._notes += notes
            draws += self._drawn(fitted)
        return draws

    def _drawn(self, specs: Sequence[TensorSpec]) -> list[Draw]:
        checks = self._checks
        plans, notes = vocabularies(drawing.plan(specs), self._source_runs)
        self._notes += notes
        shapes = checked_shapes(plans, parse_shapes(checks.shapes))
        if checks.batches is not None:
            check_batches(plans, checks.batches)
        return drawing.draws(plans, seed=checks.seed, batches=checks.batches, boundaries=True, sizes=shapes)

    def _source_runs(self, plans: Sequence[InputPlan], name: str) -> bool:
        side = self._loaded.source_side
        trial = drawing.draw(
            plans, seed=self._checks.seed, index=0, rule="typical", batch=drawing.DEFAULT_BATCHES[0]
        )
        runner = Runner(side, side, Correspondence({}, None), f"{self._name}.{name}")
        number = side.submit_run(runner.source_file(trial), f"{self._name}.{name}")
        return isinstance(outcome(side, number, f"{self._name}.{name}"), Run)

    def _correspond_outputs(self, correspondence: Correspondence, ran: Sequence[Ran]) -> Correspondence:
        first = next(((each.source, each.target) for each in ran if isinstance(each.target, Run)), None)
        if first is None:
            return correspondence
        source, target = first
        return correspond_outputs(
            correspondence,
            self._loaded.source.outputs,
            self._loaded.target.outputs,
            source.outputs,
            target.outputs,
            given=_given(self._checks.map_outputs),
            converted=self._loaded.target_party.converted is not None,
            layouts=not self._loaded.drop_in,
            source_sorted=self._loaded.source_party.sorts_names,
            target_sorted=self._loaded.target_party.sorts_names,
        )

    def _judge(self, runner: Runner, correspondence: Correspondence, ran: Sequence[Ran]) -> None:
        """Judge the outputs; those in doubt again, with what a closer look adds."""
        names = self._loaded.source.outputs
        results, failures = judge_outputs(names, correspondence, ran)
        doubts = {each.dtype: in_doubt(each) for each in results if in_doubt(each)}
        if doubts:
            self._say("looking closer")
            integers = any(not is_inexact_name(dtype) for dtype in doubts)
            runner.look_closer(ran, frozenset().union(*doubts.values()), ties=integers)
            results, failures = judge_outputs(names, correspondence, ran)
        source_random, target_random = runner.unsteady(ran)
        self._findings.outputs = tuple(results)
        self._findings.failures += failures
        if source_random is not None:
            self._findings.unchecked.append(source_random)
        elif target_random is not None:
            self._findings.failures.insert(0, target_random)

    def _submit_weights(self) -> _WeightRequests | None:
        if self._loaded.target_party.converted is None:
            self._findings.weights_note = "the target has no weight map (weights.json)"
            return None
        return _WeightRequests(
            self._loaded.source_side.submit_weights(), self._loaded.target_side.submit_weights()
        )

    def _compare_weights(self, requests: _WeightRequests | None) -> None:
        """Compare the target's tensors with the source's through the weight map."""
        directory = self._loaded.target_party.converted
        if requests is None or directory is None:
            return
        try:
            tensors = self._loaded.source_side.weights(requests.source)
            found = self._loaded.target_side.weights(requests.target)
        except TaskFailure as error:
            self._findings.weights_note = f"the weights cannot be read: {error.text}"
            self._findings.unchecked.append(self._findings.weights_note)
            return
        if tensors is None:
            self._findings.weights_note = "the source has no names for its weights"
            return
        weight_map = WeightMap.load(directory / "weights.json")
        if not is_of(weight_map, tensors):
            self._findings.weights_note = "the target's weight map is of another source"
            return
        if found is None:
            found = read_tensors(str(directory / "model.safetensors"))
        self._findings.weights = compare_weights(weight_map, tensors, found)

    def _report(self, ran: Sequence[Ran], reference: str) -> Report:
        source, target = self._loaded.source, self._loaded.target
        findings = self._findings
        verdict, reasons = conclude(findings)
        runs = [each.source for each in ran]
        target_runs = [each.target for each in ran if isinstance(each.target, Run)]
        return Report(
            verdict=verdict,
            reasons=reasons,
            source=_side_report(self._loaded.source_party, source),
            target=_side_report(self._loaded.target_party, target),
            seed=self._checks.seed,
            reference=reference,
            outputs=findings.outputs,
            draws=tuple(_draw_report(each.draw) for each in ran),
            weights=findings.weights,
            weights_note=findings.weights_note,
            notes=tuple(dict.fromkeys((*self._notes, *source.notes, *target.notes))),
            timing=Timing(
                time.monotonic() - self._started,
                sum(each.seconds for each in runs),
                sum(each.seconds for each in target_runs),
                max((each.peak_bytes for each in runs), default=0),
                max((each.peak_bytes for each in target_runs), default=0),
            ),
        )


@dataclass(frozen=True)
class _WeightRequests:
    """The numbers of the requests for the weights of both sides."""

    source: int
    target: int


def _given(text: str) -> Sequence[Mapped]:
    return parse_map(text) if text else ()


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
        outputs=(),
        draws=(),
        weights=None,
        weights_note="the verification was not completed",
        notes=(),
        timing=Timing(time.monotonic() - started, 0.0, 0.0, 0, 0),
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
