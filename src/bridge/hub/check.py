"""Whether a hub graph is a valid ONNX model that a runtime accepts."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

import onnx
import onnx_ir as ir
import onnxruntime
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented

from bridge.errors import BridgeError, UnsupportedOp, UnsupportedOps
from bridge.hub import metadata, schemas
from bridge.hub.graph import all_nodes, describe_node, light_proto, node_name

_RUNTIME_REFUSALS = (Fail, InvalidArgument, InvalidGraph)
_MISSING = (
    "is not a registered function/op",
    "No Op registered for",
    "Exception during initialization",
    "ONNX Runtime only *guarantees*",
)
"""What onnxruntime says of operators and opsets that it does not know, and where a kernel has limits; the
graph itself is resolved before kernels are made."""

_DOMAINS = {
    "": "ONNX opset",
    "ai.onnx.ml": "ONNX ai.onnx.ml opset",
    "ai.onnx.preview": "ONNX ai.onnx.preview opset",
    "ai.onnx.preview.training": "ONNX ai.onnx.preview.training opset",
    schemas.CONTRIB: "onnxruntime's com.microsoft opset",
}
_POSITION = re.compile(node_name(0).replace("0", r"(\d+)"))
_HINT = (
    "if the input is an .onnx file, check how that file was made; "
    "otherwise this is a fault of bridge: please report it with the output of bridge inspect"
)


def check_model(model: ir.Model, *, stage: str) -> None:
    """Check a model with ONNX's own checker (full, with strict shape inference) and onnxruntime.

    `stage` says in an error message when the fault was found, `"after reading"`. Weights are checked by
    type and shape, their bytes are not copied or read, so size is no limit. That onnxruntime has no
    kernel for a node (a float64 convolution), or does not know a newer operator or type of the standard,
    is not a fault of the model.

    Raises UnsupportedOps for operators that are neither in the standard nor defined in the model, and
    BridgeError naming the node for anything else.
    """
    _check_operators(model, stage)
    _check_values(model, stage)
    proto = light_proto(model)
    try:
        onnx.checker.check_model(proto, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, TypeError) as error:
        raise _fault(model, stage, "is not valid ONNX", str(error)) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except NotImplemented:
        return
    except _RUNTIME_REFUSALS as error:
        if _is_limit_of_runtime(str(error), model):
            return
        raise _fault(model, stage, "is refused by onnxruntime", str(error)) from error


def _is_limit_of_runtime(text: str, model: ir.Model) -> bool:
    """Whether onnxruntime only lacks something that ONNX's checker, which knows it, has accepted."""
    if any(phrase in text for phrase in _MISSING):
        return True
    node = _named_node(text, model)
    return "Type Error" in text and node is not None and onnx.defs.has(node.op_type, node.domain)


def _check_operators(model: ir.Model, stage: str) -> None:
    unknown: dict[tuple[str, str, str], list[ir.Node]] = {}
    for node in all_nodes(model):
        reason = _unknown(node, model)
        if reason is not None:
            unknown.setdefault((node.domain, node.op_type, reason), []).append(node)
    if unknown:
        raise UnsupportedOps(
            [
                UnsupportedOp(op_type, domain, reason, len(nodes), _places(nodes))
                for (domain, op_type, reason), nodes in unknown.items()
            ],
            target=f"the ONNX hub ({stage})",
            hint="name the module that registers them with --custom-objects pkg.mod, "
            "or replace them by standard operators in the source model",
        )


def _unknown(node: ir.Node, model: ir.Model) -> str | None:
    if node.op_identifier() in model.functions:
        return None
    version = model.graph.opset_imports.get(node.domain)
    if version is None:
        return f"the model does not import an opset of the domain {node.domain or 'ai.onnx'!r}"
    if schemas.schema(node.op_type, node.domain, version) is not None:
        return None
    if node.domain in _DOMAINS:
        return f"{_DOMAINS[node.domain]} {version} has no such operator"
    return f"the domain {node.domain!r} is not part of the ONNX standard"


def _places(nodes: Sequence[ir.Node]) -> tuple[str, ...]:
    paths = (
        metadata.scope_path(scope) if (scope := metadata.scope_of(node)) else node.name or "?"
        for node in nodes
    )
    return tuple(dict.fromkeys(paths))


def _check_values(model: ir.Model, stage: str) -> None:
    for node in all_nodes(model):
        for value in node.inputs:
            if value is not None and not (
                value.producer() is not None or value.is_graph_input() or value.is_initializer()
            ):
                raise BridgeError(
                    f"the graph is not valid ONNX {stage}: nothing computes the value {value.name!r}",
                    where=describe_node(node),
                    hint=_HINT,
                )


def _fault(model: ir.Model, stage: str, verdict: str, text: str) -> BridgeError:
    """The error for a tool's complaint, with the node that it names by its position."""
    complaint = " ".join(text.split())
    node = _named_node(complaint, model)
    if node is not None:
        complaint = _POSITION.sub(node.name or node.op_type, complaint)
    if len(complaint) > 600:
        complaint = complaint[:600] + " …"
    return BridgeError(
        f"the graph {verdict} {stage}: {complaint}",
        where=None if node is None else describe_node(node),
        hint=_HINT,
    )


def _named_node(text: str, model: ir.Model) -> ir.Node | None:
    found = _POSITION.search(text)
    return None if found is None else next(itertools.islice(all_nodes(model), int(found[1]), None))
