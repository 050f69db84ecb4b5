"""Keras models: loading them from files, and tracing them with hooks into a bundle."""

from __future__ import annotations

import importlib
import json
import re
import time
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from bridge.errors import BridgeError, InputError, TrustError
from bridge.formats.request import InputSpec, ReadRequest
from bridge_converters.tf_to_onnx.bundle import Bundle, Weight
from bridge_converters.tf_to_onnx.functions import Signature, distinct, port
from bridge_converters.tf_to_onnx.hooks import Recorder, keras_hooks, repaired_keras
from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables
from bridge_converters.tf_to_onnx.lift import Lifted, arguments, lift_variables

_CUSTOM_HINT = (
    "name the module that defines and registers it (keras.saving.register_keras_serializable): "
    "--custom-objects pkg.mod"
)

_AUTOMATIC_NAME = re.compile(r"(functional|sequential|model)(_\d+)?")
"""The names Keras gives to models that have none."""
_LARGEST_TEXT = 1 << 28
"""Bytes of the largest description of a model that is read."""


def load_keras(request: ReadRequest) -> keras.Model:
    """The model in a `.keras` or `.h5` file, or the factory's model with weights from a file.
    Raises TrustError for code stored in the file (Lambda) without the user's trust, InputError for custom
    classes that are not registered and for files Keras refuses.
    """
    if request.custom_objects is not None:
        import_module(request.custom_objects)
    if request.format == "h5_weights":
        return factory_model(request)
    _refuse_changed_meanings(request)
    try:
        model = keras.models.load_model(request.path, compile=False, safe_mode=not request.trust)
    except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError) as error:
        raise _load_error(error, request) from error
    if not isinstance(model, keras.Model):
        raise InputError(f"the file holds a {type(model).__name__}, not a model", where=request.path)
    return model


def import_module(name: str) -> Any:
    """Import a module that the user named. Raises InputError if there is none."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise InputError(
            f"no module named {error.name!r}",
            hint="run bridge from the directory that holds it, or add that to PYTHONPATH",
        ) from error


def factory_model(request: ReadRequest) -> keras.Model:
    """The model that the user's factory builds, with the weights of a file.

    Raises InputError if the request names no factory and if the weights do not fit.
    """
    if request.model is None:
        raise InputError(
            "the file holds weights only, not the model they belong to",
            hint=f"name a function that builds the model: bridge convert {_file_name(request.path)} "
            "--model pkg.mod:build",
            where=request.path,
        )
    module, _, attribute = request.model.partition(":")
    factory = getattr(import_module(module), attribute or "build", None)
    if not callable(factory):
        raise InputError(f"{request.model!r} is not a function", hint="write --model package.module:function")
    model = factory()
    if not isinstance(model, keras.Model):
        raise InputError(
            f"{request.model} returned a {type(model).__name__}, not a keras.Model",
            hint="return the model that the weights belong to",
        )
    if not model.built and request.inputs:
        model.build([tuple(None if isinstance(axis, str) else axis for axis in request.inputs[0].shape)])
    try:
        model.load_weights(request.path)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(
            f"the weights do not fit the model of {request.model}: {_first_line(error)}",
            hint="the function must build the very architecture that the weights were saved from",
            where=request.path,
        ) from error
    return model


def _load_error(error: Exception, request: ReadRequest) -> InputError:
    text = str(error)
    if "safe_mode" in text or "unsafe deserialization" in text or "arbitrary code" in text:
        return TrustError(
            "the model contains Python code (a Lambda layer) that reading it would run",
            hint="if you trust where it comes from, add --trust",
            where=request.path,
        )
    if "Could not locate" in text or "Unknown layer" in text or "Unknown object" in text or "custom" in text:
        return InputError(
            f"the model uses a class that is not part of Keras: {_first_line(error)}",
            hint=_CUSTOM_HINT,
            where=request.path,
        )
    return InputError(
        f"Keras cannot load the model: {_first_line(error)}",
        hint=_version_hint(request),
        where=request.path,
    )


def _version_hint(request: ReadRequest) -> str:
    """What to do about a file that Keras refuses: most often it is Keras 2's."""
    written = _written_by(request.path)
    if written is None or written.startswith("3."):
        return f"this is Keras {keras.__version__}; the file may be damaged, or from a newer version"
    return (
        f"Keras {written} wrote it, and this is Keras {keras.__version__}: give a requirements file with the "
        "TensorFlow it was made with (Keras 2 is in tensorflow<2.16): --source-env requirements.txt"
    )


def _written_by(path: str) -> str | None:
    """The version of Keras that wrote a file, where it says so."""
    if zipfile.is_zipfile(path):
        try:
            record = json.loads(_member(path, "metadata.json") or "{}")
        except json.JSONDecodeError:
            return None
        version = record.get("keras_version") if isinstance(record, dict) else None
    else:
        version = _attribute(path, "keras_version")
    return version if isinstance(version, str) else None


def _refuse_changed_meanings(request: ReadRequest) -> None:
    """Raise InputError for a file of Keras 2 that Keras 3 loads as another function.

    The hard sigmoid of Keras 2 is max(0, min(1, 0.2 * x + 0.5)), that of Keras 3 relu6(x + 3) / 6.
    """
    if (_written_by(request.path) or "3").startswith("3"):
        return
    if zipfile.is_zipfile(request.path):
        config = _member(request.path, "config.json")
    else:
        config = _attribute(request.path, "model_config")
    if config is not None and '"hard_sigmoid"' in config:
        raise InputError(
            "the model has a hard sigmoid, which Keras 2 computes with the slope 1/5 and Keras 3 with 1/6",
            hint=_version_hint(request),
            where=request.path,
        )


def _member(path: str, name: str) -> str | None:
    """A text in a `.keras` archive; None where it has none, or a damaged one, of which Keras tells.

    Raises InputError for a text that is too large to be one.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if name not in archive.namelist():
                return None
            if archive.getinfo(name).file_size > _LARGEST_TEXT:
                raise InputError(f"{name} in the archive is larger than 256 MiB", where=path)
            return archive.read(name).decode("utf-8", errors="replace")
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError):
        return None


def _attribute(path: str, name: str) -> str | None:
    """A text beside the tensors of an HDF5 file; None where it has none, or is no such file."""
    if not h5py.is_hdf5(path):
        return None
    with h5py.File(path, "r") as file:
        text = file.attrs.get(name)
    return text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text


def trace_keras(
    model: keras.Model,
    *,
    format: str = "keras",
    inputs: Sequence[InputSpec] = (),
    static_batch: bool = False,
) -> Bundle:
    """Trace a model's inference computation into a bundle.

    `inputs` override the shapes and dtypes the model declares, and are needed for a subclassed model that
    declares none. Raises InputError for inputs that are no plain tensors of numbers.
    """
    started = time.perf_counter()
    _refuse_kept_states(model)
    function, names, recorder = trace_function(model, inputs, static_batch=static_batch, hooks=True)
    ports = tuple(port(name, tensor) for name, tensor in zip(names, arguments(function), strict=True))
    outputs = tuple(
        port(name, tensor)
        for name, tensor in zip(_output_names(model, function), function.outputs, strict=True)
    )
    lifted = lift_variables(function, is_state=lambda tensor: _attribute_path(model, tensor) is not None)
    weights, unused, values = _bind(model, lifted)
    return Bundle(
        graph=lifted.graph,
        inputs=ports,
        outputs=outputs,
        weights=tuple(weights),
        values=values,
        format=format,
        root_type=_root_type(model),
        batched=all(port.shape is not None and len(port.shape) > 0 for port in ports),
        unused=tuple(unused),
        scopes=recorder.scopes,
        notes=tuple(dict.fromkeys(recorder.notes)),
        seconds=time.perf_counter() - started,
    )


def _refuse_kept_states(model: keras.Model) -> None:
    """Raise BridgeError for a recurrent layer that starts where its last call ended."""
    paths = layer_paths(model)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.RNN) and layer.stateful:
            raise BridgeError(
                f"the {type(layer).__name__} {layer.name!r} keeps its state from one call to the next, and a "
                "converted model computes from its inputs alone",
                hint="build the layer with stateful=False, and where the state matters take it as an input "
                "(initial_state) and give it back (return_state=True); the weights fit as they are",
                where="/".join(paths.get(id(layer), (layer.name,))),
            )


def _root_type(model: keras.Model) -> str:
    """The model's class, or the name that its author gave to a model put together from layers."""
    own = type(model).__name__
    if own not in ("Functional", "Sequential") or _AUTOMATIC_NAME.fullmatch(model.name):
        return own
    return str(model.name)


def trace_function(
    model: keras.Model,
    inputs: Sequence[InputSpec],
    *,
    static_batch: bool,
    hooks: bool,
    training: bool = False,
) -> tuple[tf.types.experimental.ConcreteFunction, list[str], Recorder]:
    """The function of a model over flat inputs, their names, and what the trace recorded.

    With `hooks` the function contains markers and cannot be run.
    """
    paths = layer_paths(model)
    recorder = Recorder(model, {each: path[-1] for each, path in paths.items() if path})
    structure, names, specs = _signature(model, inputs, static_batch)

    def call(*tensors: tf.Tensor) -> Any:
        return model(keras.tree.pack_sequence_as(structure, list(tensors)), training=training)

    traced = tf.function(call, input_signature=specs, autograph=False)
    if not hooks:
        with repaired_keras():
            return traced.get_concrete_function(), names, recorder
    with keras_hooks(recorder):
        return traced.get_concrete_function(), names, recorder


def plain_signature(
    model: keras.Model,
    inputs: Sequence[InputSpec] = (),
    *,
    static_batch: bool = False,
    training: bool = False,
) -> Signature:
    """The function of a model as Keras computes it, without hooks; it can be run."""
    function, names, _ = trace_function(
        model, inputs, static_batch=static_batch, hooks=False, training=training
    )
    return Signature(function, tuple(names), _output_names(model, function), model)


def example_inputs(
    model: keras.Model, inputs: Sequence[InputSpec] = (), *, static_batch: bool = False
) -> Any:
    """Symbolic inputs of a model, in the structure of its first argument; calling it with them builds it."""
    structure, _, specs = _signature(model, inputs, static_batch)
    symbols = [keras.KerasTensor(each.shape.as_list(), each.dtype.name) for each in specs]
    return keras.tree.pack_sequence_as(structure, symbols)


def _output_names(model: keras.Model, function: tf.types.experimental.ConcreteFunction) -> tuple[str, ...]:
    """The keys of a model that returns a dictionary, else its output layers' names, else `output_0`, ..."""
    structure, count = function.structured_outputs, len(function.outputs)
    if isinstance(structure, dict) and len(structure) == count:
        return distinct(sorted(structure))
    names = list(getattr(_functional(model), "output_names", None) or [])
    return distinct(names if len(names) == count else [f"output_{position}" for position in range(count)])


def _functional(model: keras.Model) -> Any:
    if isinstance(model, keras.Sequential) and model._functional is not None:
        return model._functional
    return model


def _signature(
    model: keras.Model, overrides: Sequence[InputSpec], static_batch: bool
) -> tuple[Any, list[str], list[tf.TensorSpec]]:
    """The structure of the model's first argument, the names of its leaves, and their specs."""
    functional = _functional(model)
    declared = getattr(functional, "_inputs_struct", None)
    if declared is None:
        declared = _declared_shapes(model, overrides)
    leaves = keras.tree.flatten(declared)
    names = _input_names(functional, leaves)
    if overrides and len(overrides) != len(leaves):
        raise InputError(
            f"the model has {len(leaves)} input(s) ({', '.join(names)}), but {len(overrides)} were specified",
            hint="give one --input for each",
        )
    by_name = {each.name: each for each in overrides if each.name is not None}
    unknown = sorted(set(by_name) - set(names))
    if unknown and not set(names) <= {f"input_{position}" for position in range(len(names))}:
        raise InputError(f"the model has no input {unknown[0]!r}", hint=f"its inputs are {', '.join(names)}")
    specs = []
    for position, (name, leaf) in enumerate(zip(names, leaves, strict=True)):
        override = by_name.get(name) or (overrides[position] if overrides else None)
        specs.append(_spec(name, leaf, override, static_batch))
    return declared, names, specs


def _declared_shapes(model: keras.Model, overrides: Sequence[InputSpec]) -> Any:
    """The inputs of a subclassed model: what it was built with, or what the user says."""
    shapes = getattr(model, "_build_shapes_dict", None)
    if overrides:
        leaves = [
            keras.KerasTensor((1,), each.dtype, name=each.name or f"input_{position}")
            for position, each in enumerate(overrides)
        ]
        return leaves[0] if len(leaves) == 1 else leaves
    if shapes and len(shapes) == 1:
        (shape,) = shapes.values()
        return keras.tree.map_shape_structure(
            lambda each: keras.KerasTensor((None, *each[1:]), model.input_dtype), shape
        )
    raise InputError(
        "the model is a subclass that does not say what its inputs are",
        hint="give their shapes, axis 0 dynamic: --input Nx224x224x3 (one --input for each)",
    )


def _input_names(functional: Any, leaves: Sequence[keras.KerasTensor]) -> list[str]:
    names = []
    for position, leaf in enumerate(leaves):
        history = getattr(leaf, "_keras_history", None)
        name = history.operation.name if history is not None else f"input_{position}"
        names.append(name)
    return list(distinct(names))


def _spec(
    name: str, leaf: keras.KerasTensor, override: InputSpec | None, static_batch: bool
) -> tf.TensorSpec:
    if leaf.sparse or getattr(leaf, "ragged", False):
        raise InputError(
            f"the input {name!r} is sparse or ragged", hint="bridge converts models of dense tensors only"
        )
    dtype = leaf.dtype if override is None else override.dtype
    if dtype == "string":
        raise InputError(
            f"the input {name!r} is a string",
            hint="cut the model after its text processing, and feed it numbers",
        )
    shape = list(leaf.shape)
    if override is not None:
        shape = [None if isinstance(axis, str) else axis for axis in override.shape]
    if static_batch and shape and shape[0] is None:
        shape[0] = 1
    return tf.TensorSpec(shape, dtype, name=name)


def _bind(model: keras.Model, lifted: Lifted) -> tuple[list[Weight], list[Weight], Mapping[str, np.ndarray]]:
    """The weights behind the graph's placeholders, those it does not use, and their values."""
    known = {id(each.variable.value.handle): each for each in variables(model, layer_paths(model))}
    used: set[int] = set()
    bound: list[Weight] = []
    values: dict[str, np.ndarray] = {}
    extra = 0
    for capture in lifted.captures:
        values[capture.node] = capture.numpy()
        record = None if capture.variable is None else known.get(id(capture.variable.handle))
        if record is not None and capture.variable is not None:
            used.add(id(capture.variable.handle))
            bound.append(Weight(capture.node, record.path, record.kind, record.trainable))
        elif capture.variable is not None:
            name = capture.variable.name.split(":")[0]
            trainable = bool(capture.variable.trainable)
            bound.append(Weight(capture.node, name, "parameter" if trainable else "buffer", trainable))
        else:
            path = _attribute_path(model, capture.tensor)
            if path is None:
                path, extra = f"constant_{extra}", extra + 1
            bound.append(Weight(capture.node, path, "buffer", False))
    order = {record.path: position for position, record in enumerate(known.values())}
    bound.sort(key=lambda weight: order.get(weight.path, len(order)))
    unused = [
        Weight("", record.path, record.kind, record.trainable)
        for handle, record in known.items()
        if handle not in used
    ]
    return bound, unused, values


def _attribute_path(model: keras.Model, tensor: tf.Tensor | None) -> str | None:
    """The path of a tensor that a layer keeps as a plain attribute: that of the layer, then the attribute."""
    paths = layer_paths(model)
    for layer in model._flatten_layers():
        for name, value in vars(layer).items():
            if value is tensor and id(layer) in paths:
                return "/".join((*paths[id(layer)], name))
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


def _file_name(path: str) -> str:
    return path.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
