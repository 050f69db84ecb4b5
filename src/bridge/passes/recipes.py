"""Start of provenance: every trained tensor is its own recipe."""

from __future__ import annotations

import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.hub import metadata
from bridge.hub.metadata import SourceTensor
from bridge.hub.recipe import Source, to_json


def attach_recipes(model: ir.Model) -> ir.Model:
    """Give each trained tensor the recipe `Source(path)` and list them all in the model's record.

    Raises BridgeError if two tensors claim one path.
    """
    tensors: dict[str, SourceTensor] = {}
    for graph in model.graphs():
        for value in graph.initializers.values():
            info = metadata.weight_info(value)
            if info is None or metadata.recipe_record(value) is not None:
                continue
            if info.path in tensors:
                raise BridgeError(f"the reader gave two tensors the path {info.path!r}")
            tensor = value.const_value
            assert tensor is not None
            tensors[info.path] = SourceTensor(tuple(tensor.shape.numpy()), tensor.dtype.numpy().name, info)
            metadata.set_recipe_record(value, to_json(Source(info.path)))
    if tensors:
        metadata.set_source_tensors(model, tensors)
    return model
