"""Saving an emitted Keras model as a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from bridge.emit.dialect import Signature
from bridge.emit.imported import load_emitted
from bridge.emit.names import Namespace, attribute
from bridge.errors import BridgeError


def save(directory: Path, inputs: Signature, outputs: Signature) -> list[str]:
    """Write a SavedModel into the directory of `model.py`: named inputs and outputs, dynamic axes open.

    The signature `serving_default` is inference; its variables are trainable as in the source. Raises
    BridgeError where the model cannot be traced: it makes lists whose length depends on values.
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
    try:
        archive.add_endpoint("serve", serve, input_signature=specs)
    except (TypeError, ValueError) as error:  # what Keras and TensorFlow raise where a function has no graph
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BridgeError(
            f"the emitted model cannot be traced into a graph: {' '.join(lines[:2])}",
            hint="a SavedModel needs lists of a known length; PyTorch does not: convert with --to torch",
        ) from error
    archive.write_out(str(directory), verbose=False)
    return []
