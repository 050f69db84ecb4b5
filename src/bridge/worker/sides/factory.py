"""The side of a Python factory, `pkg.mod:build`: the model that it returns, in the framework it is of.

Neither framework is imported here: the user's module imports its own, and that one is looked for.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.worker.references import failed, resolve_reference
from bridge.worker.standalone import resident_memory

_MODELS = (
    "name a function of no arguments that returns an nn.Module, an ExportedProgram, a keras.Model, a "
    "tf.Module, a tf.function or an onnx.ModelProto"
)

_WRAPPERS = {"torch": "torch_module", "tensorflow": "tf_object", "onnx": "onnx_file"}


def load(request: Mapping[str, Any]) -> Any:
    """Call the factory that the `path` of a ReadRequest (as JSON) names and wrap what it returns.

    The factory takes no arguments. A `dtype` beside the request is what `run` shall compute in. Raises
    InputError where there is no such factory, where it raises, and where it returns no model.
    """
    record = dict(request)
    dtype = record.pop("dtype", None)
    read = ReadRequest.from_json(record)
    started = time.perf_counter()
    factory = _resolved(read.path)
    _import_wrapper()
    late_import = time.perf_counter() - started, resident_memory()
    side = _wrapped(factory, read, dtype)
    side.late_import = late_import
    return side


def _import_wrapper() -> None:
    """Import what wraps a model of the framework at hand, so that loading the model is all that is left."""
    for framework, module in _WRAPPERS.items():
        if framework in sys.modules:
            importlib.import_module(f"bridge.worker.sides.{module}")
            return


def _wrapped(factory: Any, read: ReadRequest, dtype: str | None) -> Any:
    """The side of a model, or of what a function returns."""
    if _is_model(factory):
        return _side(factory, read, dtype)
    if not callable(factory):
        raise InputError(
            f"{read.path} is neither a model nor a function that builds one", hint=_MODELS, where=read.path
        )
    try:
        model = factory()
    except Exception as error:  # the factory is the user's and may raise anything
        raise failed(f"calling {read.path}()", error, read.path) from error
    return _side(model, read, dtype)


def _resolved(reference: str) -> Any:
    """What the reference means; importing it again where only torchvision's compiled part was missing."""
    try:
        return resolve_reference(reference)
    except InputError as error:
        if "torch" not in sys.modules or "torchvision::" not in error.message:
            raise
    from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators

    declare_missing_operators()
    return resolve_reference(reference)


def _is_model(value: Any) -> bool:
    """Whether an object is a model itself, not a function or class that makes one."""
    return not isinstance(value, type) and (
        _is_torch(value) or _is_tensorflow(value) or _is_onnx(value) or _is_program(value)
    )


def _is_torch(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def _is_program(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.export.ExportedProgram)


def _is_tensorflow(value: Any) -> bool:
    keras, tf = sys.modules.get("keras"), sys.modules.get("tensorflow")
    return (
        (keras is not None and isinstance(value, keras.Model))
        or (tf is not None and isinstance(value, tf.Module))
        or (tf is not None and hasattr(value, "get_concrete_function"))
    )


def _is_onnx(value: Any) -> bool:
    onnx = sys.modules.get("onnx")
    return onnx is not None and isinstance(value, onnx.ModelProto)


def _side(model: Any, request: ReadRequest, dtype: str | None) -> Any:
    if _is_torch(model):
        from bridge.worker.sides.torch_arrays import dtype_asked
        from bridge.worker.sides.torch_module import TorchModuleSide

        return TorchModuleSide(model, dtype_asked(dtype))
    if _is_program(model):
        return _program_side(model, dtype)
    if _is_tensorflow(model):
        from bridge.worker.sides.tf_object import TensorFlowObjectSide

        return TensorFlowObjectSide(model, request, dtype)
    if _is_onnx(model):
        return _onnx_side(model, dtype)
    raise InputError(
        f"{request.path} returns {_kind(model)}, which is not a model",
        hint=_MODELS,
    )


def _kind(value: Any) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__} instead of an object of it"
    return "None" if value is None else f"an object of {type(value).__qualname__}"


def _program_side(program: Any, dtype: str | None) -> Any:
    import torch

    from bridge.worker.sides.torch_source import load as load_torch

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "program.pt2"
        torch.export.save(program, path)
        return load_torch(_request(path, "pt2", dtype))


def _onnx_side(model: Any, dtype: str | None) -> Any:
    import onnx

    from bridge.worker.sides.onnx_file import load as load_onnx

    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "model.onnx"
        onnx.save(model, str(path), save_as_external_data=model.ByteSize() > 1_900_000_000)
        return load_onnx(_request(path, "onnx", dtype))


def _request(path: Path, format: str, dtype: str | None) -> dict[str, Any]:
    request = ReadRequest(str(path), format).to_json()
    return request if dtype is None else {**request, "dtype": dtype}
