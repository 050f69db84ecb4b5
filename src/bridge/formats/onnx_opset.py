"""ONNX files that are newer than the hub's opset: taken as far as nothing they use has changed."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from bridge.errors import InputError, UnsupportedOp, UnsupportedOps
from bridge.hub.graph import all_nodes
from bridge.hub.opset import HUB_OPSET


def accept_opset(model: ir.Model, *, where: str) -> None:
    """Relabel a model of a newer opset as the hub's, in place; an older one is left as it is.

    A newer model is taken only if every operator is used as the hub's opset declares it: between these
    versions most operators changed in nothing but the element types they accept. `where` names the
    file in errors. Raises UnsupportedOps for operators that are new or declared otherwise, InputError for
    a file without an opset.
    """
    version = model.graph.opset_imports.pop("ai.onnx", None) or model.graph.opset_imports.get("")
    if version is None:
        raise InputError(
            "the file does not say which opset it is written in",
            hint="set opset_import in the program that made it",
            where=where,
        )
    if version > onnx.defs.onnx_opset_version():
        raise InputError(
            f"the file is of opset {version}, and the installed onnx package knows up to "
            f"{onnx.defs.onnx_opset_version()}",
            hint=f"export it again with opset {HUB_OPSET}",
            where=where,
        )
    if version > HUB_OPSET:
        _check_declared_alike(model, version, where)
        version = HUB_OPSET
    model.graph.opset_imports[""] = version


def _check_declared_alike(model: ir.Model, version: int, where: str) -> None:
    changed: dict[str, tuple[str, int]] = {}
    for node in all_nodes(model):
        if node.domain == "" and (reason := _difference(node, version)) is not None:
            changed[node.op_type] = (reason, changed.get(node.op_type, ("", 0))[1] + 1)
    if changed:
        error = UnsupportedOps(
            [UnsupportedOp(name, "", reason, count) for name, (reason, count) in changed.items()],
            target=f"opset {HUB_OPSET}",
            hint=f"export the model again with opset {HUB_OPSET} or earlier",
        )
        error.where = where
        raise error


def _difference(node: ir.Node, version: int) -> str | None:
    if not onnx.defs.has(node.op_type, version):
        return f"ONNX opset {version} has no such operator"
    if not onnx.defs.has(node.op_type, HUB_OPSET):
        return f"it is new since opset {HUB_OPSET}"
    newer = onnx.defs.get_schema(node.op_type, version)
    ours = onnx.defs.get_schema(node.op_type, HUB_OPSET)
    if newer.since_version == ours.since_version:
        return None
    if len(node.inputs) > ours.max_input or len(node.outputs) > ours.max_output:
        return f"it uses inputs or outputs that are new since opset {HUB_OPSET}"
    for name in set(node.attributes) | set(ours.attributes):
        if name in node.attributes and name not in ours.attributes:
            return f"its attribute {name} is new since opset {HUB_OPSET}"
        if name not in node.attributes and (
            name not in newer.attributes
            or newer.attributes[name].default_value != ours.attributes[name].default_value
        ):
            return f"its attribute {name} has changed since opset {HUB_OPSET}"
    return None
