"""Localise a fault: ask both workers for the values inside their models, and find the first wrong one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import BridgeError, InputError
from bridge.formats.request import ReadRequest
from bridge.hub.anchors import Anchor, Anchors
from bridge.verification.localise.alike import Index, nearest, relative_error
from bridge.verification.localise.backwards import first_wrong_gradient
from bridge.verification.localise.blame import Blamed, blame
from bridge.verification.localise.divergence import Divergence, first_divergence
from bridge.verification.localise.pairing import Pairing, Status, pair_by_anchor, pair_by_value
from bridge.verification.localise.result import OUTPUT, Blame, How, Localisation, Place
from bridge.verification.localise.rounding import first_rounding
from bridge.verification.localise.trace import Trace, Value
from bridge.verification.pairing import PairedOutput
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Side
from bridge.worker.standalone import read_tensors

Array = np.ndarray[Any, np.dtype[Any]]

_EPS = float(np.finfo(np.float32).eps)
_LEAST = _EPS
"""Two right models may differ by so much in float64, since one rounds its constants to float32."""

_MOST = 64 * _EPS
_SAME = 1e-10
"""How far apart two runs of one function in float64 may be."""


@dataclass(frozen=True)
class Case:
    """The inputs to localise with, and what is known about the pair.

    `inputs` and `target_inputs` are files of tensors by each side's names of the inputs; small ones will do,
    and be fast. `outputs` says which of them belong together. `converted` is the target's directory if
    bridge wrote it, `request` what would read the source again.
    """

    inputs: Path
    target_inputs: Path
    outputs: Sequence[PairedOutput]
    converted: Path | None = None
    request: ReadRequest | None = None


@dataclass(frozen=True)
class Evidence:
    """All that one localisation looked at; a reproduction is made of it.

    `node` is an ONNX model of the wrong node as the hub has it, and `fed` its inputs.
    """

    source: Trace
    target: Trace
    outputs: tuple[Array, ...]
    target_outputs: tuple[Array, ...]
    pairings: tuple[Pairing, ...]
    anchors: Mapping[str, Anchor]
    divergence: Divergence | None
    node: bytes | None = None
    fed: tuple[Array, ...] = ()


def locate_fault(
    source: Side, target: Side, case: Case, *, timeout: float | None = None
) -> tuple[Localisation, Evidence] | str:
    """Find the first node of the target whose value in float64 is not the source's.

    Both sides have loaded their models. `timeout` is in seconds, for reading the source again. Returns a
    sentence where the fault cannot be localised. Raises EnvironmentFailure where a worker dies.
    """
    try:
        evidence = _look(source, target, case)
    except _Unable as error:
        return str(error)
    errors = _output_errors(evidence, case.outputs)
    worst = max(errors, default=0.0)
    if worst <= _LEAST:
        return _rounded(source, target, evidence, case, timeout)
    tolerance = min(max(worst / 100, _LEAST), _MOST)
    exchanged = _exchanged(evidence, case.outputs, errors, tolerance)
    if exchanged is not None:
        return exchanged, evidence
    evidence = _compare(evidence, case, errors, tolerance)
    found = _conclude(evidence, case, errors, tolerance)
    if isinstance(found, str):
        return found
    return _blamed(found, evidence, case, timeout)


def _rounded(
    source: Side, target: Side, evidence: Evidence, case: Case, timeout: float | None
) -> tuple[Localisation, Evidence] | str:
    """Find the first value that the target rounds more than the source does: in float64 both are the same."""
    same = (
        "in float64 both compute the same outputs for these inputs, so the difference is one of "
        "arithmetic in lower precision, and no node computes another function"
    )
    try:
        own_source, own_target = _traces(source, target, case, own=True)
    except _Unable:
        return same
    index = Index([value.array for value in evidence.source.values])
    found = first_rounding(
        evidence.source,
        own_source,
        evidence.target,
        own_target,
        _pairings(evidence, index, _MOST),
        _output_positions(evidence, case.outputs, index),
        _MOST,
    )
    if found is None:
        return same
    evidence = replace(evidence, target=found.target, pairings=found.pairings, divergence=found.divergence)
    note = (
        "in float64 both compute the same; in its own precision the target is "
        f"{found.error:.1e} away from that here, the source {found.source_error:.1e}"
    )
    return _blamed(_localisation(evidence, found.divergence, "rounding", (note,)), evidence, case, timeout)


def locate_gradient_fault(
    source: Side, target: Side, case: Case, cotangents: Path, target_cotangents: Path
) -> tuple[Localisation, Evidence] | str:
    """Find the value nearest to the outputs whose gradient is not the source's, where the values are equal.

    The files hold the cotangents by each side's positions of the outputs.
    """
    try:
        evidence = _look(source, target, case, cotangents, target_cotangents)
    except _Unable as error:
        return str(error)
    if not all(
        any(each.gradient is not None for each in t.values) for t in (evidence.source, evidence.target)
    ):
        return "one of the two shows no gradients of the values inside it"
    index = Index([value.array for value in evidence.source.values])
    pairings = _pairings(evidence, index, _MOST)
    evidence = replace(evidence, pairings=tuple(pairings))
    wrong = first_wrong_gradient(
        evidence.source, evidence.target, pairings, _permutations(evidence.anchors), index, _MOST
    )
    if wrong is None:
        return "the gradients of all values that both models have are equal; only those of weights differ"
    node = wrong.target if wrong.reader is None else wrong.reader
    partner = pairings[node].partner
    counterpart = wrong.source if partner is None else partner
    localisation = Localisation(
        source=_place(evidence.source.values[counterpart]),
        target=_place(evidence.target.values[node]),
        error=wrong.error,
        how="gradients",
        last_equal=((evidence.source.values[wrong.source].name, evidence.target.values[wrong.target].name),),
        notes=("the value named last is equal on both sides, its gradient is not",),
    )
    return localisation, evidence


def look_inside(source: Side, target: Side, case: Case) -> tuple[Evidence, tuple[Trace, Trace]] | str:
    """The values inside both versions: paired in float64, and in each side's own precision.

    Both sides have loaded their models. Returns a sentence where one of them cannot show its values.
    """
    try:
        evidence = _look(source, target, case)
        own = _traces(source, target, case, own=True)
    except _Unable as error:
        return str(error)
    index = Index([value.array for value in evidence.source.values])
    return replace(evidence, pairings=tuple(_pairings(evidence, index, _MOST))), own


class _Unable(Exception):
    """Why a fault cannot be localised, in a sentence."""


def _look(
    source: Side,
    target: Side,
    case: Case,
    cotangents: Path | None = None,
    target_cotangents: Path | None = None,
) -> Evidence:
    runs = [
        (side, side.submit_run(inputs, "localise", fp64=True))
        for side, inputs in ((source, case.inputs), (target, case.target_inputs))
    ]
    traces = _traces(source, target, case, cotangents=(cotangents, target_cotangents))
    outputs = []
    for side, run in runs:
        with _answering(side):
            outputs.append(tuple(side.outputs(run, "localise", fp64=True).outputs))
    anchors = {}
    if case.converted is not None:
        loaded = Anchors.load(case.converted / "anchors.json")
        anchors = {each.hub: each for each in loaded.anchors}
    return Evidence(*traces, outputs[0], outputs[1], (), anchors, None)


def _traces(
    source: Side,
    target: Side,
    case: Case,
    *,
    own: bool = False,
    cotangents: tuple[Path | None, Path | None] = (None, None),
) -> tuple[Trace, Trace]:
    """The values inside both models, in float64 or in their `own` precisions."""
    requests = []
    for side, inputs, given in zip(
        (source, target), (case.inputs, case.target_inputs), cotangents, strict=True
    ):
        values = side.scratch / ("localise.own.safetensors" if own else "localise.values.safetensors")
        extra: dict[str, Any] = {} if given is None else {"cotangents": str(given)}
        if own:
            extra["own"] = True
        inside = side.submit("intermediates", inputs=str(inputs), values=str(values), **extra)
        requests.append((side, inputs, inside, values))
    traces = []
    for side, inputs, inside, values in requests:
        with _answering(side):
            records = side.result(inside)["records"]
        traces.append(Trace.read(records, values, read_tensors(str(inputs))))
    return traces[0], traces[1]


@contextmanager
def _answering(side: Side) -> Iterator[None]:
    """Raises _Unable where a worker cannot answer."""
    try:
        yield
    except TaskFailure as error:
        raise _Unable(f"the {side.label} cannot show the values inside its model: {error.text}") from error
    except InputError as error:
        raise _Unable(f"the {side.label} cannot show the values inside its model: {error.message}") from error


def _output_errors(evidence: Evidence, outputs: Sequence[PairedOutput]) -> list[float]:
    errors = []
    for each in outputs:
        found = evidence.target_outputs[each.target]
        if each.permutation is not None:
            found = found.transpose(each.permutation)
        errors.append(relative_error(evidence.outputs[each.source], found))
    return errors


def _permutations(anchors: Mapping[str, Anchor]) -> dict[str, tuple[int, ...]]:
    return {
        name: anchor.source_permutation
        for name, anchor in anchors.items()
        if anchor.source_permutation is not None
    }


def _pairings(evidence: Evidence, index: Index, tolerance: float) -> list[Pairing]:
    if any(value.source is not None for value in evidence.target.values):
        permutations = _permutations(evidence.anchors)
        return pair_by_anchor(evidence.source, evidence.target, permutations, index, tolerance)
    return pair_by_value(evidence.source, evidence.target, index, tolerance)


def _compare(evidence: Evidence, case: Case, errors: Sequence[float], tolerance: float) -> Evidence:
    index = Index([value.array for value in evidence.source.values])
    pairings = _pairings(evidence, index, tolerance)
    differing = [output for output, error in zip(case.outputs, errors, strict=True) if error > tolerance]
    wrong = _output_positions(evidence, differing, index)
    divergence = first_divergence(evidence.source, evidence.target, pairings, wrong)
    return replace(evidence, pairings=tuple(pairings), divergence=divergence)


def _output_positions(
    evidence: Evidence, outputs: Sequence[PairedOutput], index: Index
) -> list[tuple[int | None, int | None]]:
    """Which values of the source and of the target the outputs are; `index` holds the source's."""
    target_index = Index([value.array for value in evidence.target.values])
    return [
        (
            _last(index, evidence.outputs[output.source]),
            _given(evidence.target, target_index, evidence.target_outputs[output.target]),
        )
        for output in outputs
    ]


def _given(trace: Trace, index: Index, output: Array) -> int | None:
    last = _last(index, output)
    return _end(trace, output) if last is None else last


def _end(trace: Trace, output: Array) -> int | None:
    """The last value of an output's shape that nothing reads: a random model gives others at each run."""
    if not trace.has_edges():
        return None
    return max(
        (
            position
            for position, readers in enumerate(trace.read_by)
            if not readers and trace.values[position].array.shape == output.shape
        ),
        default=None,
    )


def _last(index: Index, output: Array) -> int | None:
    """The value that is an output: the last of those that equal it."""
    return max((position for position, _ in index.find_all(output, _SAME)), default=None)


def _conclude(
    evidence: Evidence, case: Case, errors: Sequence[float], tolerance: float
) -> Localisation | str:
    divergence = evidence.divergence
    if divergence is None:
        return _outputs_only(evidence, case, errors, tolerance)
    notes = []
    if divergence.scrambled:
        notes.append("it holds the elements of the source's value in another order")
    return _localisation(evidence, divergence, "anchors" if evidence.anchors else "values", tuple(notes))


def _localisation(
    evidence: Evidence, divergence: Divergence, how: How, notes: tuple[str, ...]
) -> Localisation:
    source, target = evidence.source.values, evidence.target.values
    pairing = evidence.pairings[divergence.target]
    return Localisation(
        source=None if divergence.source is None else _place(source[divergence.source]),
        target=_place(target[divergence.target]),
        error=pairing.error if pairing.status is Status.DIFFERENT else _block_error(evidence, divergence),
        how=how,
        source_block=tuple(_place(source[each]) for each in divergence.source_block),
        target_block=tuple(_place(target[each]) for each in divergence.target_block),
        last_equal=tuple(
            (source[first].name, target[second].name) for first, second in divergence.last_equal
        ),
        notes=notes,
    )


def _block_error(evidence: Evidence, divergence: Divergence) -> float | None:
    """The distance of the first wrong value from its counterpart in the order of axes that is nearest."""
    if divergence.source is None:
        return None
    ours = evidence.source.values[divergence.source].array
    found = nearest(ours, evidence.target.values[divergence.target].array)
    return None if found is None else found[1]


def _exchanged(
    evidence: Evidence, outputs: Sequence[PairedOutput], errors: Sequence[float], tolerance: float
) -> Localisation | None:
    """The wrong outputs, if they are the right ones in another order."""
    wrong = [position for position, error in enumerate(errors) if error > tolerance]
    gives: dict[int, int] = {}
    for position in wrong:
        found = evidence.target_outputs[outputs[position].target]
        for other in wrong:
            moved = nearest(evidence.outputs[outputs[other].source], found)
            if other != position and moved is not None and moved[1] <= tolerance:
                gives[position] = other
                break
    if sorted(gives.values()) != wrong or len(wrong) < 2:
        return None
    source = Index([value.array for value in evidence.source.values])
    places = [
        None if last is None else _place(evidence.source.values[last])
        for last in (_last(source, evidence.outputs[outputs[position].source]) for position in wrong)
    ]
    notes = tuple(
        f"the target gives as output {outputs[position].target} what the source gives as output "
        f"{outputs[other].source}"
        for position, other in gives.items()
    )
    blocks = tuple(Place(f"output {outputs[position].target}", OUTPUT) for position in wrong)
    return Localisation(
        source=places[0],
        target=blocks[0],
        error=errors[wrong[0]],
        how="anchors" if evidence.anchors else "values",
        source_block=tuple(each for each in places if each is not None),
        target_block=blocks,
        notes=notes,
    )


def _outputs_only(
    evidence: Evidence, case: Case, errors: Sequence[float], tolerance: float
) -> Localisation | str:
    """Every value inside is equal: the outputs are other values, or not those of the inspected model."""
    output, error = next(
        (output, error) for output, error in zip(case.outputs, errors, strict=True) if error > tolerance
    )
    source = _last(Index([value.array for value in evidence.source.values]), evidence.outputs[output.source])
    target = _last(
        Index([value.array for value in evidence.target.values]), evidence.target_outputs[output.target]
    )
    blamed: Blame | None = None
    if target is not None:
        given = _place(evidence.target.values[target])
        notes = (f"the target gives {given} as output {output.target}, which is another value of the source",)
    elif evidence.anchors:
        blamed = "artifact"
        notes = (
            "all values of model.py are equal to the source's, so the artifact beside it is another model",
        )
    else:
        return "all values that the target shows are equal to values of the source, but its outputs are not"
    return Localisation(
        source=None if source is None else _place(evidence.source.values[source]),
        target=Place(f"output {output.target}", OUTPUT),
        error=error,
        how="anchors" if evidence.anchors else "values",
        blame=blamed,
        notes=notes,
    )


def _blamed(
    found: Localisation, evidence: Evidence, case: Case, timeout: float | None
) -> tuple[Localisation, Evidence]:
    """Read the source of a conversion again, to tell which part is at fault."""
    divergence, request = evidence.divergence, case.request
    if not evidence.anchors or divergence is None or request is None:
        return found, evidence
    pairing = evidence.pairings[divergence.target]
    if pairing.partner is None:
        return found, evidence
    target = evidence.target.values[divergence.target]
    source = evidence.source.values[pairing.partner]
    permutation = _permutations(evidence.anchors).get(target.name)
    try:
        blamed = blame(request, case.inputs, target, source, permutation, timeout=timeout)
    except BridgeError as error:
        blamed = Blamed(
            None, f"the source could not be read again to find the part at fault: {error.message}"
        )
    notes = found.notes if blamed.note is None else (*found.notes, blamed.note)
    return (
        replace(found, blame=blamed.part, notes=notes),
        replace(evidence, node=blamed.node, fed=blamed.fed),
    )


def _place(value: Value) -> Place:
    return Place(value.name, value.operator, value.scope, value.location)
