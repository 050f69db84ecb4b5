"""Exporting a live module from the caller's process to a file that a read worker can read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge_converters.torch_to_onnx import inputs as example_inputs
from bridge_converters.torch_to_onnx.archive import EXTRA_FILE, ExportRecord
from bridge_converters.torch_to_onnx.caches import unchanged_cache
from bridge_converters.torch_to_onnx.capture import capture
from bridge_converters.torch_to_onnx.source import module_types
from bridge_converters.torch_to_onnx.structures import unchanged_forward
from bridge_converters.torch_to_onnx.suggest import required_names, suggestion


def export_module(
    module: nn.Module | ExportedProgram,
    inputs: Any,
    path: str | Path,
    *,
    dynamic: bool = True,
    axes: Sequence[InputSpec] = (),
) -> tuple[str, ...]:
    """Write a `.pt2` archive of a module in evaluation mode; returns notes for the user.

    `inputs` are an example tensor or array, a tuple of them for positional inputs, a dict for inputs by
    the name of forward's parameters, or input specifications such as `"1x3x224x224"`. Axis 0 of every
    input and lengths of sequences are dynamic where the module allows it (see `capture`), unless `dynamic`
    is False; `axes` say otherwise for some inputs. An ExportedProgram is written as it is. The module keeps
    its training flags, parameters, buffers and its forward.

    Raises InputError if inputs are needed and missing, and BridgeError if torch.export fails.
    """
    if isinstance(module, ExportedProgram):
        torch.export.save(module, path)
        return ()
    parameters = example_inputs.forward_parameters(module.forward)
    if inputs is None and required_names(parameters):
        flag = suggestion(required_names(parameters), module)
        raise InputError(
            f"a {type(module).__name__} in memory needs example inputs to be exported",
            hint=f"pass inputs=..., example tensors or a shape such as {flag.removeprefix('--input ')!r}",
        )
    examples = example_inputs.from_values(() if inputs is None else inputs, parameters, axes)
    with unchanged_forward(module), unchanged_cache(module):
        captured = capture(module, examples, static_batch=not dynamic)
    record = ExportRecord(module_types(module), captured.axes, captured.notes, captured.attention_dropouts)
    torch.export.save(captured.program, path, extra_files={EXTRA_FILE: record.to_json()})
    return captured.notes
