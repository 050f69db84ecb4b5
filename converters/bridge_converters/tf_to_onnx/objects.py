"""Live objects: traced in the caller's process and handed to workers as a directory.

The directory (format `tf_bundle`) holds a bundle for the reader, and below `runnable/` a SavedModel of
the same function as TensorFlow itself computes it, for verification.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.form import Naming
from bridge_converters.tf_to_onnx.functions import (
    Signature,
    call_flat,
    capture_handles,
    concrete,
    signature_of,
    trace_signature,
)
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.saved_model import load_saved_model

FORMAT = "tf_bundle"
_RUNNABLE = "runnable"
_NAMES = "variables.json"
"""The path and trainability of every variable that the SavedModel holds, in its order; null if no weight."""
_SIGNATURE = "serving_default"


def trace_object(source: Any, inputs: Sequence[InputSpec] = (), *, static_batch: bool = False) -> Bundle:
    """The bundle of a live `keras.Model`, `tf.Module` (its `__call__`), `tf.function` or concrete function.

    `inputs` say shapes and dtypes where the object does not. Raises InputError for any other object and
    where the inputs are not known.
    """
    if is_keras(source):
        from bridge_converters.tf_to_onnx.keras_source import trace_keras

        return trace_keras(source, format="keras_model", inputs=inputs, static_batch=static_batch)
    return trace_signature(open_object(source, inputs), format="tf_function", root_type=_class_name(source))


def export_object(
    source: Any, directory: str | Path, inputs: Sequence[InputSpec] = (), *, static_batch: bool = False
) -> None:
    """Write the directory that readers and verification workers take for a live object.

    Raises the errors of `trace_object`.
    """
    if is_keras(source):
        from bridge_converters.tf_to_onnx.double import keras_naming
        from bridge_converters.tf_to_onnx.keras_source import plain_signature

        trace_object(source, inputs, static_batch=static_batch).save(directory)
        signature = plain_signature(source, inputs, static_batch=static_batch)
        naming = keras_naming(source, signature)
    else:
        signature = open_object(source, inputs)
        bundle = trace_signature(signature, format="tf_function", root_type=_class_name(source))
        bundle.save(directory)
        naming = Naming({each.node: (each.path, each.trainable) for each in bundle.weights})
    _save_runnable(signature, Path(directory) / _RUNNABLE)
    _save_naming(signature, naming, Path(directory) / _NAMES)


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


def exported_naming(directory: str | Path, signature: Signature) -> Naming:
    """What the variables of `open_exported(directory)` were called before they were exported."""
    names = json.loads((Path(directory) / _NAMES).read_text(encoding="utf-8"))
    held = {
        id(variable.handle): (str(name[0]), bool(name[1]))
        for variable, name in zip(signature.owner.held, names, strict=True)  # type: ignore[union-attr]
        if name is not None
    }
    return Naming(
        {node: held[handle] for node, handle in capture_handles(signature).items() if handle in held}
    )


def is_keras(source: Any) -> bool:
    """Whether an object is a Keras model; Keras is not imported to find out."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(source, keras.Model)


def _class_name(source: Any) -> str:
    return type(source).__name__ if isinstance(source, tf.Module) else "Model"


def open_object(source: Any, inputs: Sequence[InputSpec] = ()) -> Signature:
    """The concrete function of a live object that is no Keras model, see `trace_object`."""
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


def _save_naming(signature: Signature, naming: Naming, path: Path) -> None:
    handles = capture_handles(signature)
    known = {handles[node]: name for node, name in naming.weights.items()}
    held = [known.get(id(variable.handle)) for variable in signature.function.graph.variables]
    path.write_text(json.dumps(held), encoding="utf-8")
