"""The side of a PyTorch model in the environment of an old PyTorch.

It runs the module itself, computes its gradients and trains it in float64, and hands it over as a TorchScript
archive for the reader of the present PyTorch.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import os
import platform
import shutil
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bridge.errors import InputError, TrustError
from bridge.formats.request import InputSpec, ReadRequest
from bridge.worker import device
from bridge.worker.compatible import zip_equal
from bridge.worker.references import failed, is_reference, resolve_module, resolve_reference
from bridge.worker.standalone import dtype_named, read_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Array = np.ndarray[Any, np.dtype[Any]]
    Cotangents = Callable[[list[Array]], Sequence[Array | None]]

_HALVES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_NORMS = ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")
_LOAD_FAILURES = (RuntimeError, ValueError, KeyError, AttributeError, ImportError, EOFError, OSError)


def load(request: Mapping[str, Any]) -> LegacyTorchSide:
    """Load the model of a ReadRequest (as JSON), with a `dtype` beside it that `run` shall compute in.

    Raises InputError and TrustError for what cannot be loaded here, EnvironmentFailure without the device.
    """
    record = dict(request)
    dtype = record.pop("dtype", None)
    read = ReadRequest.from_json(record)
    if read.custom_objects is not None:
        resolve_module(read.custom_objects)
    return LegacyTorchSide(read, dtype)


class LegacyTorchSide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, request: ReadRequest, dtype: str | None) -> None:
        self._request = request
        self._dtype = dtype
        self._module = _module(request)
        self._scripted = isinstance(self._module, torch.jit.ScriptModule)
        self._device = device.torch_device(torch)
        self._running = self._placed()
        self._double: Any = None
        self._trained: Any = None
        names = _input_names(self._module)
        if request.inputs:
            given = [each.name for each in request.inputs]
            names = [name or names[position] for position, name in enumerate(given)]
            self.inputs = [_described(name, spec) for name, spec in zip_equal(names, request.inputs)]
        else:
            self.inputs = [{"name": name, "dtype": None, "shape": None, "limit": None} for name in names]
        self._names = names
        self.outputs = None
        kind = "TorchScript" if self._scripted else f"module {type(self._module).__name__}"
        self.what = f"{kind} under {_versions()}{device.words()}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array]:
        """Parameters and buffers, tied ones under every name."""
        return {path: _to_array(each) for path, each in _tensors(self._module).items()}

    def buffers(self) -> list[str]:
        """The weights that are no parameters."""
        return [name for name, _ in self._module.named_buffers()]

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        tensors = [_to_tensor(feeds[name]).to(self._device) for name in self._given(feeds)]
        if self._dtype is not None:
            tensors = [
                each.to(_HALVES[self._dtype]) if each.is_floating_point() else each for each in tensors
            ]
        with torch.no_grad(), device.torch_precision(torch):
            return [_to_array(each) for each in _flat(self._running(*tensors))]

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        """In float64. Raises NotImplementedError where the module's code computes in float32 all the same."""
        if self._double is None:
            self._double = self._widened()
        tensors = [_wide(_to_tensor(feeds[name])) for name in self._given(feeds)]
        with torch.no_grad(), _default_double():
            outputs = [_to_array(each) for each in _flat(self._double(*tensors))]
        if any(each.dtype.kind == "f" and each.dtype != np.float64 for each in outputs):
            raise NotImplementedError("its code computes in float32 whatever its weights are")
        return outputs

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool = False
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        """In float64. In training BatchNorm uses the statistics of the batch; nothing is dropped out."""
        module = self._trainable()
        if training and self._scripted:
            raise NotImplementedError("a TorchScript archive does not say what the model does in training")
        for each in module.modules():
            if type(each).__name__ in _NORMS:
                each.train(training)
        leaves = {name: _wide(_to_tensor(feeds[name])) for name in self._given(feeds)}
        for leaf in leaves.values():
            if leaf.is_floating_point():
                leaf.requires_grad_()
        try:
            with torch.enable_grad(), _default_double():
                given = [each.clone() if each.requires_grad else each for each in leaves.values()]
                outputs = _flat(module(*given))
        finally:
            module.eval()
        arrays = [_to_array(each) for each in outputs]
        pairs = [
            (output, _to_tensor(np.array(cotangent)).to(output.dtype))
            for output, cotangent in zip_equal(outputs, cotangents(arrays))
            if cotangent is not None and output.requires_grad
        ]
        weights = {path: each for path, each in _tensors(module).items() if each.requires_grad}
        floating = {name: leaf for name, leaf in leaves.items() if leaf.requires_grad}
        distinct = list({id(each): each for each in [*floating.values(), *weights.values()]}.values())
        found: dict[int, Any] = {}
        if pairs and distinct:
            gradients = torch.autograd.grad(
                [output for output, _ in pairs],
                distinct,
                [cotangent for _, cotangent in pairs],
                allow_unused=True,
            )
            found = {id(each): gradient for each, gradient in zip_equal(distinct, gradients)}
        return arrays, _present(floating, found), _present(weights, found)

    def state(self) -> dict[str, Array]:
        return {path: _to_array(each).copy() for path, each in _tensors(self._trainable()).items()}

    def assign(self, tensors: Mapping[str, Array]) -> None:
        own = _tensors(self._trainable())
        with torch.no_grad():
            for path, array in tensors.items():
                if path not in own or tuple(own[path].shape) != array.shape:
                    raise InputError(f"the model has no weight {path!r} of the shape {array.shape}")
                own[path].copy_(_to_tensor(np.array(array)))

    def hand_over(self, directory: str) -> dict[str, Any]:
        """Write a TorchScript archive: the file itself where it is one, else the module's trace.

        Raises InputError where nobody says what the inputs are.
        """
        path = os.path.join(directory, "model.pt")
        notes = [f"read by {_versions()}"]
        if self._scripted:
            shutil.copyfile(self._request.path, path)
        else:
            notes += _trace(self._module, self._examples(), self._names, path)
        return {"path": path, "format": "torchscript", "notes": notes}

    def _examples(self) -> list[Any]:
        request = self._request
        if request.examples is not None:
            arrays = np.load(request.examples) if request.examples.endswith(".npz") else None
            found = dict(read_tensors(request.examples, writable=True) if arrays is None else arrays)
            names = [name for name in self._names if name in found] or list(found)
            return [_to_tensor(np.array(found[name])) for name in names]
        if not request.inputs:
            raise InputError(
                "a PyTorch module does not say what its inputs are",
                hint="give their shapes: --input 1x3x224x224 (one --input for each)",
                where=request.path,
            )
        return [_example(each) for each in request.inputs]

    def _given(self, feeds: Mapping[str, Array]) -> list[str]:
        return [name for name in self._names if name in feeds]

    def _placed(self) -> Any:
        if self._dtype is None and self._device.type == "cpu":
            return self._module
        module = self._copy().to(self._device)
        return module if self._dtype is None else module.to(_HALVES[self._dtype])

    def _copy(self) -> Any:
        # Old versions cannot copy TorchScript.
        return _module(self._request) if self._scripted else copy.deepcopy(self._module)

    def _widened(self) -> Any:
        return self._copy().double().eval()

    def _trainable(self) -> Any:
        """A float64 form of its own, which training may change."""
        if self._trained is None:
            self._trained = self._widened()
        return self._trained


def _versions() -> str:
    return f"PyTorch {torch.__version__} and Python {platform.python_version()}"


def _module(request: ReadRequest) -> Any:
    """The module of a request, in evaluation mode on the CPU."""
    try:
        if request.format == "torchscript":
            jit: Any = torch.jit
            return jit.load(request.path, map_location="cpu").eval()
        if request.format == "pickle_module":
            return _unpickled(request).eval()
        if request.format in ("state_dict", "safetensors"):
            module = _built(request.model, request)
            module.load_state_dict(_state(request))
            return module.eval()
        if request.format == "converted":
            return _converted(request.path).eval()
        if request.format == "pt2":
            return torch.export.load(request.path).module()
    except _LOAD_FAILURES as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"PyTorch {torch.__version__} cannot load it: {reason}",
            hint="another version may have written it, or its code is not on the path",
            where=request.path,
        ) from error
    return _built(request.path, request).eval()


def _unpickled(request: ReadRequest) -> Any:
    if not request.trust:
        raise TrustError(
            "the file is a pickle, and reading it runs code that is stored in it",
            hint="if you trust where it comes from, add --trust",
            where=request.path,
        )
    options = {}
    if "weights_only" in inspect.signature(torch.load).parameters:
        options["weights_only"] = False
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    found = torch.load(request.path, map_location="cpu", **options)
    if not isinstance(found, torch.nn.Module):
        raise InputError(f"the file holds a {type(found).__name__}, not a module", where=request.path)
    return found


def _state(request: ReadRequest) -> Any:
    if request.format == "safetensors":
        found = read_tensors(request.path, writable=True)
        return {name: _to_tensor(array) for name, array in found.items()}
    safe = "weights_only" in inspect.signature(torch.load).parameters
    if not safe and not request.trust:
        raise TrustError(
            f"PyTorch {torch.__version__} reads a state_dict only as a pickle, which runs code stored in it",
            hint="if you trust where it comes from, add --trust; or save it as .safetensors",
            where=request.path,
        )
    found = torch.load(request.path, map_location="cpu", **({"weights_only": True} if safe else {}))
    inner = found.get("state_dict") if hasattr(found, "get") else None
    return inner if isinstance(inner, dict) else found


def _built(reference: str | None, request: ReadRequest) -> Any:
    if reference is None:
        raise InputError(
            "the file holds weights only, not the module they belong to",
            hint="name a function that builds the module: --model pkg.mod:build",
            where=request.path,
        )
    found = resolve_reference(reference if is_reference(reference) else f"{reference}:build")
    if not isinstance(found, torch.nn.Module):
        try:
            found = found()
        except Exception as error:  # the factory is the user's and may raise anything
            raise failed(f"calling {reference}()", error, reference) from error
    if not isinstance(found, torch.nn.Module):
        raise InputError(f"{reference} returns a {type(found).__name__}, not an nn.Module")
    return found


def _converted(directory: str) -> Any:
    """What `load()` of the model.py in a directory by `bridge convert` gives."""
    spec = importlib.util.spec_from_file_location("bridge_emitted_model", os.path.join(directory, "model.py"))
    if spec is None or spec.loader is None:
        raise InputError("the directory holds no model.py", where=directory)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise InputError(
            f"model.py needs a newer Python than {platform.python_version()}",
            hint="choose another --target-python, or run model.pt2",
            where=directory,
        ) from error
    return module.load()


def _input_names(module: Any) -> list[str]:
    if isinstance(module, torch.jit.ScriptModule):
        return [each.name for each in _schema(module).arguments[1:]]
    parameters = inspect.signature(module.forward).parameters.values()
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    return [each.name for each in parameters if each.kind in named and each.default is each.empty]


def _schema(module: Any) -> Any:
    return module.forward.schema


def _described(name: str, spec: InputSpec) -> dict[str, Any]:
    return {"name": name, "dtype": spec.dtype, "shape": list(spec.shape), "limit": None}


def _example(spec: InputSpec) -> Any:
    """An input to trace with: 2 of a free first axis, 3 of another, normal numbers, ids of 0 and 1."""
    shape = [
        size if isinstance(size, int) else (2 if axis == 0 else 3) for axis, size in enumerate(spec.shape)
    ]
    random = np.random.RandomState(0)
    if spec.dtype.startswith("float"):
        return _to_tensor(random.standard_normal(shape).astype(spec.dtype))
    return _to_tensor(random.randint(0, 2, shape).astype(spec.dtype))


def _trace(module: Any, examples: list[Any], names: Sequence[str], path: str) -> list[str]:
    """Write the trace of a module, and tell what PyTorch warns of."""
    jit: Any = torch.jit
    with warnings.catch_warnings(record=True) as caught, torch.no_grad():
        warnings.simplefilter("always")
        traced = jit.trace(module, tuple(examples), check_trace=False)
    # Old versions call the inputs of a trace what they like.
    for value, name in zip_equal(list(traced.graph.inputs())[1:], names[: len(examples)]):
        value.setDebugName(name)
    traced.save(path)
    own = os.path.dirname(torch.__file__)
    doubts = [
        each
        for each in caught
        if issubclass(each.category, jit.TracerWarning) and not each.filename.startswith(own)
    ]
    if not doubts:
        return []
    line = f"{os.path.basename(doubts[0].filename)}:{doubts[0].lineno}"
    return [
        f"the trace may hold for inputs like the examples only: Python takes part in {len(doubts)} lines "
        f"({line})"
    ]


def _tensors(module: Any) -> dict[str, Any]:
    """Parameters and buffers, tied ones under every name."""
    found = dict(module.state_dict(keep_vars=True))
    found.update((name, each) for name, each in module.named_buffers() if name not in found)
    return {name: each for name, each in found.items() if isinstance(each, torch.Tensor)}


def _present(tensors: Mapping[str, Any], gradients: Mapping[int, Any]) -> dict[str, Array]:
    pairs = [(name, gradients.get(id(tensor))) for name, tensor in tensors.items()]
    return {name: _to_array(gradient) for name, gradient in pairs if gradient is not None}


def _flat(outputs: Any) -> list[Any]:
    """The tensors of a module's result in order."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, dict):
        return [tensor for each in outputs.values() for tensor in _flat(each)]
    if isinstance(outputs, (list, tuple)):
        return [tensor for each in outputs for tensor in _flat(each)]
    if isinstance(outputs, (bool, int, float)):
        return [torch.tensor(outputs)]
    if outputs is None:
        return []
    raise TypeError(f"the model returns a {type(outputs).__name__}, which is not a tensor")


def _wide(tensor: Any) -> Any:
    return tensor.double() if tensor.is_floating_point() else tensor


def _to_tensor(array: Array) -> Any:
    return torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))


def _to_array(tensor: Any) -> Array:
    plain = tensor.detach().cpu()
    if plain.is_sparse:
        plain = plain.to_dense()
    if plain.dtype == torch.bfloat16:
        bits = plain.contiguous().view(torch.int16).numpy()
        narrow: Array = bits.view(dtype_named("bfloat16"))
        return narrow
    found: Array = plain.numpy()
    return found


@contextmanager
def _default_double() -> Iterator[None]:
    kept = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(kept)
