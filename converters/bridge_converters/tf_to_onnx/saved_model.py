"""SavedModels of TensorFlow 2."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.functions import Signature, concrete, signature_of, trace_signature

_DEFAULT_SIGNATURES = ("serving_default", "serve")
_LOAD_FAILURES = (OSError, ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError)


def open_saved_model(request: ReadRequest) -> Signature:
    """Load a SavedModel and choose the function to convert: its default signature, or its only function.

    Raises InputError where it cannot be loaded or does not say which function is meant.
    """
    loaded = load_saved_model(request.path)
    signatures = dict(loaded.signatures) if hasattr(loaded, "signatures") else {}
    for name in _DEFAULT_SIGNATURES:
        if name in signatures:
            return signature_of(signatures[name], loaded)
    if len(signatures) == 1:
        return signature_of(next(iter(signatures.values())), loaded)
    if signatures:
        raise InputError(
            f"the SavedModel has the signatures {', '.join(sorted(signatures))}, and none is the default",
            hint="save it with signatures={'serving_default': function}",
            where=request.path,
        )
    return _only_function(loaded, request)


def load_saved_model(path: str) -> Any:
    """The object in a SavedModel directory. Raises InputError where TensorFlow cannot restore it."""
    try:
        return tf.saved_model.load(path)
    except _LOAD_FAILURES as error:
        raise InputError(
            f"TensorFlow cannot load the SavedModel: {str(error).strip().splitlines()[0]}",
            hint="save it again, with all its variables and custom operators",
            where=path,
        ) from error


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
