"""How Keras 3 models on TensorFlow are spelled."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import keras

from bridge.emit.dialect import Signature
from bridge.emit.docstrings import file_docstring
from bridge.emit.layer import Inner, Layer
from bridge.emit.literals import assign, call, dotted, literal, nested
from bridge.emit.names import snake_case
from bridge.hub.carriers import carrier
from bridge.hub.recipe import Array

_LOADER = '''
def load(path: str | Path | None = None) -> {root}:
    """Build the model and load its weights; `path` defaults to model.safetensors beside this file."""
    model = {root}()
    file = Path(__file__).with_name("model.safetensors") if path is None else Path(path)
    tensors = read_safetensors(file)
    for variable in model.weights:
        variable.assign(tensors[variable.path])
    return model


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Map the tensors of a safetensors file: a length, a JSON header, then the raw data."""
    dtypes = {dtypes}
    data = np.memmap(path, np.uint8, "r")
    start = 8 + int.from_bytes(data[:8].tobytes(), "little")
    tensors = {{}}
    for name, entry in json.loads(data[8:start].tobytes()).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            dtype = dtypes[entry["dtype"]].as_numpy_dtype
            tensors[name] = data[start + begin : start + end].view(dtype).reshape(entry["shape"])
    return tensors
'''

_SAFETENSORS_DTYPES = {
    "F64": "tf.float64",
    "F32": "tf.float32",
    "F16": "tf.float16",
    "BF16": "tf.bfloat16",
    "I64": "tf.int64",
    "I32": "tf.int32",
    "I16": "tf.int16",
    "I8": "tf.int8",
    "U8": "tf.uint8",
    "BOOL": "tf.bool",
}


class TensorFlowDialect:
    """The spelling of Keras 3 on TensorFlow; implements `bridge.emit.dialect.Dialect`."""

    name = "tf"
    forward = "call"
    tensor_type = "tf.Tensor"
    module_class = "keras.layers.Layer"
    root_class = "keras.Model"
    separator = "/"
    uses_containers = False
    imports: Mapping[str, str] = {
        "Any": "from typing import Any",
        "Callable": "from collections.abc import Callable",
        "Path": "from pathlib import Path",
        "Sequence": "from collections.abc import Sequence",
        "json": "import json",
        "keras": "import keras",
        "math": "import math",
        "np": "import numpy as np",
        "tf": "import tensorflow as tf",
    }
    reserved = frozenset(dir(keras.Model)) | {"layers", "inputs", "outputs", "name", "optimizer", "loss"}

    def parameter_names(self, constructor: str) -> tuple[str, ...]:
        """The names of the constructor's parameters, in order."""
        return tuple(_parameters(constructor))

    def parameter_defaults(self, constructor: str) -> Mapping[str, Any]:
        """The constructor's parameters that have a default which is a plain Python value."""
        return {
            name: parameter.default
            for name, parameter in _parameters(constructor).items()
            if isinstance(parameter.default, int | float | str | tuple)
        }

    def typed_constant(self, array: Array) -> ast.expr:
        """`tf.constant(0.5, tf.float32)`."""
        return call("tf.constant", literal(nested(array)), dotted(f"tf.{carrier(array.dtype.name)}"))

    def transpose(self, tensor: ast.expr, perm: Sequence[int]) -> ast.expr:
        """`tf.transpose(x, perm)`."""
        return call("tf.transpose", tensor, tuple(perm))

    def reshape(self, tensor: ast.expr, shape: Sequence[int]) -> ast.expr:
        """`tf.reshape(x, shape)`."""
        return call("tf.reshape", tensor, tuple(shape))

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
        """A `keras.Variable`, which takes its path from the layer that is being built."""
        options: dict[str, Any] = {
            "shape": ast.Tuple(list(shape), ast.Load()),
            "initializer": "zeros",
        }
        if dtype != "float32":
            options["dtype"] = dtype
        if not trainable or buffer:
            options["trainable"] = False
        return assign(f"self.{name}", call("keras.Variable", **options, name=label))

    def constant(self, name: str, array: Array) -> ast.stmt:
        """A constant of the module, not a variable: it is not saved."""
        if array.size == 0:
            return assign(f"self.{name}", call("np.zeros", tuple(array.shape), array.dtype.name))
        return assign(f"self.{name}", call("np.array", literal(nested(array)), array.dtype.name))

    def freeze(self, tensor: ast.expr) -> ast.stmt:
        """`self.conv.kernel.trainable = False`."""
        return assign(ast.Attribute(tensor, "trainable", ast.Store()), ast.Constant(False))

    def tensor_path(self, layer: Layer, slot: str) -> str:
        """The name of the variable; a recurrent layer holds its variables in a cell of its own name."""
        *inner, leaf = slot.split(".")
        if not inner:
            return slot
        if layer.source is not None or layer.constructor == "keras.layers.MultiHeadAttention":
            return slot.replace(".", "/")
        wrapped = layer.args[0] if isinstance(layer.args[0], Inner) else None
        name = snake_case((wrapped or layer).constructor.rpartition(".")[2])
        direction = f"{inner[0].removesuffix('_layer')}_{name}/" if wrapped else ""
        return f"{direction}{name}_{inner[-1]}/{leaf}"

    def extra_state(self, layer: Layer) -> Mapping[str, Array]:
        """Keras layers have no state beyond what a source has."""
        return {}

    def dtype_argument(self, dtype: str) -> Mapping[str, ast.expr]:
        """`dtype='float64'`."""
        return {} if dtype == "float32" else {"dtype": literal(dtype)}

    def loader(self, root: str) -> list[ast.stmt]:
        """`load()` and the reader of the weights file, which needs nothing but TensorFlow."""
        dtypes = "{" + ", ".join(f'"{key}": {value}' for key, value in _SAFETENSORS_DTYPES.items()) + "}"
        return ast.parse(_LOADER.format(root=root, dtypes=dtypes)).body

    def module_docstring(self, root: str, inputs: Signature, outputs: Signature) -> str:
        """The first lines of the emitted file."""
        return file_docstring(
            f"{root} as a Keras model on TensorFlow.",
            "`load()` gives the model with its weights; `load()(x, training=True)` runs it as in training.",
            inputs,
            outputs,
        )


@cache
def _parameters(constructor: str) -> dict[str, inspect.Parameter]:
    target: Any = keras
    for part in constructor.removeprefix("keras.").split("."):
        target = getattr(target, part)
    parameters = dict(inspect.signature(target.__init__).parameters)
    return {
        name: parameter
        for name, parameter in parameters.items()
        if name != "self" and parameter.kind is not parameter.VAR_KEYWORD
    }


DIALECT = TensorFlowDialect()
