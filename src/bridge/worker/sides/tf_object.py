"""The side of a live TensorFlow object, in the process that made it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from bridge_converters.tf_to_onnx.objects import is_keras, open_object

from bridge.formats.request import ReadRequest
from bridge.worker import device
from bridge.worker.references import resolve_reference
from bridge.worker.sides.tf_side import TensorFlowSide
from bridge.worker.sides.tf_source import function_parts, keras_parts


class TensorFlowObjectSide(TensorFlowSide):
    """A `keras.Model`, a `tf.Module` with a `__call__`, a `tf.function` or a concrete function.

    The `path` of the request refers to the object or to the factory that made it, and its `inputs` say
    shapes and dtypes where the object does not. Raises InputError where nobody says.
    """

    def __init__(self, source: Any, request: ReadRequest, dtype: str | None = None) -> None:
        device.tensorflow_device(tf)
        what = f"the {type(source).__name__} of {request.path}"
        if is_keras(source):
            factory = resolve_reference(request.path)
            rebuild = None if factory is source else factory
            super().__init__(keras_parts(source, request, rebuild), what=what, dtype=dtype)
        else:
            signature = open_object(source, request.inputs)
            super().__init__(function_parts(signature), what=what, dtype=dtype)
