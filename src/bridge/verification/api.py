"""Verify: run two versions of a model side by side, each in a process of its own, and judge."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import BridgeError, ExitCode, InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub.weights import WeightMap
from bridge.verification import inputs as drawing
from bridge.verification.fitting import common_sizes, vocabularies
from bridge.verification.inputs import Draw, InputPlan
from bridge.verification.judging import Ran, conclude, judge_outputs, no_reference, signature_mismatch
from bridge.verification.pairing import pair
from bridge.verification.parties import Party, resolve
from bridge.verification.report import DrawReport, InputReport, Report, SideReport, Timing
from bridge.verification.user_inputs import UserInputs, apply_specs, split, user_draws
from bridge.verification.weights import WeightsResult, compare_weights, is_of
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Description, Run, Side, TensorSpec
from bridge.worker.standalone import read_tensors, write_tensors

Array = np.ndarray[Any, np.dtype[Any]]


def verify(
    source: str | Path | ReadRequest | Party,
    target: str | Path | ReadRequest | Party,
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
        mismatch = signature_mismatch(source, target)
        if mismatch is not None:
            return self._report(
                source, target, [], _Weights(None, "the signatures differ"), "nothing", mismatch
            )
        names = pair([each.name for each in source.inputs], [each.name for each in target.inputs])
        asked = apply_specs(source.inputs, specs)
        draws = user_draws(sets, asked)
        if draw:
            draws += self._drawn(*common_sizes(asked, target, names), batches)
        self._say("running both versions")
        files = {each.name: self._write(each) for each in draws}
        running = {name: self._source_side.submit_run(file, name) for name, file in files.items()}
        target_running = {
            each.name: self._target_side.submit_run(self._renamed(each, files[each.name], names), each.name)
            for each in draws
        }
        reference = {
            each.name: self._source_side.submit_run(files[each.name], each.name, fp64=True)
            for each in draws
            if each.referenced
        }
        compared = self._weights(weights)
        ran = self._collect(draws, running, target_running)
        self._say("running the source in float64")
        held_against = self._add_references(ran, reference)
        if sum(each.draw.batch or 1 for each in ran) == 1:
            self._notes.append("one input alone cannot show whether the outputs vary with it; give several")
        return self._report(source, target, ran, compared, held_against)

    def _drawn(
        self, specs: Sequence[TensorSpec], notes: Sequence[str], batches: Sequence[int] | None
    ) -> list[Draw]:
        plans, more_notes = vocabularies(drawing.plan(specs), self._source_runs)
        self._notes += [*notes, *more_notes]
        return drawing.draws(plans, seed=self._seed, batches=batches)

    def _source_runs(self, plans: Sequence[InputPlan], name: str) -> bool:
        trial = drawing.draw(
            plans, seed=self._seed, index=0, rule="typical", batch=drawing.DEFAULT_BATCHES[0]
        )
        number = self._source_side.submit_run(self._write(trial, name), name)
        return isinstance(_outcome(self._source_side, number, name), Run)

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
    ) -> list[Ran]:
        """The outputs of both sides; inputs that the source itself refuses are left out, and noted."""
        ran = []
        refusal = None
        for draw in draws:
            source = _outcome(self._source_side, running[draw.name], draw.name)
            if isinstance(source, Run):
                target = _outcome(self._target_side, target_running[draw.name], draw.name)
                ran.append(Ran(draw, source, target))
                continue
            refusal = refusal or source
            if draw.rule == "user":
                raise InputError(
                    f"the source cannot run the given inputs: {source}",
                    hint="check their shapes and types with bridge inspect",
                )
            self._notes.append(f"the source does not run the inputs {draw.name}: {source}")
        if not ran:
            raise InputError(
                f"the source runs none of the inputs that were drawn for it: {refusal}",
                hint="give its inputs: --input NAME=SHAPE:DTYPE, or arrays in an .npz file",
            )
        return ran

    def _add_references(self, ran: Sequence[Ran], numbers: Mapping[str, int]) -> str:
        """Attach the float64 outputs; what the outputs are held against, in words."""
        for each in [one for one in ran if one.draw.referenced]:
            run = _outcome(self._source_side, numbers[each.draw.name], each.draw.name, fp64=True)
            reason = run if isinstance(run, str) else no_reference(each.source.outputs, run.outputs)
            if isinstance(run, str) or reason is not None:
                for other in ran:
                    other.reference = None
                self._notes.append(
                    f"the source cannot be computed in float64 ({reason}); outputs are held against the "
                    "source itself with fixed tolerances by dtype"
                )
                return "the source's own outputs, with fixed tolerances by dtype"
            each.reference = run.outputs
        return "the source computed in float64 by its own framework"

    def _weights(self, number: int) -> _Weights:
        """Compare the target's weight file with the source's tensors through the weight map."""
        directory = self._target.converted
        if directory is None:
            return _Weights(None, "the target has no weight map (weights.json)")
        try:
            tensors = self._source_side.weights(number)
        except TaskFailure as error:
            reason = f"the source's weights cannot be read: {error.text}"
            return _Weights(None, reason, failed=True)
        if tensors is None:
            return _Weights(None, "the source has no names for its weights")
        weight_map = WeightMap.load(directory / "weights.json")
        if not is_of(weight_map, tensors):
            return _Weights(None, "the target's weight map is of another source")
        found = read_tensors(str(directory / "model.safetensors"))
        return _Weights(compare_weights(weight_map, tensors, found))

    def _report(
        self,
        source: Description,
        target: Description,
        ran: Sequence[Ran],
        weights: _Weights,
        reference: str,
        mismatch: str | None = None,
    ) -> Report:
        results, failures = judge_outputs(source, target, ran)
        if mismatch is not None:
            failures.append(mismatch)
        verdict, reasons = conclude(
            failures, results, weights.result, weights.note if weights.failed else None
        )
        runs = [each.source for each in ran]
        target_runs = [each.target for each in ran if isinstance(each.target, Run)]
        return Report(
            verdict=verdict,
            reasons=reasons,
            source=SideReport(self._source.path, source.what, source.notes),
            target=SideReport(self._target.path, target.what, target.notes),
            seed=self._seed,
            reference=reference,
            outputs=tuple(results),
            draws=tuple(_draw_report(each.draw) for each in ran),
            weights=weights.result,
            weights_note=weights.note,
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
class _Weights:
    """The comparison of the weights, or why there is none; `failed` where there should be one."""

    result: WeightsResult | None
    note: str = ""
    failed: bool = False


def _outcome(side: Side, number: int, name: str, *, fp64: bool = False) -> Run | str:
    """The answer to a run, or in words why the model refused it.

    Raises EnvironmentFailure where the worker died or took too long.
    """
    try:
        return side.outputs(number, name, fp64=fp64)
    except TaskFailure as error:
        return error.text
    except BridgeError as error:
        if error.exit_code is ExitCode.ENVIRONMENT:
            raise
        return error.message


def _draw_report(draw: Draw) -> DrawReport:
    return DrawReport(
        draw.name,
        draw.rule,
        tuple(
            InputReport(name, array.dtype.name, tuple(int(size) for size in array.shape))
            for name, array in draw.arrays.items()
        ),
    )
