"""The ONNX side: an `.onnx` file under onnxruntime, in float64 under ONNX's reference evaluator."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
)

from bridge.errors import InputError, UnsupportedOps
from bridge.formats.onnx_reader import recover_scope
from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.carriers import carry
from bridge.passes.contrib.run import in_standard_terms
from bridge.worker import device
from bridge.worker.sides.onnx_double import DoubleModel

Array = np.ndarray[Any, np.dtype[Any]]

_MOVES = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
"""Operators whose result has the elements of their first input."""

_REFUSALS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented)
_LACKS = (Fail, NotImplemented)
"""How onnxruntime says that it has no kernel, or not yet this opset."""

_WIDE: Mapping[int, int] = {
    **dict.fromkeys((TensorProto.INT4, TensorProto.INT2), TensorProto.INT8),
    **dict.fromkeys((TensorProto.UINT4, TensorProto.UINT2), TensorProto.UINT8),
    **dict.fromkeys(
        (
            *(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2),
            *(TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT8E8M0, TensorProto.FLOAT4E2M1),
        ),
        TensorProto.FLOAT,
    ),
}
"""Types that onnxruntime does not exchange with numpy, and those that hold every value of theirs."""


def load(request: Mapping[str, Any]) -> OnnxSide:
    """Load the model of a ReadRequest (as JSON).

    Raises InputError where it is none that onnxruntime runs, and where another `dtype` is asked for.
    """
    rest = dict(request)
    dtype = rest.pop("dtype", None)
    if dtype is not None:
        raise InputError(
            f"an ONNX model computes in the types that are written in it, not in {dtype}",
            hint="leave out --dtype, or give the model in that type",
            where=str(rest["path"]),
        )
    return OnnxSide(ReadRequest.from_json(rest).path)


class OnnxSide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, path: str) -> None:
        try:
            # ONNX's loader confines external data to the directory of the model.
            self._model = onnx.load(path)
        except (onnx.checker.ValidationError, ValueError, OSError) as error:
            raise InputError(f"the ONNX model cannot be loaded: {error}", where=path) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 4
        self._narrow = {each.name: _type(each) for each in self._model.graph.output if _type(each) in _WIDE}
        self._session: onnxruntime.InferenceSession | None = None
        self._evaluator: ReferenceEvaluator | None = None
        self.notes: list[str] = []
        self.what = f"ONNX model under onnxruntime {onnxruntime.__version__}{device.words()}"
        try:
            self._session = self._opened(path, options)
            device.check_onnx_session(self._session)
        except _LACKS as error:
            self._evaluator = _evaluator(self._model, error, path)
            self.what = f"ONNX model under the reference evaluator of ONNX {onnx.__version__}"
            self.notes.append(f"onnxruntime does not run the model: {error}")
        except _REFUSALS as error:
            raise InputError(f"onnxruntime refuses the model: {error}", where=path) from error
        self._double: DoubleModel | None = None
        weights = {tensor.name for tensor in self._model.graph.initializer}
        limits = _limits(self._model.graph)
        self.inputs = [
            {**_spec(value), "limit": limits.get(value.name)}
            for value in self._model.graph.input
            if value.name not in weights
        ]
        self.outputs = [value.name for value in self._model.graph.output]

    def weights(self) -> dict[str, Array]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._evaluator is not None:
            return [np.asarray(each) for each in self._evaluator.run(None, dict(feeds))]
        assert self._session is not None
        results: list[Array] = self._session.run(None, {name: _widened(each) for name, each in feeds.items()})
        return [
            each.astype(helper.tensor_dtype_to_np_dtype(self._narrow[name])) if name in self._narrow else each
            for name, each in zip(self.outputs, results, strict=True)
        ]

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of the session. Raises NotImplementedError for everything but inference as it is."""
        from bridge.worker.sides.onnx_timing import OnnxTiming

        if training:
            raise NotImplementedError("onnxruntime does not train")
        if compiled:
            raise NotImplementedError("onnxruntime has no compiler to switch on")
        if self._session is None:
            raise NotImplementedError("the speed of ONNX's reference evaluator, which runs it, says nothing")
        return OnnxTiming(self._session, {name: _widened(each) for name, each in feeds.items()})

    def _opened(self, path: str, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
        """A session of the model; at its boundary wider types take the place of those that numpy lacks."""
        providers = device.onnx_providers(onnxruntime)
        given = self._model.graph.input
        if not self._narrow and not any(_type(each) in _WIDE for each in given):
            return onnxruntime.InferenceSession(path, options, providers=providers)
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        _widen_boundary(model.graph)
        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "model.onnx")
            onnx.save(model, file, save_as_external_data=True, location="model.onnx.data")
            return onnxruntime.InferenceSession(file, options, providers=providers)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self._in_double().run(feeds)

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        return self._in_double().run_noisy(feeds, unit, seed)

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: object = None, *, own: bool = False
    ) -> list[tuple[dict[str, Any], Array]]:
        """Every value of the main graph, under its name. Raises NotImplementedError with cotangents."""
        if cotangents is not None:
            raise NotImplementedError("ONNX's reference evaluator computes no gradients")
        values = self._as_written(feeds) if own else self._in_double().intermediates(feeds)
        return [
            (_record(node, name), values[name])
            for node in self._model.graph.node
            for name in node.output
            if name in values
        ]

    def vjp(self, feeds: Mapping[str, Array], cotangents: object, training: bool) -> None:
        raise NotImplementedError("onnxruntime and ONNX's reference evaluator compute no gradients")

    def _as_written(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """The tensors that the nodes of the main graph compute, under onnxruntime without rewriting."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        _widen_boundary(model.graph)
        names = list(dict.fromkeys(name for node in model.graph.node for name in node.output if name))
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
        options.log_severity_level = 4
        with tempfile.TemporaryDirectory() as directory:
            file = os.path.join(directory, "model.onnx")
            onnx.save(model, file, save_as_external_data=True, location="model.onnx.data")
            try:
                session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
                results = session.run(None, {name: _widened(each) for name, each in feeds.items()})
            except _REFUSALS as error:
                raise NotImplementedError(f"onnxruntime cannot show the values inside it: {error}") from error
        return {
            name: value for name, value in zip(names, results, strict=True) if isinstance(value, np.ndarray)
        }

    def _in_double(self) -> DoubleModel:
        if self._double is None:
            try:
                self._double = DoubleModel(in_standard_terms(self._model))
            except UnsupportedOps as error:
                raise NotImplementedError(str(error)) from error
        return self._double


def _evaluator(model: onnx.ModelProto, refusal: Exception, path: str) -> ReferenceEvaluator:
    """ONNX's reference evaluator of a model that onnxruntime refuses; InputError where it has none either."""
    try:
        return ReferenceEvaluator(model)
    except (NotImplementedError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise InputError(f"onnxruntime refuses the model: {refusal}", where=path) from error


def _type(value: onnx.ValueInfoProto) -> int:
    return int(value.type.tensor_type.elem_type)


def _widened(array: Array) -> Array:
    """An array in the type that a widened boundary takes."""
    if array.dtype.kind != "V" or array.dtype.name == "bfloat16":
        return array
    return carry(array) if "int" in array.dtype.name else array.astype(np.float32)


def _widen_boundary(graph: onnx.GraphProto) -> None:
    """Take and give wider types in place of those that numpy lacks, and convert, exactly, inside."""
    held = {each.name for each in graph.initializer}
    for value in graph.input:
        narrow = _type(value)
        if narrow in _WIDE and value.name not in held:
            inner = f"{value.name}__narrow"
            for node in graph.node:
                node.input[:] = [inner if name == value.name else name for name in node.input]
            value.type.tensor_type.elem_type = _WIDE[narrow]
            graph.node.insert(0, helper.make_node("Cast", [value.name], [inner], to=narrow))
    for value in graph.output:
        narrow = _type(value)
        if narrow in _WIDE:
            inner = f"{value.name}__narrow"
            for node in graph.node:
                node.input[:] = [inner if name == value.name else name for name in node.input]
                node.output[:] = [inner if name == value.name else name for name in node.output]
            graph.node.append(helper.make_node("Cast", [inner], [value.name], to=_WIDE[narrow]))
            value.type.tensor_type.elem_type = _WIDE[narrow]


def _record(node: onnx.NodeProto, name: str) -> dict[str, Any]:
    scope, location = _place(node)
    inputs = [read for read in node.input if read]
    return {"name": name, "operator": node.op_type, "scope": scope, "location": location, "inputs": inputs}


def _place(node: onnx.NodeProto) -> tuple[str | None, str | None]:
    """The module path and the source line of a node; the path in its name if there is no record."""
    holder = ir.Node("", node.op_type, [])
    holder.metadata_props.update({entry.key: entry.value for entry in node.metadata_props})
    if metadata.scope_of(holder) is None:
        recover_scope(holder)
    scope = metadata.scope_of(holder)
    path = node.name.rpartition("/")[0].strip("/") or None if scope is None else metadata.scope_path(scope)
    return path, metadata.location_of(holder)


def _limits(graph: onnx.GraphProto) -> dict[str, int]:
    """For each input that indexes a constant table, directly or moved, the number of its rows."""
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    origins = {value.name: value.name for value in graph.input if value.name not in sizes}
    limits: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in _MOVES and node.input[0] in origins:
            origins[node.output[0]] = origins[node.input[0]]
        elif node.op_type == "Gather" and node.input[0] in sizes and node.input[1] in origins:
            rows = _axis_size(sizes[node.input[0]], node)
            name = origins[node.input[1]]
            limits[name] = min(limits.get(name, rows), rows)
    return limits


def _axis_size(dims: Sequence[int], node: onnx.NodeProto) -> int:
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    return int(dims[axis])


def _spec(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    if value.type.WhichOneof("value") != "tensor_type":
        return {"name": value.name, "dtype": None, "shape": None}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = None
    if tensor.HasField("shape"):
        shape = [
            dim.dim_value if dim.WhichOneof("value") == "dim_value" else dim.dim_param or None
            for dim in tensor.shape.dim
        ]
    return {"name": value.name, "dtype": dtype, "shape": shape}
