"""From a request to a program and the original object that runs, for every PyTorch format."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.utils import _pytree as pytree

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.hub.metadata import WeightInfo
from bridge_converters.torch_to_onnx import archive, checkpoint, inputs, pickled, torchscript
from bridge_converters.torch_to_onnx import program as program_rewrites
from bridge_converters.torch_to_onnx.axes import Axes, Bounds, settle
from bridge_converters.torch_to_onnx.capture import call, capture, preserved_buffers
from bridge_converters.torch_to_onnx.names import input_names
from bridge_converters.torch_to_onnx.scopes import root_type
from bridge_converters.torch_to_onnx.shapes import dynamic_batch, input_values, symbol_labels
from bridge_converters.torch_to_onnx.suggest import missing_inputs, required_names
from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators
from bridge_converters.torch_to_onnx.user_code import import_module


@dataclass(frozen=True)
class Loaded:
    """What a file holds: the program, and the object it came from where that can run itself.

    `module_types` are class names by module path, `weights` overrides of what the program says about
    its tensors, `axes` names of torch's size symbols,
    `bounds` the ends of the ranges of the inputs' axes,
    `attention_dropouts` the ratios of the attention nodes in training.
    """

    program: ExportedProgram
    module: Callable[..., Any]
    root_type: str
    module_types: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, WeightInfo] = field(default_factory=dict)
    axes: Mapping[str, str | int] = field(default_factory=dict)
    bounds: Mapping[int, Mapping[int, Bounds]] = field(default_factory=dict)
    attention_dropouts: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


def load(request: ReadRequest, *, as_is: bool = False) -> Loaded:
    """Load a PyTorch file of any format and export it. See `reader.read` for the errors.

    A program that was exported in training mode is switched to evaluation mode, unless it is wanted
    `as_is`.
    """
    path = Path(request.path)
    if request.custom_objects:
        import_module(request.custom_objects, flag="--custom-objects")
    match request.format:
        case "pt2":
            return _from_archive(path, request, as_is=as_is)
        case "state_dict" | "safetensors":
            module = checkpoint.load_checkpoint(path, request.format, request.model)
            return _from_module(module, request)
        case "pickle_module":
            module = pickled.load_pickled_module(
                path, trust=request.trust, custom_objects=request.custom_objects
            )
            return _from_module(module, request)
        case "torchscript":
            return _from_torchscript(path, request, as_is=as_is)
    raise InputError(f"{request.format!r} is not a PyTorch format")


def _from_archive(path: Path, request: ReadRequest, *, as_is: bool) -> Loaded:
    start = time.perf_counter()
    program, record = archive.load_archive(path, trust=request.trust)
    by_bridge = record is not None
    record = record or archive.ExportRecord()
    notes = record.notes if as_is else (*record.notes, *program_rewrites.evaluate(program))
    module = program.module()
    described = record.axes if by_bridge else _own_axes(program, module)
    axes = symbol_labels(program, described.labels)
    if request.static_batch:
        axes.update(_fixed_sizes(program, request))
    elif not by_bridge and not dynamic_batch(program):
        notes = (*notes, _static_note(program))
    return Loaded(
        program,
        module,
        root_type(list(program.graph.nodes), "Model"),
        module_types=record.module_types,
        axes=axes,
        bounds=described.bounds,
        attention_dropouts=record.attention_dropouts,
        notes=notes,
        seconds=time.perf_counter() - start,
    )


def _from_module(module: nn.Module, request: ReadRequest) -> Loaded:
    parameters = inputs.forward_parameters(module.forward)
    if request.examples is not None:
        examples = inputs.from_file(request.examples, parameters, request.inputs)
    elif request.inputs:
        examples = inputs.from_specs(request.inputs, parameters)
    elif required_names(parameters):
        raise missing_inputs(request.path, module, parameters)
    else:
        examples = inputs.Examples()
    captured = capture(module, examples, static_batch=request.static_batch)
    module.eval()
    return Loaded(
        captured.program,
        module,
        type(module).__name__,
        module_types=module_types(module),
        axes=symbol_labels(captured.program, captured.axes.labels),
        bounds=captured.axes.bounds,
        attention_dropouts=captured.attention_dropouts,
        notes=captured.notes,
        seconds=captured.seconds,
    )


def _from_torchscript(path: Path, request: ReadRequest, *, as_is: bool) -> Loaded:
    declare_missing_operators()
    script, module = torchscript.load_torchscript(path)
    loaded = _from_module(module, request)
    notes = () if as_is else program_rewrites.evaluate(loaded.program)
    # A module traced in training mode stays in it; only the rewritten program is in evaluation mode.
    runnable = loaded.program.module() if notes else script
    return replace(loaded, module=runnable, notes=(*loaded.notes, *notes))


def _own_axes(program: ExportedProgram, module: nn.Module) -> Axes:
    """The dynamic axes of a program that somebody else exported, as far as its example inputs tell."""
    args, kwargs = program.example_inputs or ((), {})
    examples = inputs.Examples(args, kwargs)
    tensors = examples.tensors()
    if len(tensors) != len(input_values(program)) or any(isinstance(each, FakeTensor) for each in tensors):
        return settle(program, inputs.Examples(), None)
    with preserved_buffers(module):
        return settle(program, examples, lambda given: call(module, examples, given), fixing=False)


def module_types(module: nn.Module) -> dict[str, str]:
    """The class name of every module by path, without the root."""
    return {path: type(each).__name__ for path, each in module.named_modules(remove_duplicate=False) if path}


def _fixed_sizes(program: ExportedProgram, request: ReadRequest) -> dict[str, int]:
    """Sizes for the batch symbols of a program: the user's, or those of its own example inputs."""
    given = [spec.shape[0] for spec in request.inputs if spec.shape]
    sizes = [size for size in given if isinstance(size, int)]
    if not sizes:
        args, kwargs = program.example_inputs or ((), {})
        leaves = pytree.tree_leaves((args, kwargs))
        sizes = [leaf.shape[0] for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.ndim]
    if not sizes:
        raise InputError(
            "a fixed batch was asked for, but the program does not say which",
            hint="give the size as axis 0 of --input",
        )
    symbols = [str(value.shape[0]) for value in input_values(program) if value.ndim]
    return {symbol: sizes[0] for symbol in symbols if symbol.isidentifier()}


def _static_note(program: ExportedProgram) -> str:
    parameters = ", ".join(f'"{name}": {{0: batch}}' for name in input_names(program))
    return (
        "the batch size is fixed in the program, and a .pt2 cannot be made dynamic afterwards; "
        "export it with batch = torch.export.Dim.DYNAMIC; torch.export.export(module, inputs, "
        f"dynamic_shapes={{{parameters}}}) and inputs of batch 2 or more"
    )
