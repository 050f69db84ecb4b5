"""What is put to the suite: each engine makes something callable of a model, on numpy values."""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper

from bridge.emit import preflight, registry
from bridge.emit.formatting import Formatter
from bridge.emit.imported import load_emitted
from bridge.emit.writer import FILE_NAME, Emitted, emit
from bridge.formats import onnx_reader
from bridge.formats.request import ReadRequest
from bridge.hub.arrays import contiguous
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors
from scripts.onnx_suite.boundary import given, taken

Target = Literal["torch", "tf"]
Run = Callable[[list[Any]], list[Any]]


class AsPrinted(Formatter):
    """A formatter that leaves the text as it is printed, and starts no process."""

    def __init__(self) -> None:
        pass

    def format(self, text: str) -> str:
        return text


def convert(model: onnx.ModelProto, target: Target, directory: Path) -> Emitted:
    """Write model.py and its weights for a model: what `bridge convert` does, without the artifact."""
    file = directory / "case.onnx"
    file.write_bytes(model.SerializeToString())
    hub = pipeline.canonicalise(onnx_reader.read(ReadRequest(str(file), "onnx")))
    prepared = pipeline.prepare(hub, target=target)
    table = registry.table(target)
    preflight.check(prepared, table)
    emitted = emit(prepared, table, registry.dialect(target), AsPrinted())
    (directory / FILE_NAME).write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, contiguous)
    return emitted


def load(target: Target, directory: Path, emitted: Emitted) -> Run:
    """The emitted model, run from its text."""
    return _load_torch(directory, emitted) if target == "torch" else _load_tf(directory, emitted)


def _load_torch(directory: Path, emitted: Emitted) -> Run:
    import torch

    module = load_emitted(directory)

    def run(values: list[Any]) -> list[Any]:
        with torch.no_grad():
            return taken(module(*torch_arguments(values)), emitted.outputs, torch_array)

    return run


def torch_arguments(values: list[Any]) -> list[Any]:
    """The suite's values as an emitted PyTorch model takes them."""
    from bridge.worker.sides.torch_arrays import to_tensor

    return given(values, to_tensor)


def torch_array(value: Any) -> Any:
    """The array of a PyTorch tensor."""
    from bridge.worker.sides.torch_arrays import to_array

    return to_array(value)


def _load_tf(directory: Path, emitted: Emitted) -> Run:
    import tensorflow as tf

    model = load_emitted(directory)
    if not emitted.inputs.others and not emitted.outputs.others:
        model = tf.function(model, input_signature=tf_specs(emitted), autograph=False)

    def run(values: list[Any]) -> list[Any]:
        return taken(model(*tf_arguments(values)), emitted.outputs, tf_array)

    return run


def tf_specs(emitted: Emitted) -> list[Any]:
    """What an emitted Keras model takes, dynamic axes open."""
    import tensorflow as tf

    return [
        tf.TensorSpec(
            None if shape is None else [None if isinstance(size, str) else size for size in shape], dtype
        )
        for shape, dtype in zip(emitted.inputs.shapes, emitted.inputs.carriers, strict=True)
    ]


def tf_arguments(values: list[Any]) -> list[Any]:
    """The suite's values as an emitted Keras model takes them."""
    import tensorflow as tf

    return given(values, tf.convert_to_tensor)


def tf_array(value: Any) -> Any:
    """The array of a TensorFlow tensor."""
    return np.asarray(value)


def onnxruntime_run(model: onnx.ModelProto) -> Run:
    """The model under onnxruntime; the types that it does not exchange with numpy cross by their bytes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [each.name for each in session.get_inputs()]
    types = {each.type for each in (*session.get_inputs(), *session.get_outputs())}
    if not any(name in each for each in types for name in ("float8", "float4", "bfloat16", "int4", "int2")):
        return lambda values: session.run(None, dict(zip(names, values, strict=False)))

    def run(values: list[Any]) -> list[Any]:
        given_values = {name: _ort_value(each) for name, each in zip(names, values, strict=False)}
        return [_array_of(each) for each in session.run_with_ort_values(None, given_values)]

    return run


def _ort_value(value: Any) -> Any:
    import onnxruntime

    array = np.asarray(value)
    if array.dtype.isbuiltin == 1:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    tensor = numpy_helper.from_array(array)
    empty = onnxruntime.OrtValue.ortvalue_from_shape_and_type(list(array.shape), tensor.data_type)
    ctypes.memmove(empty.data_ptr(), tensor.raw_data, len(tensor.raw_data))
    return empty


def _array_of(value: Any) -> Any:
    tensor = onnx.TensorProto(data_type=value.element_type(), dims=value.shape())
    tensor.raw_data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return numpy_helper.to_array(tensor)


def onnx2torch_run(model: onnx.ModelProto) -> Run:
    """The model under onnx2torch."""
    import torch

    from bridge.worker.sides.torch_arrays import flatten, to_tensor

    converted = onnx2torch_module(model)

    def run(values: list[Any]) -> list[Any]:
        with torch.no_grad():
            return flatten(converted(*(to_tensor(np.array(each)) for each in values)))

    return run


def onnx2torch_module(model: onnx.ModelProto) -> Any:
    """What onnx2torch makes of a model."""
    from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    copied = onnx.ModelProto()
    copied.CopyFrom(model)  # it changes the model that it is given
    return importlib.import_module("onnx2torch").convert(copied).eval()


PEERS: dict[str, Callable[[onnx.ModelProto], Run]] = {
    "onnxruntime": onnxruntime_run,
    "onnx2torch": onnx2torch_run,
}
"""What bridge is measured against."""
