"""From an nn.Module and example inputs to an ExportedProgram with a dynamic batch."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import traceback as fx_traceback

from bridge.errors import BridgeError, InputError
from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx.failures import call_failure, export_failure
from bridge_converters.torch_to_onnx.inputs import Examples
from bridge_converters.torch_to_onnx.quiet import quiet
from bridge_converters.torch_to_onnx.shapes import dynamic_batch, input_values, is_fixed, symbolic_axes


@dataclass(frozen=True)
class Capture:
    """An exported program, how long torch.export took, and what the user should know about it.

    `axis_names` are the names of dynamic axes by torch's symbol (`{"s40": "batch"}`).
    """

    program: ExportedProgram
    seconds: float
    notes: tuple[str, ...] = ()
    axis_names: Mapping[str, str] = field(default_factory=dict)


def capture(module: nn.Module, examples: Examples, *, static_batch: bool = False) -> Capture:
    """Export a module in evaluation mode, axis 0 of every input dynamic unless `static_batch`.

    Where the module works for one batch size only, the program is exported with the sizes of the
    examples and a note says so. The module's training flags are as before afterwards.

    Raises InputError if an axis that the user named cannot vary, and BridgeError with the user's source
    line and torch's reason if the module cannot be exported.
    """
    start = time.perf_counter()
    with evaluation_mode(module):
        if static_batch:
            program = _export_reporting(module, examples, {})
            notes: tuple[str, ...] = ()
        else:
            program, notes = _export_with_free_batch(module, examples)
    seconds = time.perf_counter() - start
    _check_named_axes(program, examples)
    return Capture(program, seconds, notes, symbolic_axes(program, examples.axes))


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Run with every submodule in evaluation mode; each one's own flag is restored."""
    flags = [(each, each.training) for each in module.modules()]
    for each, _ in flags:
        each.training = False
    try:
        yield
    finally:
        for each, training in flags:
            each.training = training


def _export_with_free_batch(module: nn.Module, examples: Examples) -> tuple[ExportedProgram, tuple[str, ...]]:
    batch = examples.with_batch()
    named = {position: set(axes) for position, axes in examples.axes.items()}
    free = {position: {0} for position, tensor in enumerate(batch.tensors()) if tensor.ndim}
    wanted = {position: axes | named.get(position, set()) for position, axes in free.items()}
    for axes in (wanted, free) if wanted != free else (free,):
        try:
            program = _export(module, batch, axes)
        except Exception:  # the module's code runs and may raise anything; the last attempt reports it
            continue
        if dynamic_batch(program):
            return program, ()
        # torch.export found that the batch is a constant of the program: use the user's own sizes.
        break
    program = _export_reporting(module, examples, {})
    return program, (_fixed_note(program),)


def _fixed_note(program: ExportedProgram) -> str:
    sizes = {
        f"{name}: {'x'.join(map(str, tensor.shape))}"
        for name, tensor in zip(names.input_names(program), input_values(program), strict=True)
    }
    return (
        "the batch size is fixed, because the model's code works for one size only "
        f"({', '.join(sorted(sizes))}); look for sizes written as numbers in view, reshape or expand"
    )


def _export_reporting(
    module: nn.Module, examples: Examples, axes: Mapping[int, Collection[int]]
) -> ExportedProgram:
    try:
        return _export(module, examples, axes)
    except Exception as error:  # the module's code runs and may raise anything
        raise _failure(module, examples, error) from error


def _export(module: nn.Module, examples: Examples, axes: Mapping[int, Collection[int]]) -> ExportedProgram:
    """Export by running the module, by analysing its bytecode where that fails; the first failure counts."""
    try:
        return _run_export(module, examples, axes, strict=False)
    except Exception:  # the module's code runs and may raise anything
        try:
            return _run_export(module, examples, axes, strict=True)
        except Exception:
            pass
        raise


def _run_export(
    module: nn.Module, examples: Examples, axes: Mapping[int, Collection[int]], *, strict: bool
) -> ExportedProgram:
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    for position, tensor in enumerate(examples.tensors()):
        if axes.get(position):
            shapes[tensor] = dict.fromkeys(sorted(axes[position]), Dim.AUTO)
    # Node annotations (TorchScript's source lines) survive only under preserve_node_meta. Gradients are on:
    # otherwise the program would not say which parts of the module switch them off.
    with torch.enable_grad(), fx_traceback.preserve_node_meta(), quiet():
        return torch.export.export(
            module, examples.args, dict(examples.kwargs), dynamic_shapes=shapes, strict=strict
        )


def _failure(module: nn.Module, examples: Examples, error: Exception) -> BridgeError:
    """Tell inputs that the module itself refuses from a module that cannot be exported."""
    try:
        with torch.no_grad(), quiet():
            module(*examples.args, **examples.kwargs)
    except Exception as refusal:  # the module's code runs and may raise anything
        return call_failure(refusal, type(module).__name__, examples.tensors())
    return export_failure(error, type(module).__name__)


def _check_named_axes(program: ExportedProgram, examples: Examples) -> None:
    order = _positions(program, examples)
    for position, axes in examples.axes.items():
        name, tensor = order[position]
        for axis, label in axes.items():
            size = tensor.shape[axis]
            if axis > 0 and is_fixed(size):
                raise InputError(
                    f"axis {axis} ({label!r}) of input {name!r} cannot be dynamic: "
                    f"the model fixes it to the example's size",
                    hint=f"give axis {axis} of {name!r} as the number that the model was made for",
                )


def _positions(program: ExportedProgram, examples: Examples) -> list[tuple[str, torch.Tensor]]:
    """The program's inputs (name and fake tensor) in the order of `examples.tensors()`."""
    return list(zip(names.input_names(program), input_values(program), strict=True))
