"""Run both versions of a model on sets of inputs, and again where rounding and a fault look alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np

from bridge.errors import BridgeError, ExitCode, InputError
from bridge.verification.compare import is_inexact
from bridge.verification.inputs import Draw
from bridge.verification.judging import Ran, no_reference
from bridge.verification.measure import Array, count_special_mismatches
from bridge.verification.pairing import Correspondence
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Run, Side
from bridge.worker.standalone import write_tensors

_NOISE_SEEDS = 3
_TIE_SEEDS = 8
_TIE_UNITS = 16
"""Noise to find the integers that rounding decides: more than any version's rounding, several times."""
_STEADY_EPSILONS = 64
EPSILONS_OF = {"tf32": 2.0**-10, "float16": 2.0**-10, "bfloat16": 2.0**-7}
"""The relative distance of neighbouring numbers of the types that products may be computed in."""
_FLOAT32_EPSILON = float(np.finfo(np.float32).eps)


class Runner:
    """Runs draws on both sides; requests are queued on both before any answer is waited for.

    `correspondence` says which inputs belong together, and once the outputs of a run are there, which of
    those. `precision` is as in Checks. `name` sets the files of one verification apart from those of another
    on the same workers. `notes` collects what the reader of the report should know.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        correspondence: Correspondence,
        name: str,
        precision: str | None = None,
    ) -> None:
        self._source = source
        self._target = target
        self.correspondence = correspondence
        self._name = name
        self._epsilon = None if precision is None else EPSILONS_OF[precision]
        self.notes: list[str] = []

    def source_file(self, draw: Draw) -> Path:
        """The draw's inputs under the source's names, written if they are not there yet."""
        return _written(self._source, f"{self._name}.{draw.name}", draw.arrays)

    def target_file(self, draw: Draw) -> Path:
        """The draw's inputs under the target's names and in its layout."""
        return _written(
            self._target, f"{self._name}.{draw.name}", lambda: self.correspondence.feeds(draw.arrays)
        )

    def run(self, draws: Sequence[Draw]) -> tuple[list[Ran], str]:
        """The outputs of both sides and of the source in float64; and what they are held against, in words.

        Inputs that the source itself refuses are left out, and noted. Raises InputError where it refuses
        the user's own, or all.
        """
        running = [self._source.submit_run(self.source_file(each), self._run_name(each)) for each in draws]
        target_running = [
            self._target.submit_run(self.target_file(each), self._run_name(each)) for each in draws
        ]
        wanted = [each.referenced and each.rule != "special" for each in draws]
        exact = [
            self._source.submit_run(self.source_file(each), self._run_name(each), fp64=True) if want else 0
            for each, want in zip(draws, wanted, strict=True)
        ]
        ran = []
        references: list[tuple[Ran, int]] = []
        refusal = None
        for draw, number, target_number, exact_number in zip(
            draws, running, target_running, exact, strict=True
        ):
            source = outcome(self._source, number, self._run_name(draw))
            if isinstance(source, Run):
                target = outcome(self._target, target_number, self._run_name(draw))
                found = Ran(draw, source, target, epsilon=self._epsilon)
                ran.append(found)
                if exact_number:
                    references.append((found, exact_number))
                continue
            refusal = refusal or source
            if draw.rule == "user":
                raise InputError(
                    f"the source cannot run the given inputs: {source}",
                    hint="check their shapes and types with bridge inspect",
                )
            self.notes.append(f"the source does not run the inputs {draw.name}: {source}")
        if not ran:
            raise InputError(
                f"the source runs none of the inputs that were drawn for it: {refusal}",
                hint="give its inputs: --input NAME=SHAPE:DTYPE, or arrays in an .npz file",
            )
        return ran, self._add_references(ran, references)

    def _add_references(self, ran: Sequence[Ran], numbers: Sequence[tuple[Ran, int]]) -> str:
        for each, number in numbers:
            run = outcome(self._source, number, self._run_name(each.draw), fp64=True)
            reason = run if isinstance(run, str) else no_reference(each.source.outputs, run.outputs)
            if isinstance(run, str) or reason is not None:
                for other in ran:
                    other.reference = None
                self.notes.append(
                    f"the source cannot be computed in float64 ({reason}); outputs are held against the "
                    "source itself with fixed tolerances by dtype"
                )
                return "the source's own outputs, with fixed tolerances by dtype"
            each.reference = run.outputs
        return "the source computed in float64 by its own framework"

    def look_closer(self, ran: Sequence[Ran], rules: Collection[str], *, ties: bool) -> None:
        """Add the target in float64, and the source in float64 with noise, to the runs of some rules.

        `ties`: integers differ, and the question is which of them rounding decides.
        """
        chosen = [
            each
            for each in ran
            if each.draw.rule in rules and each.reference is not None and isinstance(each.target, Run)
        ]
        noises = [(unit, seed) for unit, seeds in self._noises(ran, ties) for seed in range(seeds)]
        functions = [
            self._target.submit_run(self.target_file(each.draw), self._run_name(each.draw), fp64=True)
            for each in chosen
        ]
        noisy = [
            [
                self._source.submit_noisy(
                    self.source_file(each.draw), self._noise_name(each, index), unit=unit, seed=seed
                )
                for index, (unit, seed) in enumerate(noises)
            ]
            for each in chosen
        ]
        for each, number, numbers in zip(chosen, functions, noisy, strict=True):
            each.function = self._function(each, number)
            each.noisy = self._noisy(each, numbers)

    def same_specials(self, ran: Ran) -> bool | None:
        """Whether both versions, computed in float64, have NaN and infinities in the same places.

        None where one of them cannot be computed in float64.
        """
        name = self._run_name(ran.draw)
        numbers = (
            self._source.submit_run(self.source_file(ran.draw), name, fp64=True),
            self._target.submit_run(self.target_file(ran.draw), name, fp64=True),
        )
        ours = outcome(self._source, numbers[0], name, fp64=True)
        theirs = outcome(self._target, numbers[1], name, fp64=True)
        if isinstance(ours, str) or isinstance(theirs, str):
            return None
        pairs = zip(
            self.correspondence.source_outputs(ours.outputs),
            self.correspondence.arranged(theirs.outputs, ours.outputs),
            strict=True,
        )
        return all(
            one.shape == other.shape and not (is_inexact(one) and count_special_mismatches(one, other))
            for one, other in pairs
        )

    def _noises(self, ran: Sequence[Ran], ties: bool) -> list[tuple[float, int]]:
        unit = max(
            [float(ml_dtypes.finfo(each.dtype).eps) for each in ran[0].source.outputs if is_inexact(each)],
            default=_FLOAT32_EPSILON,
        )
        unit = max(unit, self._epsilon or 0.0)
        return [(unit, _NOISE_SEEDS), *([(_TIE_UNITS * unit, _TIE_SEEDS)] if ties else [])]

    def _function(self, ran: Ran, number: int) -> list[Array] | None:
        run = outcome(self._target, number, self._run_name(ran.draw), fp64=True)
        assert isinstance(ran.target, Run)
        reason = run if isinstance(run, str) else no_reference(ran.target.outputs, run.outputs)
        if isinstance(run, str) or reason is not None:
            self._note(f"the target cannot be computed in float64 ({reason})")
            return None
        return run.outputs

    def _noisy(self, ran: Ran, numbers: Sequence[int]) -> list[list[Array]]:
        results = []
        for index, number in enumerate(numbers):
            try:
                run = self._source.noisy(number, self._noise_name(ran, index))
            except TaskFailure as error:
                self._note(f"how far rounding carries the source cannot be measured ({error.text})")
                return []
            results.append(run.outputs)
        return results

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def unsteady(self, ran: Sequence[Ran]) -> tuple[str | None, str | None]:
        """In words, whether the source or the target gives other outputs for the same inputs again."""
        smallest = min(
            (each for each in ran if isinstance(each.target, Run)),
            key=lambda each: each.draw.size,
            default=None,
        )
        if smallest is None:
            return None, None
        name = f"{self._run_name(smallest.draw)}.again"
        numbers = (
            self._source.submit_run(self.source_file(smallest.draw), name),
            self._target.submit_run(self.target_file(smallest.draw), name),
        )
        firsts = (smallest.source, smallest.target)
        again = (outcome(self._source, numbers[0], name), outcome(self._target, numbers[1], name))
        sentences = []
        for side, first, second in zip(("source", "target"), firsts, again, strict=True):
            same = (
                isinstance(first, Run) and isinstance(second, Run) and _steady(first.outputs, second.outputs)
            )
            sentences.append(
                None
                if same
                else f"the {side} gives other outputs when it runs the same inputs again: it is random "
                "(a dropout that is active, random operators)"
            )
        return sentences[0], sentences[1]

    def _run_name(self, draw: Draw) -> str:
        return f"{self._name}.{draw.name}"

    def _noise_name(self, ran: Ran, index: int) -> str:
        return f"{self._run_name(ran.draw)}.{index}"


def outcome(side: Side, number: int, name: str, *, fp64: bool = False) -> Run | str:
    """The answer to a run, or in words why the model refused it.

    Raises WorkerFailure where the worker died or took too long.
    """
    try:
        return side.outputs(number, name, fp64=fp64)
    except TaskFailure as error:
        return error.text
    except BridgeError as error:
        if error.exit_code is ExitCode.ENVIRONMENT:
            raise
        return error.message


def _written(side: Side, name: str, arrays: Mapping[str, Array] | Callable[[], Mapping[str, Array]]) -> Path:
    file = side.scratch / f"{name}.in.safetensors"
    if not file.exists():
        write_tensors(str(file), arrays() if callable(arrays) else arrays)
    return file


def _steady(first: Sequence[Array], second: Sequence[Array]) -> bool:
    """Whether two runs agree, up to sums that threads add in another order."""
    if len(first) != len(second):
        return False
    floats = [pair for pair in zip(first, second, strict=True) if is_inexact(pair[0])]
    for one, other in floats or zip(first, second, strict=True):
        if one.shape != other.shape:
            return False
        if not is_inexact(one):
            if not np.array_equal(one, other):
                return False
            continue
        tolerance = _STEADY_EPSILONS * float(ml_dtypes.finfo(one.dtype).eps)
        wide, again = one.astype(np.float64), other.astype(np.float64)
        finite = np.isfinite(wide) & np.isfinite(again)
        scale = float(np.max(np.abs(wide[finite]), initial=0.0))
        apart = float(np.max(np.abs(wide[finite] - again[finite]), initial=0.0))
        if apart > tolerance * scale or not np.array_equal(np.isfinite(wide), np.isfinite(again)):
            return False
    return True
