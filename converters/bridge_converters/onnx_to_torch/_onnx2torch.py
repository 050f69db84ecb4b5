"""The engine onnx2torch: what that library makes of an ONNX file, saved as bridge saves its own."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from torch import nn

from bridge.emit.dialect import Signature
from bridge.errors import BridgeError, MissingPackage, UnsupportedOp, UnsupportedOps
from bridge_converters.onnx_to_torch._saver import save_module
from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators

ENGINE = "onnx2torch"
_HINT = "leave the engine out: bridge has lowerings of its own for every operator of the standard"


def build(source: Path, directory: Path, inputs: Signature) -> list[str]:
    """Write `model.pt2` of an ONNX file into a directory; returns notes for the user.

    Raises MissingPackage without onnx2torch, UnsupportedOps with every operator that it lacks, BridgeError
    where it or torch.export fails.
    """
    if importlib.util.find_spec(ENGINE) is None:
        raise MissingPackage(ENGINE, extra=ENGINE, why="the engine onnx2torch")
    module = module_of(onnx.load(source))
    notes = save_module(module, directory, inputs)
    parameters = sum(each.numel() for each in module.parameters())
    buffers = sum(each.numel() for each in module.buffers())
    return [
        *notes,
        f"made by onnx2torch: no model.py, no weight map; {parameters:,} numbers are trainable, "
        f"{buffers:,} lie in buffers",
    ]


def module_of(model: onnx.ModelProto) -> nn.Module:
    """The module that onnx2torch makes of a model, in evaluation mode; the model is changed by it.

    Raises UnsupportedOps with every operator that it lacks, BridgeError where it fails otherwise.
    """
    declare_missing_operators()
    library: Any = importlib.import_module(ENGINE)
    missing = list(_missing(model))
    if missing:
        raise UnsupportedOps(missing, target=f"torch by {ENGINE}", hint=_HINT)
    try:
        module: nn.Module = library.convert(model)
    except Exception as error:  # it raises many types for what its converters do not express
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise BridgeError(f"{ENGINE} cannot convert this model: {line}", hint=_HINT) from error
    return module.eval()


def _missing(model: onnx.ModelProto) -> Iterator[UnsupportedOp]:
    """The operators of the main graph for which the library has no converter at their version."""
    find: Any = importlib.import_module(f"{ENGINE}.node_converters").get_converter
    versions = {each.domain: each.version for each in model.opset_import}
    counts: dict[tuple[str, str], int] = {}
    for node in model.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        counts[domain, node.op_type] = counts.get((domain, node.op_type), 0) + 1
    for (domain, operator), count in counts.items():
        version = versions.get(domain, 1)
        try:
            find(operator, version, domain)
        except NotImplementedError:
            since = _since(operator, version, domain)
            yield UnsupportedOp(operator, domain, f"{ENGINE} has no converter for version {since}", count)


def _since(operator: str, version: int, domain: str) -> int:
    try:
        return int(onnx.defs.get_schema(operator, version, domain).since_version)
    except onnx.defs.SchemaError:
        return version
