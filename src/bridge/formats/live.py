"""Live objects: a model in the caller's memory is written to a file once, and the workers read that."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.formats.request import InputSpec


@dataclass(frozen=True)
class LiveFile:
    """The file or directory that stands for a live object, its format, and notes for the user."""

    path: Path
    format: str
    notes: tuple[str, ...] = ()


def write_live(
    source: Any, inputs: Any, directory: Path, *, static_batch: bool, axes: Sequence[InputSpec] = ()
) -> LiveFile:
    """Write a model object into `directory`.

    An nn.Module or ExportedProgram becomes a `.pt2`, a keras.Model, tf.Module or tf.function a directory
    with its trace, an onnx.ModelProto an `.onnx`. A framework is looked at only if the caller has
    imported it. `axes` say which axes of example inputs are dynamic. Raises InputError for anything else.
    """
    torch, keras, tf, onnx = (sys.modules.get(name) for name in ("torch", "keras", "tensorflow", "onnx"))
    if torch is not None and isinstance(source, torch.nn.Module | torch.export.ExportedProgram):
        from bridge_converters.torch_to_onnx.export import export_module

        path = directory / "source.pt2"
        return LiveFile(path, "pt2", export_module(source, inputs, path, dynamic=not static_batch, axes=axes))
    is_keras = keras is not None and isinstance(source, keras.Model)
    is_module = tf is not None and isinstance(source, tf.Module)
    if is_keras or is_module or (tf is not None and hasattr(source, "get_concrete_function")):
        from bridge_converters.tf_to_onnx.objects import FORMAT, export_object

        path = directory / "source"
        export_object(source, path, _described(_specs(inputs), axes), static_batch=static_batch)
        return LiveFile(path, FORMAT)
    if onnx is not None and isinstance(source, onnx.ModelProto):
        path = directory / "source.onnx"
        onnx.save(source, str(path), save_as_external_data=source.ByteSize() > 1_900_000_000)
        return LiveFile(path, "onnx")
    raise InputError(
        f"a {type(source).__name__} is not a model that bridge knows",
        hint="pass an nn.Module, ExportedProgram, keras.Model, tf.Module, tf.function or a path",
    )


def flat_inputs(source: Any, inputs: Any) -> Any:
    """Inputs as the file that `write_live` makes of a model object takes them.

    Of an nn.Module, example tensors and arrays, nested or not, become numpy arrays by the names of the
    program's inputs, and what is a constant of the program is left out. Everything else stays as it is.
    Raises InputError where arrays stand beside specifications.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(source, torch.nn.Module):
        return inputs
    from bridge.verification.user_inputs import specifications

    if inputs is None or isinstance(inputs, str | Path) or specifications(inputs):
        return inputs
    from bridge_converters.torch_to_onnx.inputs import forward_parameters, named_arrays

    return named_arrays(inputs, forward_parameters(source.forward))


def _specs(inputs: Any) -> list[InputSpec]:
    """What example arrays or specifications say about the inputs; axis 0 of an example is free."""
    from bridge.verification.user_inputs import split

    specs, sets = split([inputs] if hasattr(inputs, "shape") else inputs)
    for arrays in sets[:1]:
        named = arrays.items() if isinstance(arrays, Mapping) else [(None, each) for each in arrays]
        specs += [
            InputSpec(("batch", *each.shape[1:]) if each.ndim else (), each.dtype.name, name)
            for name, each in named
        ]
    return specs


def _described(examples: list[InputSpec], axes: Sequence[InputSpec]) -> list[InputSpec]:
    """The examples with the axes that the user describes, by name or by position."""
    found = list(examples)
    names = [each.name for each in examples]
    for position, spec in enumerate(axes):
        if (spec.name is None and position >= len(found)) or (
            spec.name is not None and spec.name not in names
        ):
            raise InputError(
                f"the axes of {spec.name or f'input number {position + 1}'} are given, but no example of it",
                hint="give the example inputs as a dict by the same names, or both in order",
            )
        at = position if spec.name is None else names.index(spec.name)
        found[at] = replace(found[at], shape=spec.shape)
    return found
