"""SavedModels of TensorFlow 2, and live objects of plain TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import InputSpec, ReadRequest
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.functions import Signature, concrete, signature_of, trace_signature

_DEFAULT_SIGNATURES = ("serving_default", "serve")
_LOAD_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError)


def open_saved_model(request: ReadRequest) -> Signature:
    """Load a SavedModel and choose the function to convert: its default signature, or its only function.

    Raises InputError where it cannot be loaded or does not say which function is meant.
    """
    try:
        loaded = tf.saved_model.load(request.path)
    except _LOAD_FAILURES as error:
        raise InputError(
            f"TensorFlow cannot load the SavedModel: {str(error).strip().splitlines()[0]}",
            hint="save it again, with all its variables and custom operators",
            where=request.path,
        ) from error
    signatures = dict(loaded.signatures) if hasattr(loaded, "signatures") else {}
    for name in _DEFAULT_SIGNATURES:
        if name in signatures:
            return signature_of(signatures[name], loaded)
    if len(signatures) == 1:
        return signature_of(next(iter(signatures.values())), loaded)
    if signatures:
        raise InputError(
            f"the SavedModel has several signatures ({', '.join(sorted(signatures))}) and none is the default",
            hint="save it with signatures={'serving_default': function}",
            where=request.path,
        )
    return _only_function(loaded, request)


def _only_function(loaded: Any, request: ReadRequest) -> Signature:
    functions = {
        name: child
        for name, child in tf.train.TrackableView(loaded).children(loaded).items()
        if hasattr(child, "concrete_functions") and child.concrete_functions
    }
    chosen = functions.get("__call__")
    if chosen is None and len(functions) == 1:
        chosen = next(iter(functions.values()))
    if chosen is None:
        named = f"{len(functions)} functions ({', '.join(sorted(functions))})" if functions else "no function"
        raise InputError(
            f"the SavedModel has no signature and {named}",
            hint="save it with signatures={'serving_default': function.get_concrete_function(...)}",
            where=request.path,
        )
    return signature_of(concrete(chosen, request.inputs, what="the function"), loaded)


def trace_saved_model(request: ReadRequest) -> Bundle:
    """The bundle of a SavedModel."""
    return trace_signature(open_saved_model(request), format=request.format, root_type="Model")


def open_object(source: Any, inputs: Sequence[InputSpec] = ()) -> Signature:
    """The function of a live `tf.Module` (its `__call__`), `tf.function` or concrete function.

    Raises InputError where the object is none of these or needs inputs that nobody specified.
    """
    if isinstance(source, tf.types.experimental.ConcreteFunction):
        return signature_of(source, None)
    if isinstance(source, tf.types.experimental.GenericFunction):
        owner = getattr(source.python_function, "__self__", None)
        return signature_of(concrete(source, inputs, what="the function"), owner)
    if not isinstance(source, tf.Module):
        raise InputError(
            f"a {type(source).__name__} is no TensorFlow model",
            hint="give a keras.Model, a tf.Module with a __call__, or a tf.function",
        )
    call = getattr(source, "__call__", None)  # noqa: B004  the function object itself is wanted
    if call is None:
        raise InputError(
            f"{type(source).__name__} has no __call__", hint="give the tf.function that computes its output"
        )
    function = call if isinstance(call, tf.types.experimental.GenericFunction) else tf.function(call)
    return signature_of(concrete(function, inputs, what=f"{type(source).__name__}.__call__"), source)
