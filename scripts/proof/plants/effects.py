"""What a plant changes, measured between the honest and the planted target in float64.

    python -m scripts.proof.plants.effects DIRECTORY [--models NAME ...]

A plant counts where it changes a weight's bits, the function, the gradients or the training; these are the
figures by which to tell. They are measured in one framework, without the verdict and its inputs.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge.verification.parties import resolve
from scripts.proof.plants.architectures import Input
from scripts.proof.plants.catalog import HONEST, MODELS, Model, Plant, plants

Array = np.ndarray[Any, np.dtype[Any]]

_BATCH = 6
_DOUBLE = 1e-12
"""Changes of gradients and states below this are rounding in float64."""

_ROUNDINGS = ("activation_half",)
"""Kinds that a float64 form of the model undoes: their effect is measured in float32."""

_RANDOM = ("dropout_active",)
"""Kinds that change the outputs by definition, and at random."""


@dataclass
class Effect:
    """The changes of one plant; distances are relative, `inf` for other shapes, integers or special values.

    `function` is the largest over all inputs for each output. `notes` say what could not be measured.
    """

    weights: bool = False
    function: list[float] = field(default_factory=list)
    gradients: float = 0.0
    training: float = 0.0
    notes: list[str] = field(default_factory=list)


def draws(inputs: Sequence[Input]) -> list[dict[str, Array]]:
    """Inputs at several scales, on halves, with special values; integers of both signs."""
    made = []
    for index, scale in enumerate((1.0, 0.01, 0.1, 10.0, 100.0, 1000.0)):
        generator = np.random.default_rng(index)
        made.append({each.name: _drawn(each, scale, generator) for each in inputs})
    for index, fill in enumerate((_halves, _special)):
        generator = np.random.default_rng(100 + index)
        made.append({each.name: fill(each, generator) for each in inputs})
    return made


def _drawn(each: Input, scale: float, generator: np.random.Generator) -> Array:
    shape = (_BATCH, *each.shape)
    if each.dtype == "int64":
        low, high = (0, each.limit) if each.limit else (-20, 21)
        return generator.integers(low, high, shape)
    return np.asarray(scale * generator.standard_normal(shape), np.float32)


def _halves(each: Input, generator: np.random.Generator) -> Array:
    if each.dtype == "int64":
        return _drawn(each, 1.0, generator)
    return (generator.integers(-7, 8, (_BATCH, *each.shape)) / 2).astype(np.float32)


def _special(each: Input, generator: np.random.Generator) -> Array:
    values = _drawn(each, 1.0, generator)
    if each.dtype == "float32":
        rows = values.reshape(_BATCH, -1)
        rows[0, 0], rows[1, 0], rows[2, 0] = np.nan, np.inf, -np.inf
    return values


def distance(honest: Array, planted: Array) -> float:
    """The relative distance of two arrays: Euclidean or of the largest elements, whichever is larger."""
    if honest.shape != planted.shape or honest.dtype != planted.dtype:
        return float("inf")
    if honest.dtype.kind != "f":
        return 0.0 if np.array_equal(honest, planted) else float("inf")
    finite = np.isfinite(honest)
    if not np.array_equal(finite, np.isfinite(planted)) or not np.array_equal(
        honest[~finite], planted[~finite], equal_nan=True
    ):
        return float("inf")
    before, after = honest[finite], planted[finite]
    change = np.abs(after - before)
    if not change.any():
        return 0.0
    size = np.linalg.norm(before)
    if size == 0:
        return float("inf")
    return float(max(np.linalg.norm(change) / size, change.max() / np.abs(before).max()))


class _Measured:
    """One target, loaded, with the answers that effects are told by."""

    def __init__(self, model: Model, path: Path) -> None:
        party = resolve(path, as_target=True)
        module, _, function = party.loader.partition(":")
        self._side = getattr(importlib.import_module(module), function)(dict(party.request))
        self._model = model
        self._feeds = draws(model.inputs)
        self._stored = path / "model.safetensors"

    def weights(self) -> list[str]:
        """Digests of all tensors, those of one model in one order."""
        if self._stored.is_file():
            return [hashlib.sha256(self._stored.read_bytes()).hexdigest()]
        tensors = self._side.weights() or {}
        arrays = [np.ascontiguousarray(each) for each in tensors.values() if np.size(each) > 1]
        return sorted(hashlib.sha256(each.tobytes()).hexdigest() for each in arrays)

    def _named(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The feeds by the side's own names of the inputs, which bridge keeps but for characters."""
        names = [each["name"] for each in self._side.inputs]
        return {name: feeds.get(name, next(iter(feeds.values()))) for name in names}

    def outputs(self, *, single: bool = False) -> list[list[Array]]:
        """The outputs for all inputs in float64, or in float32."""
        run = self._side.run if single else self._side.run_fp64
        return [[np.asarray(each) for each in run(self._named(feeds))] for feeds in self._feeds]

    def gradients(self, *, training: bool) -> dict[str, Array]:
        outputs, inputs, weights = self._side.vjp(self._named(self._feeds[0]), _cotangents, training)
        return {
            **{f"output {position}": each for position, each in enumerate(outputs)},
            **{f"input {name}": each for name, each in inputs.items()},
            **{f"weight {name}": each for name, each in weights.items()},
        }

    def state(self) -> dict[str, Array]:
        state: dict[str, Array] = self._side.state()
        return state


def _cotangents(outputs: Sequence[Array]) -> list[Array | None]:
    generator = np.random.default_rng(0)
    return [
        np.asarray(generator.standard_normal(each.shape)) if each.dtype.kind == "f" else None
        for each in outputs
    ]


def _largest(honest: Mapping[str, Array], planted: Mapping[str, Array]) -> float:
    """The largest relative change; a tensor near zero is held against a millionth of the largest."""
    if honest.keys() != planted.keys():
        return float("inf")
    sizes = {name: float(np.linalg.norm(each)) for name, each in honest.items() if each.dtype.kind == "f"}
    floor = 1e-6 * max((size for size in sizes.values() if np.isfinite(size)), default=0.0)
    largest = 0.0
    for name, each in honest.items():
        if 0 <= sizes.get(name, -1.0) < floor and each.shape == planted[name].shape:
            change = float(np.linalg.norm(planted[name] - each)) / floor
        else:
            change = distance(each, planted[name])
        largest = max(largest, change)
    return 0.0 if largest < _DOUBLE else largest


class _Comparison:
    """The honest target's answers, each taken once."""

    def __init__(self, model: Model, directory: Path) -> None:
        self._model = model
        self._directory = directory
        self._honest = _Measured(model, model.target_path(directory, HONEST))
        self._outputs = self._honest.outputs()
        self._weights = self._honest.weights()
        self._taken: dict[str, dict[str, Array] | str] = {}

    def effect(self, plant: Plant) -> Effect:
        effect = Effect()
        if plant.fault.kind in _RANDOM:
            return Effect(function=[float("inf")], notes=["the outputs are random"])
        single = plant.fault.kind in _ROUNDINGS
        try:
            planted = _Measured(self._model, self._model.target_path(self._directory, plant.fault.label))
            effect.weights = planted.weights() != self._weights
            outputs = planted.outputs(single=single)
        except Exception as error:  # a planted model may fail in any way, and then it differs
            effect.function = [float("inf")]
            effect.notes.append(f"the planted target fails: {_line(error)}")
            return effect
        honest = self._honest.outputs(single=True) if single else self._outputs
        effect.function = [
            max(
                distance(ours[position], theirs[position])
                for ours, theirs in zip(honest, outputs, strict=True)
            )
            for position in range(len(outputs[0]))
        ]
        effect.gradients = self._change(
            "gradients", lambda side: side.gradients(training=False), planted, effect
        )
        effect.training = max(
            self._change("training", lambda side: side.gradients(training=True), planted, effect),
            self._change("state", lambda side: side.state(), planted, effect),
        )
        return effect

    def _change(
        self, name: str, take: Callable[[_Measured], dict[str, Array]], planted: _Measured, effect: Effect
    ) -> float:
        if name not in self._taken:
            self._taken[name] = _answer(take, self._honest)
        honest, other = self._taken[name], _answer(take, planted)
        if isinstance(honest, str):
            effect.notes.append(f"no {name} of the honest target: {honest}")
            return 0.0
        if isinstance(other, str):
            effect.notes.append(f"no {name} of the planted target: {other}")
            return float("inf")
        return _largest(honest, other)


def _answer(take: Callable[[_Measured], dict[str, Array]], side: _Measured) -> dict[str, Array] | str:
    try:
        return take(side)
    except Exception as error:  # whatever a framework cannot differentiate is noted
        return _line(error)


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else ''}"


def measure(directory: Path, model: Model) -> dict[str, Effect]:
    """The effects of all plants of a model, by label. Imports the target's framework."""
    comparison = _Comparison(model, directory)
    return {each.fault.label: comparison.effect(each) for each in plants(directory, model.name)}


def load(directory: Path, model: str) -> dict[str, Effect]:
    """What `measure` found."""
    records = json.loads((directory / model / "effects.json").read_text())
    return {label: Effect(**record) for label, record in records.items()}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--models", nargs="*", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--framework", choices=("torch", "tf"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.framework is None:
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore::UserWarning"}
        for framework in ("torch", "tf"):
            command = [sys.executable, "-m", __spec__.name, str(arguments.directory)]
            command += ["--framework", framework, "--models", *arguments.models]
            subprocess.run(command, check=True, env={**os.environ, **quiet})
        return 0
    for model in map(MODELS.__getitem__, arguments.models):
        path = arguments.directory / model.name / "effects.json"
        if model.target == arguments.framework and not path.is_file():
            effects = measure(arguments.directory, model)
            records = {label: asdict(each) for label, each in effects.items()}
            path.write_text(json.dumps(records, indent=1) + "\n")
            print(f"{model.name}: {len(effects)} effects", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
