"""Verify: run two versions of a model side by side, each in a process of its own, and judge."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import BridgeError, InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub.weights import WeightMap
from bridge.verify import inputs as drawing
from bridge.verify.compare import OutputResult, Sample, Verdict, compare_output
from bridge.verify.inputs import Draw, InputPlan, Role
from bridge.verify.pairing import output_order, pair
from bridge.verify.parties import Party, resolve
from bridge.verify.report import DrawReport, InputReport, Report, SideReport, Timing
from bridge.verify.user_inputs import UserInputs, apply_specs, split, user_draws
from bridge.verify.weights import WeightsResult, compare_weights, is_of
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Description, Run, Side, TensorSpec
from bridge.worker.standalone import read_tensors, write_tensors

Array = np.ndarray[Any, np.dtype[Any]]


def verify(
    source: str | Path | ReadRequest,
    target: str | Path | ReadRequest,
    *,
    inputs: UserInputs | None = None,
    draw: bool | None = None,
    seed: int = 0,
    batches: Sequence[int] | None = None,
    timeout: float | None = 600,
    trust: bool = False,
    model: str | None = None,
    custom_objects: str | None = None,
    threads: int | None = None,
    on_progress: Callable[[str], None] | None = None,
    target_name: str | None = None,
) -> Report:
    """Hold the outputs and weights of `target` against those of `source`.

    `source` and `target` are paths of any format that bridge reads, directories that `bridge convert`
    wrote, or requests. `inputs` are the user's own arrays or files of them, or specifications where a
    model does not say what it takes. Unless arrays are given, or if `draw`, inputs are drawn from the
    `seed`, in the sizes `batches` where axis 0 is dynamic. `timeout` is in seconds for the whole
    verification, `threads` are those of each side. `trust`, `model` and `custom_objects` are as in a
    ReadRequest. `target_name` is what the report calls the target, where its path is a temporary one.

    docs/verdict.md defines the verdict. Raises InputError where a version or the inputs cannot be used,
    and EnvironmentFailure where a worker dies or takes too long: neither is ever a pass.
    """
    say = on_progress or (lambda text: None)
    specs, sets = split(inputs)
    if isinstance(source, ReadRequest):
        specs = specs or list(source.inputs)
    started = time.monotonic()
    reading: dict[str, Any] = {
        "trust": trust,
        "model": model,
        "custom_objects": custom_objects,
        "inputs": specs,
    }
    first = resolve(source, as_target=False, **reading)
    second = resolve(target, as_target=True, **reading)
    if target_name is not None:
        second = replace(second, path=target_name)
    count = threads or int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1
    with ExitStack() as stack:
        sides = [
            stack.enter_context(Side(label=f"{name} worker", threads=count, timeout=timeout))
            for name in ("source", "target")
        ]
        return _Verification(first, second, sides[0], sides[1], seed, started, say).run(
            specs, sets, batches, draw=not sets if draw is None else draw
        )


@dataclass
class _Ran:
    """What one draw gave: runs of both sides; the reference and why there is none."""

    draw: Draw
    source: Run
    target: Run | None
    target_failure: str | None
    reference: list[Array] | None = None


class _Verification:
    """The steps of one verification, over two started workers."""

    def __init__(
        self,
        source: Party,
        target: Party,
        source_side: Side,
        target_side: Side,
        seed: int,
        started: float,
        say: Callable[[str], None],
    ) -> None:
        self._source = source
        self._target = target
        self._source_side = source_side
        self._target_side = target_side
        self._seed = seed
        self._started = started
        self._say = say
        self._notes: list[str] = []

    def run(
        self,
        specs: Sequence[InputSpec],
        sets: Sequence[Mapping[str, Array] | Sequence[Array]],
        batches: Sequence[int] | None,
        *,
        draw: bool,
    ) -> Report:
        self._say("loading both versions")
        loading = self._source_side.submit_load(self._source.loader, dict(self._source.request))
        loading_target = self._target_side.submit_load(self._target.loader, dict(self._target.request))
        weights = self._source_side.submit_weights()
        source = self._source_side.description(loading)
        target = self._target_side.description(loading_target)
        mismatch = _signature_mismatch(source, target)
        if mismatch is not None:
            return self._report(source, target, [], (mismatch,), None, "the signatures differ", "nothing")
        names = pair([each.name for each in source.inputs], [each.name for each in target.inputs])
        asked = apply_specs(source.inputs, specs)
        draws = user_draws(sets, asked)
        if draw:
            draws += self._drawn(self._fixed(asked, target, names), batches)
        self._say("running both versions")
        files = {draw.name: self._write(draw) for draw in draws}
        running = {name: self._source_side.submit_run(file, name) for name, file in files.items()}
        target_running = {
            draw.name: self._target_side.submit_run(self._renamed(draw, files[draw.name], names), draw.name)
            for draw in draws
        }
        reference = {
            draw.name: self._source_side.submit_run(files[draw.name], draw.name, fp64=True)
            for draw in draws
            if draw.referenced
        }
        compared, note = self._weights(weights)
        ran = self._collect(draws, running, target_running)
        self._say("running the source in float64")
        held_against = self._add_references(ran, reference)
        if sum(_samples(each.draw) for each in ran) == 1:
            self._notes.append("one input alone cannot show whether the outputs vary with it; give several")
        return self._report(source, target, ran, (), compared, note, held_against)

    def _fixed(
        self, specs: Sequence[TensorSpec], target: Description, names: Mapping[str, str]
    ) -> list[TensorSpec]:
        """The source's inputs, with the sizes that the target fixes where the source leaves them open."""
        fixed = []
        for spec in specs:
            other = next(each for each in target.inputs if each.name == names[spec.name])
            shape = spec.shape
            if shape is None or spec.dtype is None:
                shape, dtype = shape or other.shape, spec.dtype or other.dtype
                spec = replace(spec, shape=shape, dtype=dtype)
            if shape is not None and other.shape is not None and len(shape) == len(other.shape):
                merged = tuple(
                    theirs if isinstance(theirs, int) and not isinstance(ours, int) else ours
                    for ours, theirs in zip(shape, other.shape, strict=True)
                )
                if merged != shape:
                    self._notes.append(
                        f"the target takes the input {spec.name!r} with fixed sizes only: {merged}"
                    )
                    spec = replace(spec, shape=merged)
            fixed.append(spec)
        return fixed

    def _drawn(self, specs: Sequence[TensorSpec], batches: Sequence[int] | None) -> list[Draw]:
        plans = self._with_token_limits(drawing.plan(specs))
        return drawing.draws(plans, seed=self._seed, batches=batches)

    def _with_token_limits(self, plans: list[InputPlan]) -> list[InputPlan]:
        """Find, for every input of token ids, the largest of a few vocabularies that the source runs."""
        for each in plans:
            if each.role is not Role.TOKENS:
                continue
            for limit in drawing.TOKEN_LIMITS:
                trial = drawing.with_limit(plans, each.name, limit)
                if limit == drawing.TOKEN_LIMITS[-1] or self._source_runs(trial, f"{each.name}-{limit}"):
                    plans = trial
                    self._notes.append(
                        f"the values of the input {each.name!r} are drawn from 0 to {limit - 1}"
                    )
                    break
        return plans

    def _source_runs(self, plans: Sequence[InputPlan], name: str) -> bool:
        trial = drawing.draw(
            plans, seed=self._seed, index=0, rule="typical", batch=drawing.DEFAULT_BATCHES[0]
        )
        safe = re.sub(r"\W", "_", name)
        number = self._source_side.submit_run(self._write(trial, f"trial-{safe}"), f"trial-{safe}")
        try:
            self._source_side.result(number)
        except TaskFailure:
            return False
        return True

    def _write(self, draw: Draw, name: str | None = None) -> Path:
        file = self._source_side.scratch / f"{name or draw.name}.in.safetensors"
        write_tensors(str(file), draw.arrays)
        return file

    def _renamed(self, draw: Draw, file: Path, names: Mapping[str, str]) -> Path:
        """The draw's file under the target's names of the inputs."""
        if all(old == new for old, new in names.items()):
            return file
        renamed = self._target_side.scratch / file.name
        write_tensors(str(renamed), {names[name]: array for name, array in draw.arrays.items()})
        return renamed

    def _collect(
        self,
        draws: Sequence[Draw],
        running: Mapping[str, int],
        target_running: Mapping[str, int],
    ) -> list[_Ran]:
        """The outputs of both sides; inputs that the source itself refuses are left out, and noted."""
        ran = []
        failure: TaskFailure | None = None
        for draw in draws:
            try:
                source = self._source_side.outputs(running[draw.name], draw.name)
            except TaskFailure as error:
                failure = failure or error
                if draw.rule == "user":
                    raise InputError(
                        f"the source cannot run the given inputs: {error.text}",
                        hint="check their shapes and types with bridge inspect",
                    ) from error
                self._notes.append(f"the source does not run the inputs {draw.name}: {error.text}")
                continue
            try:
                target = self._target_side.outputs(target_running[draw.name], draw.name)
                ran.append(_Ran(draw, source, target, None))
            except TaskFailure as error:
                ran.append(_Ran(draw, source, None, error.text))
        if not ran and failure is not None:
            raise InputError(
                f"the source runs none of the inputs that were drawn for it: {failure.text}",
                hint="give its inputs: --input NAME=SHAPE:DTYPE, or arrays in an .npz file",
            ) from failure
        return ran

    def _add_references(self, ran: Sequence[_Ran], numbers: Mapping[str, int]) -> str:
        for each in [one for one in ran if one.draw.referenced]:
            try:
                run = self._source_side.outputs(numbers[each.draw.name], each.draw.name, fp64=True)
            except BridgeError as error:
                if not isinstance(error, TaskFailure) and error.exit_code == 3:
                    raise
                reason = error.text if isinstance(error, TaskFailure) else error.message
                for other in ran:
                    other.reference = None
                self._notes.append(
                    f"the source cannot be computed in float64 ({reason}); outputs are held against the "
                    "source itself with fixed tolerances by dtype"
                )
                return "the source's own outputs, with fixed tolerances by dtype"
            each.reference = run.outputs
        return "the source computed in float64 by its own framework"

    def _weights(self, number: int) -> tuple[WeightsResult | None, str]:
        """Compare the target's weight file with the source's tensors through the weight map."""
        directory = self._target.converted
        if directory is None:
            return None, "the target has no weight map (weights.json)"
        try:
            tensors = self._source_side.weights(number)
        except TaskFailure as error:
            return None, f"the source's weights cannot be read: {error.text}"
        if tensors is None:
            return None, "the source has no names for its weights"
        weight_map = WeightMap.load(directory / "weights.json")
        if not is_of(weight_map, tensors):
            return None, "the target's weight map is of another source"
        found = read_tensors(str(directory / "model.safetensors"))
        return compare_weights(weight_map, tensors, found), ""

    def _report(
        self,
        source: Description,
        target: Description,
        ran: Sequence[_Ran],
        reasons: tuple[str, ...],
        weights: WeightsResult | None,
        weights_note: str,
        reference: str,
    ) -> Report:
        failed = tuple(
            f"the target fails on the inputs {each.draw.name}, which the source runs: {each.target_failure}"
            for each in ran
            if each.target_failure is not None
        )
        both = [(each, each.target) for each in ran if each.target is not None]
        results, mismatch = _results(source, target, both)
        if mismatch is not None:
            reasons = (*reasons, mismatch)
        verdict, why = _verdict((*reasons, *failed), results, weights)
        runs = [each.source for each in ran]
        target_runs = [run for _, run in both]
        return Report(
            verdict=verdict,
            reasons=why,
            source=SideReport(self._source.path, source.what, source.notes),
            target=SideReport(self._target.path, target.what, target.notes),
            seed=self._seed,
            reference=reference,
            outputs=tuple(results),
            draws=tuple(_draw_report(each.draw) for each in ran),
            weights=weights,
            weights_note=weights_note,
            notes=tuple(dict.fromkeys((*self._notes, *source.notes, *target.notes))),
            timing=Timing(
                time.monotonic() - self._started,
                sum(each.seconds for each in runs),
                sum(each.seconds for each in target_runs),
                max((each.peak_bytes for each in runs), default=0),
                max((each.peak_bytes for each in target_runs), default=0),
            ),
        )


def _samples(draw: Draw) -> int:
    """How many inputs a set holds; 1 where it has no batch."""
    return draw.batch or 1


def _signature_mismatch(source: Description, target: Description) -> str | None:
    if len(source.inputs) != len(target.inputs):
        return f"the source has {len(source.inputs)} inputs, the target {len(target.inputs)}"
    if source.outputs is not None and target.outputs is not None:
        return _count_mismatch(len(source.outputs), len(target.outputs))
    return None


def _count_mismatch(source: int, target: int) -> str | None:
    return None if source == target else f"the source has {source} outputs, the target {target}"


def _results(
    source: Description, target: Description, ran: Sequence[tuple[_Ran, Run]]
) -> tuple[list[OutputResult], str | None]:
    """Every output judged; or, instead, that the numbers of outputs differ."""
    if not ran:
        return [], None
    for each, run in ran:
        mismatch = _count_mismatch(len(each.source.outputs), len(run.outputs))
        if mismatch is not None:
            return [], mismatch
    count = len(ran[0][0].source.outputs)
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
            for each, run in ran
        ]
        results.append(compare_output(name, samples))
    return results, None


def _verdict(
    failures: Sequence[str], outputs: Sequence[OutputResult], weights: WeightsResult | None
) -> tuple[Verdict, tuple[str, ...]]:
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
    if not outputs:
        unchecked.append("there are no outputs to compare")
    elif not any(each.varies or each.varies is None for each in outputs):
        unchecked.append("no output varies with the inputs, so their equality proves nothing")
    return ("could not be checked", tuple(unchecked)) if unchecked else ("equivalent", ())


def _draw_report(draw: Draw) -> DrawReport:
    return DrawReport(
        draw.name,
        draw.rule,
        tuple(
            InputReport(name, array.dtype.name, tuple(int(size) for size in array.shape))
            for name, array in draw.arrays.items()
        ),
    )
