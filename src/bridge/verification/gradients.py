"""Whether both versions have the same gradients, in float64, as docs/verdict.md defines it.

The gradients of weights are held against each other on the source's tensors: those of the target are
pulled back through the recipes of the weight map. That is exact whether a recipe moves elements or
computes, and where several tensors of the target come from one of the source.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from bridge.hub import recipe as recipes
from bridge.hub.adjoint import pull_back
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.answers import Refusal, answer
from bridge.verification.compare import Verdict
from bridge.verification.derivatives import Slope, gradients_at, moved, slope, stops_gradients
from bridge.verification.distances import function_error, is_floating, largest_rms, relative_error
from bridge.verification.pairing import Correspondence
from bridge.worker.side import Gradients, Side
from bridge.worker.standalone import write_tensors

Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["input", "weight"]
Finding = Literal["equal", "different", "not comparable"]

TOLERANCE = 1e-6
"""The relative Euclidean distance that two gradients of one tensor may have."""
ROUNDED_CONSTANTS = 64 * 2.0**-23
"""How far the functions may be apart in float64 because one side keeps its constants in float32."""
AMPLIFICATION = 16.0
"""How many times farther the gradients may be apart for that reason than the functions."""
_NUDGE = 1e-3
_INPUTS_EXPLAINED = 2


@dataclass(frozen=True)
class TensorGradient:
    """One tensor of the source; `targets` are the tensors of the target that it goes into."""

    name: str
    kind: Kind
    targets: tuple[str, ...]
    verdict: Finding
    error: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class GradientsResult:
    """What was found: every tensor that has a gradient on either side is in `tensors`.

    `function_error` is how far the outputs of both sides are apart in float64.
    """

    verdict: Verdict
    tensors: tuple[TensorGradient, ...] = ()
    tolerance: float = TOLERANCE
    function_error: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict == "equivalent"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it is not equivalent, a sentence for each tensor that differs."""
        if self.verdict == "could not be checked":
            return self.notes
        return tuple(
            f"the gradient of the {each.kind} {each.name}: {each.reason}"
            for each in self.tensors
            if each.verdict == "different"
        )

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "passed": self.passed}


def check_gradients(
    source: Side,
    target: Side,
    *,
    feeds: Mapping[str, Array],
    correspondence: Correspondence,
    outputs: Sequence[Array],
    weights: WeightMap | None,
    source_weights: Mapping[str, Array],
    complete: bool = True,
    seed: int = 0,
    name: str = "gradients",
) -> GradientsResult:
    """Compare the gradients of all floating inputs and trainable weights, in inference mode.

    `feeds` are inputs by the source's names, `outputs` the source's outputs for them, of which only the
    shapes and kinds are used. What is differentiated is the sum of the
    outputs weighted with numbers drawn from the `seed`. Without `weights` only those of inputs are compared.
    `source_weights` are the source's tensors, which recipes that compute are differentiated at. A map that is
    not `complete` may leave tensors out, which are then not comparable. `name` sets the files of one call
    apart from those of another on the same workers.

    A difference counts only if it is there again at inputs nearby and with other cotangents: where a
    function has a kink, its gradient is a matter of convention. Where the source's gradients are not the
    derivatives of its own outputs, the target's are, and the source stops none on purpose, nothing can be
    said against the target.
    """
    check = _Check(source, target, correspondence, outputs, weights, source_weights, complete)
    first = check.at(feeds, seed, name)
    if first.verdict != "different":
        return first
    second = check.at(_nudged(feeds, seed), seed + 1, f"{name}.nearby")
    if second.verdict == "could not be checked":
        return first
    lasting = {each.name for each in second.tensors if each.verdict == "different"}
    passing = [each for each in first.tensors if each.verdict == "different" and each.name not in lasting]
    if not passing:
        return check.explained(first, feeds, seed, name)
    note = (
        f"{len(passing)} gradients differ at the given inputs and not nearby ({passing[0].name}, …): the "
        "function has a kink there, where its gradient is a matter of convention"
    )
    return replace(second, notes=(*second.notes, note))


def _only_source_is_wrong(source: Sequence[Slope], target: Sequence[Slope]) -> bool:
    """Whether the source's gradient is refuted along a direction, and the target's is right along all."""
    return any(each.finding == "wrong" for each in source) and all(each.finding == "right" for each in target)


def _about_slopes(name: str, source: Sequence[Slope], target: Sequence[Slope]) -> str:
    """A sentence on gradients that are not the derivative of a side's own outputs; "" where both are."""
    wrong = {
        side: next((each for each in slopes if each.finding == "wrong"), None)
        for side, slopes in (("source", source), ("target", target))
    }
    told = [
        f"the {side}'s own gradient of {name} is not the derivative of its outputs (along a random direction "
        f"the central difference is {each.difference:.3g}, the gradient's {each.gradient:.3g})"
        for side, each in wrong.items()
        if each is not None
    ]
    if len(told) == 1:
        other, slopes = ("target", target) if wrong["target"] is None else ("source", source)
        if all(each.finding == "right" for each in slopes):
            told.append(f"the {other}'s is")
    return "; ".join(told)


def _nudged(feeds: Mapping[str, Array], seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        name: (array * (1 + _NUDGE * rng.uniform(-1, 1, array.shape))).astype(array.dtype)
        if array.dtype.kind == "f"
        else array
        for name, array in feeds.items()
    }


@dataclass(frozen=True)
class _Check:
    source: Side
    target: Side
    correspondence: Correspondence
    outputs: Sequence[Array]
    weights: WeightMap | None
    source_weights: Mapping[str, Array]
    complete: bool

    def explained(
        self, found: GradientsResult, feeds: Mapping[str, Array], seed: int, name: str
    ) -> GradientsResult:
        """The result with a note on every input's gradient that is not the derivative of a side's outputs."""
        differing = [each.name for each in found.tensors if each.verdict == "different"]
        inputs = [each for each in differing if each in self.correspondence.inputs][:_INPUTS_EXPLAINED]
        drawn = draw_cotangents(self.correspondence, self.outputs, seed)
        slopes = [self._slopes(each, feeds, drawn, seed, name) for each in inputs]
        notes = [
            note
            for each, pair in zip(inputs, slopes, strict=True)
            if pair is not None and (note := _about_slopes(each, *pair))
        ]
        found = replace(found, notes=(*found.notes, *notes))
        if not slopes or not all(pair is not None and _only_source_is_wrong(*pair) for pair in slopes):
            return found
        if stops_gradients(self.source, feeds, f"{name}.stops"):
            return found
        reason = "the source's own gradients are not the derivatives of its outputs"
        tensors = tuple(
            replace(each, verdict="not comparable", reason=reason) if each.verdict == "different" else each
            for each in found.tensors
        )
        return replace(found, verdict="could not be checked", tensors=tensors)

    def _slopes(
        self, name: str, feeds: Mapping[str, Array], drawn: Sequence[Array | None], seed: int, run: str
    ) -> tuple[list[Slope], list[Slope]] | None:
        """Those of both sides along random directions of an input; None where a side gives none.

        Each point's answer is mapped from a file of its own.
        """
        ours = source_cotangents(self.correspondence, drawn)
        theirs = target_cotangents(self.correspondence, drawn)
        found: tuple[list[Slope], list[Slope]] = ([], [])
        at: tuple[Gradients | None, Gradients | None] = (
            gradients_at(self.source, feeds, ours, f"{run}.slope"),
            gradients_at(self.target, self.correspondence.feeds(feeds), theirs, f"{run}.slope"),
        )
        for pair in moved(feeds[name], seed):
            points = [{**feeds, name: each} for each in pair]
            for side, cotangents, here, slopes in zip(
                (self.source, self.target), (ours, theirs), at, found, strict=True
            ):
                fed = points if side is self.source else [self.correspondence.feeds(each) for each in points]
                around = [
                    gradients_at(side, each, cotangents, f"{run}.{place}")
                    for each, place in zip(fed, ("after", "before"), strict=True)
                ]
                if here is None or around[0] is None or around[1] is None:
                    return None
                held = self.correspondence.source_gradients(here.inputs)
                gradients = here.inputs if side is self.source else held
                given = gradients.get(name)
                gradient = np.zeros(feeds[name].shape) if given is None else given
                slopes.append(slope((around[0].outputs, around[1].outputs), pair, gradient, cotangents))
        return found

    def at(self, feeds: Mapping[str, Array], seed: int, name: str) -> GradientsResult:
        drawn = draw_cotangents(self.correspondence, self.outputs, seed)
        if all(each is None for each in drawn):
            return GradientsResult("could not be checked", notes=("no output is of floating-point numbers",))
        ours = self._submit(self.source, name, feeds, source_cotangents(self.correspondence, drawn))
        theirs = self._submit(
            self.target,
            name,
            self.correspondence.feeds(feeds),
            target_cotangents(self.correspondence, drawn),
        )
        source = answer(self.source.gradients, ours, name)
        target = answer(self.target.gradients, theirs, name)
        for side, found in (("source", source), ("target", target)):
            if isinstance(found, Refusal):
                note = f"the {side} gives no gradients: {found.reason}"
                return GradientsResult("could not be checked", notes=(note,))
        assert isinstance(source, Gradients)
        assert isinstance(target, Gradients)
        return self._compare(source, target)

    def _submit(
        self, side: Side, name: str, feeds: Mapping[str, Array], cotangents: Mapping[int, Array]
    ) -> int:
        inputs, drawn = (side.scratch / f"{name}.{each}.safetensors" for each in ("in", "cotangents"))
        write_tensors(str(inputs), feeds)
        write_tensors(str(drawn), {str(position): array for position, array in cotangents.items()})
        return side.submit_gradients(inputs, drawn, name)

    def _compare(self, source: Gradients, target: Gradients) -> GradientsResult:
        apart = function_error(
            self.correspondence.source_outputs(source.outputs),
            self.correspondence.arranged(target.outputs, source.outputs),
        )
        tolerance = TOLERANCE + AMPLIFICATION * min(apart, ROUNDED_CONSTANTS)
        scale = largest_rms([*source.inputs.values(), *source.weights.values()])
        found = self.correspondence.source_gradients(target.inputs)
        tensors = [
            _compared(
                name,
                "input",
                (paired.target,),
                source.inputs.get(name),
                found.get(name),
                scale,
                tolerance,
            )
            for name, paired in self.correspondence.inputs.items()
            if name in source.inputs or name in found
        ]
        notes = []
        if self.weights is None:
            notes.append("gradients of weights are not compared: it is not known which weight is which")
        else:
            tensors += compare_weight_gradients(
                self.weights,
                source.weights,
                target.weights,
                self.source_weights,
                complete=self.complete,
                buffers=(source.buffers, target.buffers),
                scale=scale,
                tolerance=tolerance,
            )
        verdict: Verdict = "equivalent"
        if any(each.verdict == "different" for each in tensors):
            verdict = "different"
        elif not any(each.verdict == "equal" for each in tensors):
            verdict = "could not be checked"
            notes.append("neither side has a gradient that could be compared")
        return GradientsResult(verdict, tuple(tensors), tolerance, apart, tuple(notes))


def compare_weight_gradients(
    weight_map: WeightMap,
    source: Mapping[str, Array],
    target: Mapping[str, Array],
    source_weights: Mapping[str, Array],
    *,
    complete: bool,
    buffers: tuple[Collection[str], Collection[str]] = ((), ()),
    scale: float,
    tolerance: float,
) -> list[TensorGradient]:
    """Hold the source's gradients against the target's, pulled back to the source's tensors.

    `source_weights` are the source's tensors, which recipes that compute are differentiated at. `buffers`
    are the tensors of each side that are known to be no parameters: one that the other side trains is no
    difference where the map is not `complete`, that is, where the target was not made from the source.
    """
    ours = _by_first_name(source, weight_map)
    known = _by_first_name(source_weights, weight_map)
    pulled: dict[str, Array] = {}
    readers: dict[str, list[TensorMap]] = {}
    results: list[TensorGradient] = []
    seen: list[tuple[TensorMap, Array]] = []
    for each in weight_map.tensors:
        gradient = target.get(each.target)
        if each.recipe is None:
            if gradient is not None and np.any(gradient):
                reason = "the target trains it, the source holds it as a constant"
                results.append(
                    TensorGradient(each.target, "weight", (each.target,), "different", None, reason)
                )
            continue
        for name in dict.fromkeys(recipes.sources(each.recipe)):
            readers.setdefault(name, []).append(each)
        if gradient is None or _is_tied(each, gradient, seen):
            continue
        seen.append((each, gradient))
        try:
            parts = pull_back(each.recipe, known, gradient)
        except KeyError as error:
            reason = f"the source does not tell its tensor {error.args[0]!r}"
            results.append(
                TensorGradient(each.target, "weight", (each.target,), "not comparable", None, reason)
            )
            continue
        for name, part in parts.items():
            pulled[name] = pulled[name] + part if name in pulled else part
    broken = {each.name for each in results}
    for name in dict.fromkeys((*ours, *pulled)):
        reading = readers.get(name, [])
        targets = tuple(each.target for each in reading)
        if not broken.isdisjoint(targets):
            continue
        why_not = _not_comparable(name, reading, ours.get(name), pulled.get(name), complete)
        held = name in buffers[0], not set(targets).isdisjoint(buffers[1])
        if why_not is None and not complete and held[0] != held[1]:
            why_not = "one side holds it as a buffer, which is not trained, the other as a parameter"
        if why_not is None:
            results.append(
                _compared(name, "weight", targets, ours.get(name), pulled.get(name), scale, tolerance)
            )
        elif why_not:
            results.append(TensorGradient(name, "weight", targets, "not comparable", None, why_not))
    mapped = {each.target for each in weight_map.tensors}
    for name in sorted(set(target) - mapped):
        if np.any(target[name]):
            reason = "no tensor of the source is known to go into it"
            finding: Finding = "different" if complete else "not comparable"
            results.append(TensorGradient(name, "weight", (name,), finding, None, reason))
    return results


def _by_first_name(tensors: Mapping[str, Array], weight_map: WeightMap) -> dict[str, Array]:
    """Tensors by the names that recipes use, where a tied tensor is there under any of its names.

    The gradient of a tied tensor is given in whole under one or all of its names, or in parts.
    """
    found = dict(tensors)
    for name, aliases in weight_map.aliases.items():
        held = [found.pop(each) for each in (name, *aliases) if each in found]
        if held:
            alike = all(np.array_equal(each, held[0], equal_nan=True) for each in held)
            found[name] = held[0] if alike else np.sum(held, axis=0)
    return found


def _is_tied(tensor: TensorMap, gradient: Array, seen: Sequence[tuple[TensorMap, Array]]) -> bool:
    """Whether this is another name of a tensor that has been counted: the same recipe and gradient."""
    return any(
        each.recipe == tensor.recipe and each.target != tensor.target and np.array_equal(other, gradient)
        for each, other in seen
    )


def _not_comparable(
    name: str, reading: Sequence[TensorMap], ours: Array | None, theirs: Array | None, complete: bool
) -> str | None:
    """Why the gradients of a source tensor say nothing, "" where neither side has any; None where they do."""
    if not reading:
        if ours is None or not np.any(ours):
            return ""
        return None if complete else "no tensor of the target is known to come from it"
    computed = all(each.recipe is not None and not recipes.only_moves(each.recipe) for each in reading)
    if theirs is None and computed and not any(each.trainable for each in reading):
        return "the target holds constants computed from it, which it does not train"
    if ours is None and computed:
        return ""
    return None


def _compared(
    name: str,
    kind: Kind,
    targets: tuple[str, ...],
    source: Array | None,
    target: Array | None,
    scale: float,
    tolerance: float,
) -> TensorGradient:
    def found(verdict: Finding, error: float | None, reason: str = "") -> TensorGradient:
        return TensorGradient(name, kind, targets, verdict, error, reason)

    if source is not None and target is not None and source.shape != target.shape:
        return found("different", None, f"its shape is {target.shape}, not {source.shape}")
    given = source if source is not None else target
    assert given is not None
    ours, theirs = (np.zeros(given.shape) if each is None else each for each in (source, target))
    error = relative_error(ours, theirs, scale)
    if error <= tolerance:
        return found("equal", error)
    if not np.any(theirs):
        return found("different", error, "the target has none: it is frozen or detached there")
    if not np.any(ours):
        return found(
            "different", error, "the source has none, the target has: it is frozen or detached there"
        )
    if math.isinf(error):
        return found("different", error, "it is NaN or infinite in other places")
    return found("different", error, f"it is off by {error:.2g}, the tolerance is {tolerance:.2g}")


def draw_cotangents(
    correspondence: Correspondence, outputs: Sequence[Array], seed: int
) -> list[Array | None]:
    """Standard normal numbers for every paired floating-point output of the source, None for the others."""
    rng = np.random.default_rng(seed)
    return [
        np.asarray(rng.standard_normal(output.shape)) if is_floating(output) else None
        for output in correspondence.source_outputs(outputs)
    ]


def source_cotangents(correspondence: Correspondence, drawn: Sequence[Array | None]) -> dict[int, Array]:
    """Arrays in the order of the paired outputs, by the position of the source's."""
    assert correspondence.outputs is not None
    pairs = zip(correspondence.outputs, drawn, strict=True)
    return {paired.source: each for paired, each in pairs if each is not None}


def target_cotangents(correspondence: Correspondence, drawn: Sequence[Array | None]) -> dict[int, Array]:
    """The same by the position of the target's outputs, in its layout."""
    assert correspondence.outputs is not None
    count = 1 + max(paired.target for paired in correspondence.outputs)
    moved = correspondence.target_cotangents(drawn, count)
    return {position: each for position, each in enumerate(moved) if each is not None}
