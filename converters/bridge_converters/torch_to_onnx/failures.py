"""Failures of torch.export and torch.onnx in the user's terms."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import fx
from torch.export import ExportedProgram

from bridge.errors import BridgeError, InputError, UnsupportedOp, UnsupportedOps
from bridge_converters.torch_to_onnx.program import detached_marker, dropout_marker
from bridge_converters.torch_to_onnx.scopes import module_path
from bridge_converters.torch_to_onnx.user_code import first_line, location_of_node, source_line

if TYPE_CHECKING:
    from torch.onnx.errors import OnnxExporterError

_HINTS = (
    (
        re.compile(r"data.dependent|GuardOnDataDependent|u\d+\b", re.IGNORECASE),
        "the code branches on values of a tensor; use torch.where, torch.cond, or a size known beforehand",
    ),
    (
        re.compile(
            r"shapes? cannot be multiplied|size mismatch|to have \d+ channels|must match|invalid for input"
        ),
        "check the shapes in --input against what the model's first layers take",
    ),
    (
        re.compile(r"missing .*required positional|takes \d+ positional|got an unexpected"),
        "give one --input for each parameter of forward",
    ),
    (
        re.compile(r"same dtype|Expected .*dtype|scalar type|Expected tensor for argument #1 'indices'"),
        "give the inputs the dtype that the model takes, for example --input tokens=1x16:int64",
    ),
)
_NODE = re.compile(r"translating node %(?P<name>\w+) :")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def call_failure(error: BaseException, module: str, inputs: Sequence[torch.Tensor]) -> InputError:
    """What a module raised when it was simply called with the example inputs."""
    given = ", ".join(
        f"{'x'.join(map(str, each.shape)) or 'scalar'}:{str(each.dtype).removeprefix('torch.')}"
        for each in inputs
    )
    return InputError(
        f"{module} cannot be called with the inputs {given or '(none)'}: {_reason(error)}",
        hint=_hint(error) or "give inputs of the number, shapes and dtypes that its forward takes",
        where=source_line(error),
    )


def export_failure(error: BaseException, module: str) -> BridgeError:
    """What torch.export, or the module's own code while it was exported, raised, as a BridgeError."""
    reason = _reason(error)
    return BridgeError(
        f"{module} cannot be exported by torch.export: {reason}",
        hint=_hint(error)
        or "change that part to operations on tensors, and try torch.export.export(module, inputs) on it",
        where=source_line(error),
    )


def _reason(error: BaseException) -> str:
    text = _ANSI.sub("", first_line(error))
    return text if len(text) <= 300 else f"{text[:297]}..."


def _hint(error: BaseException) -> str | None:
    text = f"{type(error).__name__}: {error}"
    return next((hint for pattern, hint in _HINTS if pattern.search(text)), None)


def translation_failure(error: OnnxExporterError, program: ExportedProgram) -> BridgeError:
    """What torch.onnx raised for a program, as UnsupportedOps where operators lack a translation."""
    missing = _untranslatable(error, program)
    if missing:
        return UnsupportedOps(
            missing,
            target="ONNX",
            hint="write the model with operations that torch.onnx can translate",
        )
    root: BaseException = error
    while root.__cause__ is not None:
        root = root.__cause__
    node = _failing_node(error, program)
    return BridgeError(
        f"torch.onnx cannot translate {node.target if node is not None else 'the program'}: {_reason(root)}",
        hint="write that line with other operations, or report it to PyTorch with "
        "torch.onnx.export(..., report=True)",
        where=None if node is None else location_of_node(node),
    )


def _untranslatable(error: BaseException, program: ExportedProgram) -> list[UnsupportedOp]:
    """Every operator of the decomposed program without a translation, if that is what failed."""
    # A second to import, and only what was exported to ONNX fails this way.
    from torch.onnx._internal.exporter._dispatching import dispatch
    from torch.onnx._internal.exporter._errors import DispatchError
    from torch.onnx._internal.exporter._fx_passes import decompose_with_registry, remove_assertion_nodes
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, DispatchError):
        cause = cause.__cause__
    if cause is None:
        return []
    registry = ONNXRegistry.from_torchlib()
    found: dict[str, tuple[str, list[str]]] = {}
    decomposed = decompose_with_registry(program, registry)
    remove_assertion_nodes(decomposed.graph_module)
    for node in decomposed.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        function, reason = dispatch(node, registry)
        if function is None and node.target not in (dropout_marker(), detached_marker()):
            places = found.setdefault(str(node.target), (_one_line(reason), []))[1]
            places.append(location_of_node(node) or module_path(node) or "the root module")
    return [
        UnsupportedOp(name, "", reason, len(places), tuple(dict.fromkeys(places)))
        for name, (reason, places) in found.items()
    ]


def _failing_node(error: BaseException, program: ExportedProgram) -> fx.Node | None:
    """The node of the program that the exporter's message names, where it still has that name."""
    cause: BaseException | None = error
    while cause is not None:
        match = _NODE.search(str(cause))
        if match is not None:
            return next((node for node in program.graph.nodes if node.name == match["name"]), None)
        cause = cause.__cause__
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split())
