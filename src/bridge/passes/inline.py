"""Functions of the model, written out where they are called."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from bridge.errors import InputError
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET
from bridge.passes.opset import to_hub_opset


def inline_functions(model: ir.Model) -> ir.Model:
    """Replace calls of model-local functions by their bodies; the new nodes take the call's module and line.

    Functions may be written in another opset than the model: then all are brought to the hub's.
    Raises InputError for functions that cannot be inlined (recursion, graphs as attributes).
    """
    if not model.functions:
        return model
    mixed = _mark_versions(model)
    records = {
        output.name: dict(output.metadata_props) for node in all_nodes(model) for output in node.outputs
    }
    try:
        inlined = InlinePass()(model).model
    except (ValueError, ir.passes.InvariantError, ir.passes.PassError) as error:
        raise InputError(f"the functions of the ONNX model cannot be inlined: {error}") from error
    for node in all_nodes(inlined):
        for output in node.outputs:
            for key, record in records.get(output.name, {}).items():
                output.metadata_props.setdefault(key, record)
    inlined.functions.clear()
    return to_hub_opset(inlined) if mixed else inlined


def _mark_versions(model: ir.Model) -> bool:
    """Note the opset on every node if the functions are of others than the model; whether they are."""
    own = model.graph.opset_imports.get("", HUB_OPSET)
    functions = list(model.functions.values())
    if all(function.opset_imports.get("", own) == own for function in functions):
        return False
    for node in all_nodes(model):
        node.version = own
    for function in functions:
        version = function.opset_imports.get("", own)
        for node in ir.traversal.RecursiveGraphIterator(function.graph):
            node.version = version
        function.opset_imports[""] = own
    return True
