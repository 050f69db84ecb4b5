"""Functions of the model, written out where they are called."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from bridge.errors import InputError
from bridge.hub.graph import all_nodes


def inline_functions(model: ir.Model) -> ir.Model:
    """Replace calls of model-local functions by their bodies; the new nodes take the call's module and line.

    Raises InputError for functions that ONNX's rules do not allow to inline (recursion, another opset).
    """
    if not model.functions:
        return model
    records = {
        output.name: dict(output.metadata_props) for node in all_nodes(model) for output in node.outputs
    }
    try:
        inlined = InlinePass()(model).model
    except (ValueError, ir.passes.PassError) as error:
        raise InputError(f"the functions of the ONNX model cannot be inlined: {error}") from error
    for node in all_nodes(inlined):
        for output in node.outputs:
            for key, record in records.get(output.name, {}).items():
                output.metadata_props.setdefault(key, record)
    inlined.functions.clear()
    return inlined
