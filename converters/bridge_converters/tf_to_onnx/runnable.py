"""Run a concrete function as a model. This module also runs in an old environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bridge_converters.tf_to_onnx.functions import Signature, call_flat

if TYPE_CHECKING:
    Array = np.ndarray[Any, np.dtype[Any]]


class FunctionRunnable:
    """A concrete function. It keeps the object alive that owns its variables."""

    def __init__(self, signature: Signature) -> None:
        self.input_names = signature.inputs
        self.output_names = signature.outputs
        self.function = signature.function
        self._signature = signature

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        tensors = [tf.convert_to_tensor(inputs[name]) for name in self.input_names]
        return [np.asarray(each) for each in call_flat(self._signature.function, tensors)]
