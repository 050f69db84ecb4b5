"""Saving an emitted Keras model as a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from bridge.emit.dialect import Signature
from bridge.emit.imported import load_emitted
from bridge.emit.names import Namespace, attribute


def save(directory: Path, inputs: Signature, outputs: Signature) -> list[str]:
    """Write a SavedModel into the directory of `model.py`: named inputs and outputs, dynamic axes open.

    The signature `serving_default` is inference; its variables are trainable as in the source.
    """
    model = load_emitted(directory)
    names = Namespace()
    input_names = [names.claim(attribute(name, default="input")) for name in inputs.names]
    specs = [
        tf.TensorSpec(
            None if shape is None else [None if isinstance(size, str) else size for size in shape],
            tf.dtypes.as_dtype(dtype),
            name=name,
        )
        for name, shape, dtype in zip(input_names, inputs.shapes, inputs.carriers, strict=True)
    ]

    def serve(*tensors: Any) -> dict[str, Any]:
        results = model(*tensors)
        results = results if isinstance(results, tuple) else (results,)
        return dict(zip(outputs.names, results, strict=True))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", serve, input_signature=specs)
    archive.write_out(str(directory), verbose=False)
    return []
