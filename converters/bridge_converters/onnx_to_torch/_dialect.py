"""How PyTorch modules are spelled."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from torch import nn

from bridge.emit.dialect import Signature
from bridge.emit.docstrings import file_docstring
from bridge.emit.layer import Layer
from bridge.emit.literals import assign, call, dotted, literal, nested
from bridge.hub.recipe import Array

_LOADER = '''
def load(path: str | Path | None = None) -> {root}:
    """Build the model and load its weights, in evaluation mode; `path` defaults to model.safetensors here."""
    model = {root}()
    file = Path(__file__).with_name("model.safetensors") if path is None else Path(path)
    model.load_state_dict(read_safetensors(file))
    return model.eval()


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a safetensors file: a length, a JSON header, then the raw data."""
    dtypes = {dtypes}
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    start = 8 + int.from_bytes(data[:8], "little")
    tensors = {{}}
    for name, entry in json.loads(data[8:start]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = dtypes[entry["dtype"]]
            count = (end - begin) // dtype.itemsize
            tensor = torch.empty(0, dtype=dtype)
            if count:
                tensor = torch.frombuffer(data, dtype=dtype, count=count, offset=start + begin)
            tensors[name] = tensor.reshape(entry["shape"])
    return tensors
'''

_SAFETENSORS_DTYPES = {
    "F64": "torch.float64",
    "F32": "torch.float32",
    "F16": "torch.float16",
    "BF16": "torch.bfloat16",
    "I64": "torch.int64",
    "I32": "torch.int32",
    "I16": "torch.int16",
    "I8": "torch.int8",
    "U8": "torch.uint8",
    "BOOL": "torch.bool",
}


class TorchDialect:
    """The spelling of PyTorch; implements `bridge.emit.dialect.Dialect`."""

    name = "torch"
    forward = "forward"
    tensor_type = "Tensor"
    module_class = "nn.Module"
    root_class = "nn.Module"
    separator = "."
    uses_containers = True
    imports: Mapping[str, str] = {
        "Any": "from typing import Any",
        "Callable": "from collections.abc import Callable",
        "F": "import torch.nn.functional as F",
        "OrderedDict": "from collections import OrderedDict",
        "Path": "from pathlib import Path",
        "Sequence": "from collections.abc import Sequence",
        "Tensor": "from torch import Tensor",
        "json": "import json",
        "math": "import math",
        "mmap": "import mmap",
        "nn": "from torch import nn",
        "torch": "import torch",
    }
    reserved = frozenset(dir(nn.Module()))

    def parameter_names(self, constructor: str) -> tuple[str, ...]:
        """The names of the constructor's parameters, in order."""
        return tuple(_parameters(constructor))

    def parameter_defaults(self, constructor: str) -> Mapping[str, Any]:
        """The constructor's parameters that have a default which is a plain Python value."""
        return {
            name: parameter.default
            for name, parameter in _parameters(constructor).items()
            if isinstance(parameter.default, int | float | str) and name not in ("device", "dtype")
        }

    def typed_constant(self, array: Array) -> ast.expr:
        """`torch.tensor(0.5, dtype=torch.float32)`."""
        return call("torch.tensor", literal(nested(array)), dtype=dotted(f"torch.{array.dtype.name}"))

    def transpose(self, tensor: ast.expr, perm: Sequence[int]) -> ast.expr:
        """`x.t()` or `x.permute(...)`."""
        if tuple(perm) == (1, 0):
            return call(ast.Attribute(tensor, "t", ast.Load()))
        return call(ast.Attribute(tensor, "permute", ast.Load()), *perm)

    def reshape(self, tensor: ast.expr, shape: Sequence[int]) -> ast.expr:
        """`x.reshape(...)`."""
        return call(ast.Attribute(tensor, "reshape", ast.Load()), *shape)

    def parameter(
        self,
        name: str,
        shape: Sequence[ast.expr],
        dtype: str,
        *,
        trainable: bool,
        buffer: bool,
        label: str,
        registered: bool,
    ) -> ast.stmt:
        """An `nn.Parameter`, or a persistent buffer."""
        keywords = {} if dtype == "float32" else {"dtype": dotted(f"torch.{dtype}")}
        size = shape if shape else [ast.Tuple([], ast.Load())]
        empty = call("torch.empty", *size, **keywords)
        if buffer:
            return ast.Expr(call("self.register_buffer", name, empty))
        options = {} if trainable else {"requires_grad": False}
        parameter = call("nn.Parameter", empty, **options)
        if registered:
            return ast.Expr(call("self.register_parameter", name, parameter))
        return assign(f"self.{name}", parameter)

    def constant(self, name: str, array: Array) -> ast.stmt:
        """A buffer that is not saved."""
        return ast.Expr(call("self.register_buffer", name, self.typed_constant(array), persistent=False))

    def freeze(self, tensor: ast.expr) -> ast.stmt:
        """`self.conv.weight.requires_grad_(False)`."""
        return ast.Expr(call(ast.Attribute(tensor, "requires_grad_", ast.Load()), False))

    def tensor_path(self, layer: Layer, slot: str) -> str:
        """The name of the layer's attribute."""
        return slot

    def extra_state(self, layer: Layer) -> Mapping[str, Array]:
        """BatchNorm counts the batches it was trained on; the source's counter, if any, does not matter."""
        if layer.constructor.startswith("nn.BatchNorm"):
            return {"num_batches_tracked": np.zeros((), np.int64)}
        return {}

    def dtype_argument(self, dtype: str) -> Mapping[str, ast.expr]:
        """`dtype=torch.float64`."""
        return {} if dtype == "float32" else {"dtype": dotted(f"torch.{dtype}")}

    def loader(self, root: str) -> list[ast.stmt]:
        """`load()` and the reader of the weights file, which needs nothing but PyTorch."""
        dtypes = "{" + ", ".join(f'"{key}": {value}' for key, value in _SAFETENSORS_DTYPES.items()) + "}"
        return ast.parse(_LOADER.format(root=root, dtypes=dtypes)).body

    def module_docstring(self, root: str, inputs: Signature, outputs: Signature) -> str:
        """The first lines of the emitted file."""
        return file_docstring(
            f"{root} as a PyTorch module.",
            "`load()` gives the model with its weights in evaluation mode, `load().train()` one to train.",
            inputs,
            outputs,
        )


@cache
def _parameters(constructor: str) -> dict[str, inspect.Parameter]:
    target: Any = nn
    for part in constructor.removeprefix("nn.").split("."):
        target = getattr(target, part)
    parameters = dict(inspect.signature(target.__init__).parameters)
    del parameters["self"]
    return parameters


DIALECT = TorchDialect()
