"""What else is asked of a converted case: saved, compiled, in another batch size.

A mode looks at cases that pass by themselves, and says of each whether its bar counts it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bridge.emit.imported import load_emitted
from bridge.emit.writer import Emitted
from bridge.errors import BridgeError
from scripts.onnx_suite import engines, exclusions
from scripts.onnx_suite.boundary import Value, taken
from scripts.onnx_suite.cases import SuiteCase
from scripts.onnx_suite.compare import difference
from scripts.onnx_suite.outcome import Outcome


@dataclass(frozen=True)
class Converted:
    """A case that passes, as it was converted: `run` is the emitted model."""

    case: SuiteCase
    directory: Path
    emitted: Emitted
    run: engines.Run


class Departure(Exception):
    """What is wrong with a case in a mode, where nothing raised."""


class Mode(Protocol):
    """What a mode asks."""

    def __call__(self, converted: Converted) -> str:
        """What to note about a case that passes.

        Raises Departure where it gives something else; may raise anything.
        """


def not_reached(outcome: Outcome) -> Outcome:
    """The outcome in a mode of a case that does not pass without one: not the mode's to count."""
    return replace(outcome, excluded=f"the case itself is {outcome.verdict}")


def judge(name: str, mode: Mode, converted: Converted, outcome: Outcome) -> Outcome:
    """The outcome in a mode of a case that passes without one."""
    outcome = replace(outcome, excluded=BARS[name].excluded(converted.case))
    try:
        return replace(outcome, reason=mode(converted))
    except Departure as error:
        return replace(outcome, verdict="wrong", reason=str(error))
    except BridgeError as error:
        return replace(outcome, verdict="refused", reason=error.message)
    except Exception as error:  # frameworks fail in many ways, and each is an outcome
        line = " ".join(str(error).split())[:300]
        return replace(outcome, verdict="failed", reason=f"{type(error).__name__}: {line}")


class SavedProgram:
    """`.pt2`: written by bridge's saver and loaded, it gives what the module gives, to the bit."""

    def __call__(self, converted: Converted) -> str:
        import torch
        from bridge_converters.onnx_to_torch import _saver

        emitted = converted.emitted
        _saver.save(converted.directory, emitted.inputs, emitted.outputs)
        program = torch.export.load(converted.directory / _saver.ARTIFACT).module()

        def run(values: list[Value]) -> list[Value]:
            with torch.no_grad():
                return taken(program(*engines.torch_arguments(values)), emitted.outputs, engines.torch_array)

        _compare(converted, run, exact=True)
        return ""


class Compiled:
    """`torch.compile(fullgraph=True)` gives what the case says."""

    def __init__(self, backend: str) -> None:
        self._backend = backend

    def __call__(self, converted: Converted) -> str:
        import torch

        torch._dynamo.reset()
        module: Any = torch.compile(load_emitted(converted.directory), fullgraph=True, backend=self._backend)

        def run(values: list[Value]) -> list[Value]:
            with torch.no_grad():
                return taken(
                    module(*engines.torch_arguments(values)),
                    converted.emitted.outputs,
                    engines.torch_array,
                )

        _compare(converted, run)
        return ""


class JitCompiled:
    """`tf.function(jit_compile=True)` gives what the case says."""

    def __call__(self, converted: Converted) -> str:
        import tensorflow as tf

        model = load_emitted(converted.directory)
        compiled = tf.function(model, jit_compile=True, autograph=False)

        def run(values: list[Value]) -> list[Value]:
            return taken(compiled(*engines.tf_arguments(values)), converted.emitted.outputs, engines.tf_array)

        _compare(converted, run)
        return ""


def _compare(converted: Converted, run: Callable[[list[Value]], list[Value]], *, exact: bool = False) -> None:
    """Raise Departure where another form of a model gives something else.

    It is held against the emitted model to the bit if `exact`, else against what the case says.
    """
    case = converted.case
    for inputs, expected in case.data_sets():
        right = [_copied(each) for each in converted.run(inputs)] if exact else expected
        rtol, atol = (0.0, 0.0) if exact else (case.rtol, case.atol)
        expect(run(inputs), right, rtol=rtol, atol=atol, values=not case.is_random)


def expect(outputs: list[Value], right: list[Value], *, label: str = "", **tolerances: Any) -> None:
    """Raise Departure where outputs are not what is right."""
    found = difference(outputs, right, **tolerances)
    if found is not None:
        raise Departure(f"{label}{found}")


def _copied(value: Value) -> Value:
    if isinstance(value, list | tuple):
        return [_copied(each) for each in value]
    return None if value is None else np.array(value)


def start(engine: str, mode: str) -> Mode | None:
    """A mode of an engine, ready to judge; None for `run`, which asks no more than the suite does."""
    match engine, mode:
        case _, "run":
            return None
        case "torch", "pt2":
            return SavedProgram()
        case "torch", ("inductor" | "aot_eager") as backend:
            return Compiled(backend)
        case "torch", "device":
            from scripts.onnx_suite.devices import OnAccelerator

            return OnAccelerator()
        case "tf", "xla":
            return JitCompiled()
        case "tf", "saved":
            from scripts.onnx_suite.saved import SavedModel

            return SavedModel()
    raise ValueError(f"{engine} has no mode {mode}")


@dataclass(frozen=True)
class Bar:
    """What share of which cases is to pass in a mode of an engine.

    `excluded` says why a case does not count; empty if it does.
    """

    engine: str
    share: float
    counted: str
    excluded: Callable[[SuiteCase], str]


_SINGLE = "deterministic single-node cases whose input shapes decide the output shapes"
BARS: Mapping[str, Bar] = {
    "pt2": Bar(
        "torch", 1.0, "cases on tensors whose input shapes decide the output shapes", exclusions.not_static
    ),
    "inductor": Bar("torch", 0.98, _SINGLE, exclusions.not_single_static),
    "aot_eager": Bar("torch", 0.98, _SINGLE, exclusions.not_single_static),
    "device": Bar("torch", 1.0, "cases on tensors", exclusions.not_deterministic_tensors),
    "xla": Bar("tf", 0.95, _SINGLE, exclusions.not_single_static),
    "saved": Bar("tf", 1.0, "cases on tensors", exclusions.not_deterministic_tensors),
}
