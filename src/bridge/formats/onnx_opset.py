"""The opset an ONNX file is written in."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET


def accept_opset(model: ir.Model, *, where: str) -> None:
    """Check that a model's opset is one that is known, and leave it as it is.

    A model without operators of the standard need not say its opset; it counts as the hub's. `where`
    names the file in errors. Raises InputError for an opset that is missing, invalid or too new.
    """
    imports = model.graph.opset_imports
    version = imports.pop("ai.onnx", None) or imports.get("")
    if version is None:
        if any(node.domain == "" for node in all_nodes(model)):
            raise InputError(
                "the file does not say which opset it is written in",
                hint="set opset_import in the program that made it",
                where=where,
            )
        version = HUB_OPSET
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= version <= newest:
        raise InputError(
            f"the file is of opset {version}, and the installed onnx package knows 1 to {newest}",
            hint=f"export it again with opset {HUB_OPSET}",
            where=where,
        )
    imports[""] = version
