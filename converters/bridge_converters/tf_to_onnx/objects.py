"""Live objects: traced in the caller's process and handed to workers as a directory.

The directory (format `tf_bundle`) holds a bundle for the reader, and below `runnable/` a SavedModel of
the same function as TensorFlow itself computes it, for verification.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.functions import (
    Signature,
    call_flat,
    concrete,
    signature_of,
    trace_signature,
)
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.saved_model import load_saved_model

FORMAT = "tf_bundle"
_RUNNABLE = "runnable"
_SIGNATURE = "serving_default"


def trace_object(source: Any, inputs: Sequence[InputSpec] = (), *, static_batch: bool = False) -> Bundle:
    """The bundle of a live `keras.Model`, `tf.Module` (its `__call__`), `tf.function` or concrete function.

    `inputs` say shapes and dtypes where the object does not. Raises InputError for any other object and
    where the inputs are not known.
    """
    if _is_keras(source):
        from bridge_converters.tf_to_onnx.keras_source import trace_keras

        return trace_keras(source, format="keras_model", inputs=inputs, static_batch=static_batch)
    return trace_signature(_open(source, inputs), format="tf_function", root_type=_class_name(source))


def export_object(
    source: Any, directory: str | Path, inputs: Sequence[InputSpec] = (), *, static_batch: bool = False
) -> None:
    """Write the directory that readers and verification workers take for a live object.

    Raises the errors of `trace_object`.
    """
    trace_object(source, inputs, static_batch=static_batch).save(directory)
    if _is_keras(source):
        from bridge_converters.tf_to_onnx.keras_source import plain_signature

        signature = plain_signature(source, inputs, static_batch=static_batch)
    else:
        signature = _open(source, inputs)
    _save_runnable(signature, Path(directory) / _RUNNABLE)


def open_exported(directory: str | Path) -> Signature:
    """The function in such a directory, with the names of the bundle beside it."""
    bundle = Bundle.load(directory)
    loaded = load_saved_model(str(Path(directory) / _RUNNABLE))
    found = signature_of(loaded.signatures[_SIGNATURE], loaded)
    return replace(
        found,
        inputs=tuple(port.name for port in bundle.inputs),
        outputs=tuple(port.name for port in bundle.outputs),
    )


def _is_keras(source: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(source, keras.Model)


def _class_name(source: Any) -> str:
    return type(source).__name__ if isinstance(source, tf.Module) else "Model"


def _open(source: Any, inputs: Sequence[InputSpec]) -> Signature:
    if isinstance(source, tf.types.experimental.ConcreteFunction):
        return signature_of(source, None)
    if isinstance(source, tf.types.experimental.GenericFunction):
        owner = getattr(source.python_function, "__self__", None)
        return signature_of(concrete(source, inputs, what="the function"), owner)
    call = getattr(source, "__call__", None)  # noqa: B004  the function object itself is wanted
    if not isinstance(source, tf.Module) or call is None:
        raise InputError(
            f"a {type(source).__name__} is no TensorFlow model",
            hint="give a keras.Model, a tf.Module with a __call__, or a tf.function",
        )
    function = call if isinstance(call, tf.types.experimental.GenericFunction) else tf.function(call)
    return signature_of(concrete(function, inputs, what=f"{type(source).__name__}.__call__"), source)


def _save_runnable(signature: Signature, directory: Path) -> None:
    """A SavedModel of one function. Keys are positions: names of a model may be no valid keys."""
    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name=f"input_{position:04d}")
        for position, tensor in enumerate(arguments(signature.function))
    ]

    def serve(*tensors: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = call_flat(signature.function, tensors)
        return {f"output_{position:04d}": tensor for position, tensor in enumerate(outputs)}

    holder = tf.Module()
    holder.held = list(signature.function.graph.variables)
    holder.serve = tf.function(serve, input_signature=specs, autograph=False)
    tf.saved_model.save(holder, str(directory), signatures={_SIGNATURE: holder.serve})
