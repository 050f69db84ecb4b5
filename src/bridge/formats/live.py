"""Live objects: a model in the caller's memory is written to a file once, and the workers read that."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from bridge.errors import InputError


def write_live(
    source: Any, inputs: Any, directory: Path, *, static_batch: bool
) -> tuple[Path, tuple[str, ...]]:
    """Write a model object into `directory`; returns the file and notes for the user.

    An nn.Module or ExportedProgram becomes a `.pt2`; a keras.Model of built-in layers a `.keras`, any other
    keras.Model, tf.Module or tf.function a SavedModel; an onnx.ModelProto an `.onnx`. A framework is
    looked at only if the caller has imported it. Raises InputError for anything else.
    """
    torch, keras, tf, onnx = (sys.modules.get(name) for name in ("torch", "keras", "tensorflow", "onnx"))
    if torch is not None and isinstance(source, torch.nn.Module | torch.export.ExportedProgram):
        from bridge_converters.torch_to_onnx.export import export_module

        path = directory / "source.pt2"
        return path, export_module(source, inputs, path, dynamic=not static_batch)
    if keras is not None and isinstance(source, keras.Model):
        return _write_keras(source, directory), ()
    if tf is not None and (isinstance(source, tf.Module) or hasattr(source, "get_concrete_function")):
        return _write_tf(source, inputs, directory), ()
    if onnx is not None and isinstance(source, onnx.ModelProto):
        path = directory / "source.onnx"
        onnx.save(source, str(path), save_as_external_data=source.ByteSize() > 1_900_000_000)
        return path, ()
    raise InputError(
        f"a {type(source).__name__} is not a model that bridge knows",
        hint="pass an nn.Module, ExportedProgram, keras.Model, tf.Module, tf.function or a path",
    )


def _write_keras(model: Any, directory: Path) -> Path:
    layers = [model, *model._flatten_layers()]
    if all(type(layer).__module__.partition(".")[0] == "keras" for layer in layers):
        path = directory / "source.keras"
        model.save(path)
        return path
    path = directory / "source"
    model.export(str(path), verbose=False)
    return path


def _write_tf(source: Any, inputs: Any, directory: Path) -> Path:
    import numpy as np
    import tensorflow as tf

    path = directory / "source"
    if isinstance(source, tf.Module) and inputs is None:
        tf.saved_model.save(source, str(path))
        return path
    function = source.__call__ if isinstance(source, tf.Module) else source
    if not hasattr(function, "get_concrete_function"):
        function = tf.function(function)
    if inputs is None:
        concrete = function.get_concrete_function()
    else:
        arrays = [np.asarray(each) for each in (inputs.values() if isinstance(inputs, dict) else inputs)]
        specs = [tf.TensorSpec([None, *each.shape[1:]], each.dtype) for each in arrays]
        concrete = function.get_concrete_function(*specs)
    module = source if isinstance(source, tf.Module) else tf.Module()
    if module is not source:
        module.function = function
    tf.saved_model.save(module, str(path), signatures=concrete)
    return path
