"""The ONNX side: an `.onnx` file under onnxruntime, in float64 under ONNX's reference evaluator."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    InvalidProtobuf,
    NotImplemented,
)

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.worker.sides.onnx_double import DoubleModel

Array = np.ndarray[Any, np.dtype[Any]]

_REFUSALS = (Fail, InvalidArgument, InvalidGraph, InvalidProtobuf, NotImplemented)


def load(request: Mapping[str, Any]) -> OnnxSide:
    """Load the model of a ReadRequest (as JSON). Raises InputError where it is none that onnxruntime runs."""
    return OnnxSide(ReadRequest.from_json(request).path)


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
        try:
            self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except _REFUSALS as error:
            raise InputError(f"onnxruntime refuses the model: {error}", where=path) from error
        self._double: DoubleModel | None = None
        weights = {tensor.name for tensor in self._model.graph.initializer}
        self.inputs = [_spec(value) for value in self._model.graph.input if value.name not in weights]
        self.outputs = [value.name for value in self._model.graph.output]
        self.what = f"ONNX model under onnxruntime {onnxruntime.__version__}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        return {tensor.name: numpy_helper.to_array(tensor) for tensor in self._model.graph.initializer}

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        results: list[Array] = self._session.run(None, dict(feeds))
        return results

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._double is None:
            self._double = DoubleModel(self._model)
        return self._double.run(feeds)


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
