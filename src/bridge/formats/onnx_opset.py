"""The opset an ONNX file is written in."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET

_SAYS_OPSET = 3
"""The IR version since which a file says its opset."""


def accept_opset(model: ir.Model, *, where: str) -> None:
    """Check that a model's opset is one that is known, and leave it as it is.

    A model without operators of the standard need not say its opset; it counts as the hub's. Before IR
    version 3 there was only opset 1. `where` names the file in errors. Raises InputError for an opset
    that is missing, invalid or too new.
    """
    imports = model.graph.opset_imports
    for each in (imports, *(function.opset_imports for function in model.functions.values())):
        if "ai.onnx" in each:
            each[""] = each.pop("ai.onnx")
    version = imports.get("", 1 if model.ir_version < _SAYS_OPSET else None)
    if version is None:
        if any(node.domain == "" for node in all_nodes(model)):
            raise InputError(
                "the file does not say which opset it is written in",
                hint="set opset_import in the program that made it",
                where=where,
            )
        version = HUB_OPSET
    newest = onnx.defs.onnx_opset_version()
    versions = [version, *(each.opset_imports.get("", version) for each in model.functions.values())]
    version = next((each for each in versions if not 1 <= each <= newest), version)
    if not 1 <= version <= newest:
        raise InputError(
            f"the file is of opset {version}, and the installed onnx package knows 1 to {newest}",
            hint=f"export it again with opset {HUB_OPSET}",
            where=where,
        )
    imports[""] = version
