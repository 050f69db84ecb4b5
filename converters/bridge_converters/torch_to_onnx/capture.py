"""From an nn.Module and example inputs to an ExportedProgram with dynamic batch and lengths."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.fx import traceback as fx_traceback
from torch.utils import _pytree as pytree

from bridge.errors import BridgeError, InputError
from bridge_converters._whole_recurrences import whole_recurrences
from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx.attention_dropout import attention_ratios
from bridge_converters.torch_to_onnx.axes import Axes, Free, attempts, settle
from bridge_converters.torch_to_onnx.caches import leave_out_cache
from bridge_converters.torch_to_onnx.dynamic_rope import traced_frequencies
from bridge_converters.torch_to_onnx.eager_attention import eager_attention, other_attention
from bridge_converters.torch_to_onnx.failures import call_failure, export_failure
from bridge_converters.torch_to_onnx.inputs import Examples
from bridge_converters.torch_to_onnx.packed import padded_sequences
from bridge_converters.torch_to_onnx.quiet import quiet
from bridge_converters.torch_to_onnx.shapes import dynamic_batch, input_values, is_fixed
from bridge_converters.torch_to_onnx.structures import is_plain, plain, rebuilding, use_plain_structures
from bridge_converters.torch_to_onnx.switches import einsum_paths_of_examples, masks_taken_as_given


@dataclass(frozen=True)
class Capture:
    """An exported program, how long torch.export took, and what the user should know about it.

    `attention_dropouts` are the ratios of dropout of its attention nodes in training, where known.
    """

    program: ExportedProgram
    seconds: float
    notes: tuple[str, ...] = ()
    axes: Axes = field(default_factory=Axes)
    attention_dropouts: tuple[float, ...] = ()


def capture(module: nn.Module, examples: Examples, *, static_batch: bool = False) -> Capture:
    """Export a module in evaluation mode, axis 0 of every input dynamic unless `static_batch`.

    Lengths of sequences are dynamic where the module allows it, unless `static_batch` or the user stated
    the axes (see `axes.attempts`). Where the module works for one batch size only, the program is exported
    with the sizes of the examples and a note says so. Containers other than lists, tuples and dicts are
    replaced by such (see `structures`): the module then takes and returns those. Its training flags and
    buffers are as before afterwards.

    Raises InputError if the module refuses the examples or an axis that the user named cannot vary, and
    BridgeError with the user's source line and torch's reason if the module cannot be exported.
    """
    start = time.perf_counter()
    with (
        evaluation_mode(module),
        preserved_buffers(module),
        masks_taken_as_given(),
        traced_frequencies(module) as frequencies,
    ):
        examples, remarks = _with_plain_structures(module, examples)
        program, examples, notes = _export_with_some_attention(module, examples, static_batch=static_batch)
        seconds = time.perf_counter() - start
        _check_named_axes(program, examples)
        shown = _with_open_masks(module, examples)
        axes = settle(program, shown, lambda tensors: call(module, examples, tensors))
        ratios = attention_ratios(module, program, lambda: call(module, examples, examples.tensors()))
    return Capture(program, seconds, (*remarks, *notes, *frequencies, *axes.notes), axes, ratios)


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


@contextmanager
def preserved_buffers(module: nn.Module) -> Iterator[None]:
    """Run code that may change or replace buffers; they are as before afterwards."""
    before = [(each, dict(each._buffers)) for each in module.modules()]
    copies = [
        (buffer, buffer.clone()) for _, buffers in before for buffer in buffers.values() if buffer is not None
    ]
    try:
        yield
    finally:
        for each, buffers in before:
            each._buffers.clear()
            each._buffers.update(buffers)
        with torch.no_grad():
            for buffer, copy in copies:
                if not torch.equal(buffer, copy):
                    buffer.copy_(copy)


def _with_plain_structures(module: nn.Module, examples: Examples) -> tuple[Examples, tuple[str, ...]]:
    """Call the module once; where its arguments or results are no plain structures, make them so."""
    if examples.invented and not _runs(module, examples) and _runs(module, examples.with_ones()):
        examples = examples.with_ones()
    try:
        results = call(module, examples, examples.tensors())
        varied = _with_varied_numbers(module, examples)
        notes = leave_out_cache(module, results, lambda: call(module, varied, varied.tensors()))
        if notes:
            results = call(module, examples, examples.tensors())
    except Exception as refusal:  # the module's code runs and may raise anything
        raise call_failure(refusal, type(module).__name__, examples.tensors()) from refusal
    arguments = (examples.args, dict(examples.kwargs))
    takes_plain = is_plain(arguments)
    if isinstance(module, torch.jit.ScriptModule) or (takes_plain and is_plain(results)):
        return examples, notes
    use_plain_structures(module, None if takes_plain else rebuilding(arguments))
    args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, plain(arguments))
    return replace(examples, args=args, kwargs=kwargs), notes


def _with_varied_numbers(module: nn.Module, examples: Examples) -> Examples:
    """Examples whose integers change from step to step, where the module takes that."""

    def varied(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() or tensor.is_complex() or not tensor.ndim:
            return tensor
        return (torch.arange(tensor.shape[-1]) % 2).to(tensor.dtype).expand(tensor.shape).contiguous()

    args, kwargs = examples.arguments([varied(tensor) for tensor in examples.tensors()])
    changed = replace(examples, args=args, kwargs=kwargs)
    return changed if _runs(module, changed) else examples


def call(module: nn.Module, examples: Examples, tensors: Sequence[torch.Tensor]) -> Any:
    """What a module returns for the arguments of the examples with other tensors, without gradients."""
    args, kwargs = examples.arguments(tensors)
    with torch.no_grad(), quiet():
        return module(*args, **kwargs)


def _with_open_masks(module: nn.Module, examples: Examples) -> Examples:
    """Examples whose masks leave something out, where the module takes that; it may skip others unseen."""

    def opened(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() or tensor.is_complex() or tensor.ndim < 2 or tensor.numel() < 2:
            return tensor
        if not bool((tensor == tensor.flatten()[0]).all()):
            return tensor
        changed = tensor.clone()
        changed[..., -1] = 1 - tensor.flatten()[0].to(torch.int64)
        return changed

    args, kwargs = examples.arguments([opened(tensor) for tensor in examples.tensors()])
    changed = replace(examples, args=args, kwargs=kwargs)
    return changed if _runs(module, changed) else examples


def _runs(module: nn.Module, examples: Examples) -> bool:
    try:
        call(module, examples, examples.tensors())
    except Exception:  # the module's code runs and may raise anything
        return False
    return True


_Export = tuple[ExportedProgram, Examples, tuple[str, ...]]


def _export_with_some_attention(module: nn.Module, examples: Examples, *, static_batch: bool) -> _Export:
    """Export a module, with eager attention where it has another that torch.export cannot take."""
    try:
        return _export_as_it_is(module, examples, static_batch=static_batch)
    except BridgeError:
        kinds = other_attention(module)
        if not kinds:
            raise
        try:
            with eager_attention(module):
                program, examples, notes = _export_as_it_is(module, examples, static_batch=static_batch)
        except BridgeError:
            pass
        else:
            return program, examples, (*notes, _attention_note(kinds))
        raise


def _attention_note(kinds: Sequence[str]) -> str:
    return (
        f"the model was exported with attn_implementation='eager', because torch.export fails with "
        f"{', '.join(map(repr, kinds))}; both compute the same"
    )


def _export_as_it_is(module: nn.Module, examples: Examples, *, static_batch: bool) -> _Export:
    if static_batch:
        named = {position: set(axes) - {0} for position, axes in examples.axes.items()}
        return _export_reporting(module, examples, named), examples, ()
    batch = _with_batch(module, examples)
    widest, *narrower = attempts(batch)
    for axes in (widest, *narrower):
        try:
            program = _export(module, batch, axes)
        except Exception:  # the module's code runs and may raise anything; the last attempt reports it
            continue
        if not _leaves_open(program, batch):
            program = _with_open_lengths(module, batch, axes) or program
        if dynamic_batch(program):
            return program, batch, ()
        # torch.export found that the batch is a constant of the program: use the user's own sizes.
        break
    for axes in ({position: set(axes) - {0} for position, axes in widest.items()}, {}):
        try:
            program = _export_reporting(module, examples, axes)
        except BridgeError:
            if not axes:
                raise
        else:
            break
    return program, examples, (_fixed_note(program, examples),)


def _leaves_open(program: ExportedProgram, examples: Examples) -> bool:
    """Whether a program leaves the batch open and every axis that the user named."""
    sizes = [tensor.shape for _, tensor in _positions(program, examples)]
    return dynamic_batch(program) and not any(
        axis > 0 and is_fixed(sizes[position][axis])
        for position, named in examples.axes.items()
        for axis in named
    )


def _with_open_lengths(module: nn.Module, examples: Examples, axes: Free) -> ExportedProgram | None:
    """The program from the module's bytecode, if that leaves open what running it fixed: `len(x)` does."""
    try:
        program = _run_export(module, examples, axes, strict=True)
    except Exception:  # the module's code runs and may raise anything; what running it gave is used
        return None
    return program if _leaves_open(program, examples) else None


def _with_batch(module: nn.Module, examples: Examples) -> Examples:
    """Two samples where the examples have one, unless the module refuses that: one may serve all others."""
    batch = examples.with_batch()
    return batch if _runs(module, batch) else examples


def _fixed_note(program: ExportedProgram, examples: Examples) -> str:
    sizes = {
        f"{name}: {'x'.join(map(str, tensor.shape))}"
        for name, tensor in zip(names.input_names(program), examples.tensors(), strict=True)
    }
    return (
        "the batch size is fixed, because the model's code works for one size only "
        f"({', '.join(sorted(sizes))}); look for sizes written as numbers in view, reshape or expand"
    )


def _export_reporting(module: nn.Module, examples: Examples, axes: Free) -> ExportedProgram:
    try:
        return _export(module, examples, axes)
    except Exception as error:  # the module's code runs and may raise anything
        raise export_failure(error, type(module).__name__) from error


def _export(module: nn.Module, examples: Examples, axes: Free) -> ExportedProgram:
    """Export by running the module, by analysing its bytecode where that fails; the first failure counts."""
    try:
        return _run_export(module, examples, axes, strict=False)
    except Exception:  # the module's code runs and may raise anything
        try:
            return _run_export(module, examples, axes, strict=True)
        except Exception:
            pass
        raise


def _run_export(module: nn.Module, examples: Examples, axes: Free, *, strict: bool) -> ExportedProgram:
    shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
    for position, tensor in enumerate(examples.tensors()):
        if axes.get(position):
            shapes[tensor] = dict.fromkeys(sorted(axes[position]), Dim.AUTO)
    # Node annotations (TorchScript's source lines) survive only under preserve_node_meta. Gradients are on:
    # otherwise the program would not say which parts of the module switch them off.
    with (
        torch.enable_grad(),
        fx_traceback.preserve_node_meta(),
        whole_recurrences(),
        masks_taken_as_given(),
        einsum_paths_of_examples(),
        padded_sequences(),
        quiet(),
    ):
        return torch.export.export(
            module, examples.args, dict(examples.kwargs), dynamic_shapes=shapes, strict=strict
        )


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
