"""Reading an `.onnx` file: its bytes are checked before they are used, and its weights are named."""

from __future__ import annotations

import ast
import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as common_passes
from google.protobuf.message import DecodeError

from bridge.errors import InputError, UnsupportedOp, UnsupportedOps
from bridge.formats.onnx_opset import accept_opset
from bridge.formats.onnx_sparse import densify
from bridge.formats.request import InputSpec, ReadRequest
from bridge.hub import metadata, schemas
from bridge.hub.graph import all_nodes
from bridge.passes.inline import inline_functions

_STANDARD = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training"})

_BUFFERS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (3, 4),
    "ConvInteger": (1, 2, 3),
    "DequantizeLinear": (0, 1, 2),
    "DynamicQuantizeMatMul": (1, 2, 3),
    "MatMulInteger": (0, 1, 2, 3),
    "MatMulIntegerToFloat": (0, 1, 2, 3, 4, 5),
    "MatMulNBits": (1, 2, 3),
    "QGemm": (0, 1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearAdd": (0, 1, 2, 3, 4, 5, 6, 7),
    "QLinearAveragePool": (1, 2, 3, 4),
    "QLinearConcat": (0, 1),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearGlobalAveragePool": (1, 2, 3, 4),
    "QLinearLeakyRelu": (1, 2, 3, 4),
    "QLinearMatMul": (0, 1, 2, 3, 4, 5, 6, 7),
    "QLinearMul": (0, 1, 2, 3, 4, 5, 6, 7),
    "QLinearSigmoid": (1, 2, 3, 4),
    "QLinearSoftmax": (1, 2, 3, 4),
    "QuantizeLinear": (1, 2),
}
"""Inputs that are statistics or quantised weights: kept with the weights, not trained."""

_SETTINGS: dict[str, tuple[int, ...]] = {
    "Clip": (1, 2),
    "Dropout": (1,),
    "OneHot": (1, 2),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
}
"""Inputs that say how an operator works; numbers there are no weights."""

_WEIGHTS: dict[str, tuple[int, ...]] = {
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
"""Inputs that are weights however few numbers they hold."""

_MATRICES: dict[str, tuple[int, ...]] = {
    "GRU": (1, 2, 3),
    "LSTM": (1, 2, 3),
    "MatMul": (0, 1),
    "RNN": (1, 2, 3),
}
"""Further inputs that are weights if they are known."""

_MOVES = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})

_WEIGHTS_ARE_INPUTS = 3
"""The IR version up to which weights had to be inputs too."""

_LARGEST_FILL = 1 << 32
"""Bytes that a weight filled by a node may have."""

_SCOPE_NAMES = "pkg.torch.onnx.name_scopes"
_SCOPE_TYPES = "pkg.torch.onnx.class_hierarchy"

_DEEPEST = 100
"""Subgraphs within subgraphs, at most; protobuf's own limit is of the same size."""


def read(request: ReadRequest) -> ir.Model:
    """An `.onnx` file as a hub model; its data files may lie beside it or below its directory.

    Float initializers count as trained parameters unless they are statistics or settings of an
    operator (a scale of Resize, a bound of Clip). A batch that the file fixes stays fixed, and a note
    says so. Modules are known where PyTorch's exporter wrote them into the file.

    Raises InputError for a damaged file, for data outside the model's directory and for inputs that
    are maps or sparse; UnsupportedOps for operators outside the standard and onnxruntime's domain.
    """
    path = Path(request.path)
    proto = _parse(path)
    _check_tensors(proto, path)
    densify(proto, where=str(path))
    model = _deserialize(proto, path)
    ir.external_data.set_base_dir(model.graph, os.path.abspath(path.parent))
    _check_domains(model, path)
    accept_opset(model, where=str(path))
    try:
        model = inline_functions(model)
    except InputError as error:
        error.where = error.where or str(path)
        raise
    notes = [*_bind_defaults(model)]
    common_passes.LiftConstantsToInitializersPass(lift_all_constants=False, size_limit=16)(model)
    common_passes.LiftSubgraphInitializersToMainGraphPass()(model)
    notes.extend(_check_inputs(model, request, path))
    _lift_filled_weights(model)
    _name_weights(model)
    for node in all_nodes(model):
        recover_scope(node)
        for value in node.outputs:
            if value.name:
                metadata.set_source_value(value, value.name)
    metadata.set_source_info(
        model,
        metadata.SourceInfo(
            framework="onnx",
            format="onnx",
            inputs=tuple(str(value.name) for value in model.graph.inputs),
            outputs=tuple(str(value.name) for value in model.graph.outputs),
            notes=tuple(notes),
            unused_weights=_unused(model),
        ),
    )
    return model


def _parse(path: Path) -> onnx.ModelProto:
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise _damaged(path, "it is not an ONNX model") from error
    if not proto.HasField("graph"):
        raise _damaged(path, "it holds no graph")
    return proto


def _deserialize(proto: onnx.ModelProto, path: Path) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        first = str(error).strip().splitlines()
        raise _damaged(path, first[0] if first else type(error).__name__) from error


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(
        f"the ONNX file is damaged: {reason}",
        hint="export it again, or copy it again completely",
        where=str(path),
    )


def _check_tensors(proto: onnx.ModelProto, path: Path) -> None:
    """Whether every tensor's bytes are where and as many as the file says, before any is read."""
    folder = path.absolute().parent
    for tensor in _tensors(proto.graph):
        _check_tensor(tensor, folder, path)
    for function in proto.functions:
        for node in function.node:
            for tensor in _tensors_of_node(node, 0):
                _check_tensor(tensor, folder, path)


def _tensors(graph: onnx.GraphProto, depth: int = 0) -> Iterator[onnx.TensorProto]:
    if depth > _DEEPEST:
        raise InputError("the graphs in the file are nested too deeply", hint="export it again")
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        yield from _tensors_of_node(node, depth)


def _tensors_of_node(node: onnx.NodeProto, depth: int) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from _tensors(body, depth + 1)


def _check_tensor(tensor: onnx.TensorProto, folder: Path, path: Path) -> None:
    name = f"tensor {tensor.name!r}"
    try:
        dtype = ir.DataType(tensor.data_type)
    except ValueError as error:
        raise _damaged(path, f"{name} has the unknown element type {tensor.data_type}") from error
    if any(dim < 0 for dim in tensor.dims):
        raise _damaged(path, f"{name} has a negative dimension")
    if dtype == ir.DataType.STRING:
        return
    count = 1
    for dim in tensor.dims:
        count *= dim
    needed = -(-count * dtype.bitwidth // 8)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        _check_external(tensor, needed, folder, path)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != needed:
            raise _damaged(path, f"{name} needs {needed} bytes and has {len(tensor.raw_data)}")
    elif needed > 0:
        stored = max(
            len(tensor.float_data),
            len(tensor.int32_data),
            len(tensor.int64_data),
            len(tensor.double_data),
            len(tensor.uint64_data),
        )
        # Each stored number is at most 8 bytes and holds at most two elements (4 bit).
        if stored * 16 < needed:
            raise _damaged(path, f"{name} has {count} elements and stores {stored}")


def _check_external(tensor: onnx.TensorProto, needed: int, folder: Path, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    parts = location.replace("\\", "/").split("/")
    if not location or os.path.isabs(location) or ":" in parts[0] or ".." in parts:
        raise _outside(tensor, location, path)
    file = folder / location
    if not file.resolve().is_relative_to(folder.resolve()):
        raise _outside(tensor, location, path)
    if not file.is_file():
        raise InputError(
            f"the file {location!r} with the model's weights is missing",
            hint=f"copy it beside {path.name}",
            where=str(path),
        )
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    except ValueError as error:
        raise _damaged(path, f"tensor {tensor.name!r} has no readable offset or length") from error
    if length != needed:
        raise _damaged(path, f"tensor {tensor.name!r} needs {needed} bytes and has {length}")
    if offset < 0 or offset + length > file.stat().st_size:
        raise InputError(
            f"{location!r} ends before the weights that the model expects in it",
            hint="copy both files again; they belong together",
            where=str(path),
        )


def _outside(tensor: onnx.TensorProto, location: str, path: Path) -> InputError:
    return InputError(
        f"tensor {tensor.name!r} is stored in {location!r}, outside the model's directory",
        hint="if you trust the file, put a copy of its data beside the model and correct the location in it",
        where=str(path),
    )


def _check_domains(model: ir.Model, path: Path) -> None:
    custom: dict[tuple[str, str, str], int] = {}
    for node in all_nodes(model):
        if node.op_identifier() not in model.functions and (reason := _foreign(node)) is not None:
            key = (node.domain, node.op_type, reason)
            custom[key] = custom.get(key, 0) + 1
    if custom:
        error = UnsupportedOps(
            [UnsupportedOp(name, domain, reason, count) for (domain, name, reason), count in custom.items()],
            target="any framework",
            hint="export the model with standard operators only",
        )
        error.where = str(path)
        raise error


def _foreign(node: ir.Node) -> str | None:
    """Why nobody knows what a node computes; None for the standard's domains, which are checked later."""
    if node.domain == schemas.CONTRIB:
        known = schemas.schema(node.op_type, node.domain, 1) is not None
        return None if known else "onnxruntime has no such operator in this domain"
    return None if node.domain in _STANDARD else "it is not an operator of the ONNX standard"


def _bind_defaults(model: ir.Model) -> Iterator[str]:
    """Let inputs that have a default be weights. Yields what the user should know.

    IR version 3 demanded that every weight be listed as an input; since then it says that a caller may
    give another value.
    """
    given = [str(value.name) for value in model.graph.inputs if value.is_initializer()]
    common_passes.RemoveInitializersFromInputsPass()(model)
    if given and model.ir_version > _WEIGHTS_ARE_INPUTS:
        yield f"inputs with a default are weights of the model, not inputs: {', '.join(given)}"


def _check_inputs(model: ir.Model, request: ReadRequest, path: Path) -> Iterator[str]:
    """Give every axis of every input a size or a name. Yields what the user should know."""
    specs = _assign_specs(model, request, path)
    fixed = []
    for value, spec in zip(model.graph.inputs, specs, strict=True):
        if isinstance(value.type, ir.SequenceType | ir.OptionalType):
            continue
        if not isinstance(value.type, ir.TensorType):
            raise InputError(
                f"the input {value.name!r} is no tensor, sequence or optional",
                hint="cut the model after it, for example with onnx.utils.extract_model",
                where=str(path),
            )
        if value.shape is None:
            if spec is None:
                raise InputError(
                    f"the file does not say the shape of the input {value.name!r}",
                    hint=f"add --input '{value.name}=Nx3x224x224', with its own axes",
                    where=str(path),
                )
            value.shape = ir.Shape(spec.shape)
        elif spec is not None and len(spec.shape) != len(value.shape):
            raise InputError(
                f"--input gives {len(spec.shape)} axes for {value.name!r}, the file {len(value.shape)}",
                hint=f"the file's own shape is {value.shape}",
                where=str(path),
            )
        value.shape = _named_axes(value, spec if request.static_batch else None)
        if len(value.shape) > 0 and isinstance(value.shape[0], int) and not request.static_batch:
            fixed.append(f"{value.name} ({value.shape[0]})")
    if fixed:
        yield f"the file fixes the first axis of {', '.join(fixed)}; export it with a dynamic axis to free it"


def _assign_specs(model: ir.Model, request: ReadRequest, path: Path) -> list[InputSpec | None]:
    """The user's specification for each input: by name, or all by position."""
    inputs = list(model.graph.inputs)
    if len(request.inputs) > len(inputs):
        raise InputError(
            f"{len(request.inputs)} inputs are specified, and the model has {len(inputs)}",
            hint="the model's inputs are: " + ", ".join(str(value.name) for value in inputs),
            where=str(path),
        )
    specs: list[InputSpec | None] = [None] * len(inputs)
    names = [value.name for value in inputs]
    for position, spec in enumerate(request.inputs):
        if spec.name is not None and spec.name not in names:
            raise InputError(
                f"the model has no input {spec.name!r}",
                hint="the model's inputs are: " + ", ".join(str(name) for name in names),
                where=str(path),
            )
        specs[position if spec.name is None else names.index(spec.name)] = spec
    return specs


def _named_axes(value: ir.Value, spec: InputSpec | None) -> ir.Shape:
    assert value.shape is not None
    axes: list[int | str] = []
    for axis, dim in enumerate(value.shape):
        given = spec.shape[axis] if spec is not None else None
        if isinstance(dim, int):
            axes.append(dim)
        elif isinstance(given, int):
            axes.append(given)
        else:
            axes.append(dim.value or ("batch" if axis == 0 else f"{value.name}_axis{axis}"))
    return ir.Shape(axes)


def _lift_filled_weights(model: ir.Model) -> None:
    """Weights that a node fills with one number, as models without their data have them, as initializers.

    If one is the weight of an operator, the others count as weights too, as initializers would. They are
    views of that number until they are written.
    """
    fills = [node for node in model.graph if node.op_type == "ConstantOfShape" and node.domain == ""]
    if not any(_ends_as_weight(node.outputs[0]) for node in fills):
        return
    for node in fills:
        source, output = node.inputs[0], node.outputs[0]
        shape = None if source is None else ir.convenience.get_const_tensor(source)
        given = node.attributes.get("value")
        value = np.zeros(1, np.float32) if given is None else given.as_tensor().numpy()
        if shape is None or output.is_graph_output() or value.dtype.kind != "f":
            continue
        sizes = tuple(int(size) for size in shape.numpy())
        if math.prod(sizes) * value.itemsize > _LARGEST_FILL:
            continue
        tensor = ir.tensor(np.broadcast_to(value.reshape(()), sizes), name=output.name)
        weight = ir.Value(name=output.name, const_value=tensor)
        weight.type, weight.shape = ir.TensorType(tensor.dtype), ir.Shape(sizes)
        output.replace_all_uses_with(weight)
        output.name = None
        model.graph.remove(node, safe=True)
        model.graph.register_initializer(weight)
        if source is not None and source.is_initializer() and not source.uses():
            model.graph.initializers.pop(str(source.name))


def _ends_as_weight(value: ir.Value) -> bool:
    """Whether an operator reads a value as its weight, at once or after moves of its elements."""
    if _role(value) is not None:
        return True
    uses = [(use.node, use.idx) for use in value.uses() if use.node.domain == ""]
    return any(
        index in _MATRICES.get(node.op_type, ())
        or (index == 0 and node.op_type in _MOVES and _ends_as_weight(node.outputs[0]))
        for node, index in uses
    )


def _role(value: ir.Value) -> metadata.WeightKind | None:
    """What a value is to the operators that read it, by its place among their inputs."""
    uses = [(use.node.op_type, use.idx) for use in value.uses() if use.node.domain in ("", schemas.CONTRIB)]
    if any(index in _BUFFERS.get(op, ()) for op, index in uses):
        return "buffer"
    if any(index in _WEIGHTS.get(op, ()) for op, index in uses):
        return "parameter"
    return None


def _name_weights(model: ir.Model) -> None:
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.dtype == ir.DataType.STRING:
            continue
        value.type = value.type or ir.TensorType(tensor.dtype)
        value.shape = value.shape if value.shape is not None else ir.Shape(tensor.shape.numpy())
        kind = _weight_kind(value, tensor)
        if kind is not None:
            info = metadata.WeightInfo(path=name, kind=kind, trainable=kind == "parameter")
            metadata.set_weight_info(value, info)


def _weight_kind(value: ir.Value, tensor: ir.TensorProtocol) -> metadata.WeightKind | None:
    """Whether an initializer is trained, judged by who reads it; None for a plain constant."""
    uses = [(use.node.op_type, use.idx) for use in value.uses() if use.node.domain == ""]
    role = _role(value)
    if role == "buffer":
        return role
    if not tensor.dtype.is_floating_point() or not uses:
        return None
    if tensor.dtype.bitwidth <= 8:
        return "buffer"
    if role is not None:
        return role
    if all(index in _SETTINGS.get(op, ()) for op, index in uses) or tensor.size <= 1:
        return None
    return "parameter"


def recover_scope(node: ir.Node) -> None:
    """PyTorch's exporter writes the module path and classes of each node into the file, as Python lists."""
    names, types = (_texts(node.metadata_props.get(key, "")) for key in (_SCOPE_NAMES, _SCOPE_TYPES))
    if not names or len(names) != len(types):
        return
    entries = []
    parent = ""
    # The first entry is the root, the last the node itself.
    for path, kind in zip(names[1:-1], types[1:-1], strict=True):
        name = path.removeprefix(f"{parent}.") if parent else path
        entries.append(metadata.ScopeEntry(name, kind.rpartition(".")[2]))
        parent = path
    metadata.set_scope(node, entries)


def _texts(literal: str) -> list[str]:
    try:
        value = ast.literal_eval(literal)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return []
    return value if isinstance(value, list) and all(isinstance(each, str) for each in value) else []


def _unused(model: ir.Model) -> tuple[str, ...]:
    return tuple(
        name
        for name, value in model.graph.initializers.items()
        if not value.uses() and not value.is_graph_output()
    )
