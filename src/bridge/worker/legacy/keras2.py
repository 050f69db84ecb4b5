"""Models of Keras 2: loading them, the names of their weights, their traces, and their form in float64.

The rule for paths is that of `bridge_converters.tf_to_onnx.keras_tree`, so that a model has the same names
whichever Keras reads it.
"""

from __future__ import annotations

import json
import os
import sys
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.form import Form, Naming, function_routine
from bridge_converters.tf_to_onnx.functions import Signature, capture_handles, distinct
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.scopes import keras_scopes

from bridge.errors import BridgeError, EnvironmentFailure, InputError, TrustError
from bridge.worker.compatible import zip_equal
from bridge.worker.references import resolve_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from bridge.formats.request import InputSpec, ReadRequest
    from bridge.hub.metadata import WeightKind

    Array = np.ndarray[Any, np.dtype[Any]]

_NARROWER = {
    "float64": frozenset(["float32", "float16", "bfloat16", "mixed_float16", "mixed_bfloat16"]),
    "float16": frozenset(["float32"]),
    "bfloat16": frozenset(["float32"]),
}
"""The dtypes and policies that give way to a dtype."""
_DROPPING = ("rate", "stddev", "dropout", "recurrent_dropout", "_dropout")
_FAILURES = (ValueError, TypeError, NotImplementedError, KeyError, AttributeError, tf.errors.OpError)
_OWN_CELLS = {"LSTM": "lstm_cell", "GRU": "gru_cell", "SimpleRNN": "simple_rnn_cell"}
"""What Keras 3 calls the cell that a layer makes for itself; Keras 2 counts them."""
_NO_WEIGHTS = ("StateVar", "seed_generator_state")
_UNTRAINED = "Keras cannot build this model in float64, so that only its inference function is at hand"
_INPUTS_HINT = "give their shapes, axis 0 dynamic: --input Nx224x224x3 (one --input for each)"


def library() -> Any:
    """Keras 2: TensorFlow's own up to 2.15, the package `tf_keras` beside newer ones.

    Raises EnvironmentFailure where neither is there.
    """
    if _numbers(tf.__version__) < (2, 16):
        return tf.keras
    try:
        import tf_keras
    except ImportError as error:
        raise EnvironmentFailure(
            f"the environment has TensorFlow {tf.__version__}, which brings no Keras 2",
            hint="put tensorflow<2.16 into the requirements, or tf-keras of the same version as TensorFlow",
        ) from error
    return tf_keras


def version() -> str:
    """The version of `library`."""
    for name in ("tf_keras", "keras"):
        found = getattr(sys.modules.get(name), "__version__", None)
        if found is not None and _numbers(found) < (3,):
            return str(found)
    return str(getattr(library(), "__version__", "2"))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


def is_model(value: Any) -> bool:
    """Whether an object is a model of Keras 2."""
    return isinstance(value, library().Model)


def custom_objects(request: ReadRequest) -> dict[str, Any]:
    """The classes and functions that the user's module defines, by name, whether it registers them or not."""
    if request.custom_objects is None:
        return {}
    module = resolve_module(request.custom_objects)
    return {
        name: value
        for name, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", None) == module.__name__
    }


def load_file(request: ReadRequest) -> Any:
    """The model in a `.h5` or `.keras` file, or in a SavedModel that Keras wrote.

    Raises TrustError for code stored in the file (Lambda) without the user's trust, InputError for a
    class that is not known and for what Keras refuses.
    """
    if not request.trust and _stores_code(request.path):
        raise TrustError(
            "the model contains Python code (a Lambda layer) that reading it would run",
            hint="if you trust where it comes from, add --trust",
            where=request.path,
        )
    keras = library()
    options = {} if _numbers(version()) < (2, 13) else {"safe_mode": not request.trust}
    custom = custom_objects(request)
    try:
        model = keras.models.load_model(request.path, custom_objects=custom, compile=False, **options)
    except (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError, IndexError) as error:
        raise _load_error(error, request) from error
    if not isinstance(model, keras.Model):
        raise InputError(f"the file holds a {type(model).__name__}, not a model", where=request.path)
    return model


def _load_error(error: Exception, request: ReadRequest) -> InputError:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
    if "Unknown layer" in text or "Unknown " in text or "Could not locate" in text or "custom" in text:
        return InputError(
            f"the model uses a class that is not part of Keras: {text}",
            hint="name the module that defines it: --custom-objects pkg.mod",
            where=request.path,
        )
    return InputError(
        f"Keras {version()} cannot load the model: {text}",
        hint="the file may be from another version: its requirements go into --source-env",
        where=request.path,
    )


def _stores_code(path: str) -> bool:
    """Whether the configuration in a file has a Lambda layer, whose code Keras 2 runs when it loads it."""
    return any(_has_lambda(json.loads(text)) for text in _configurations(path) if text)


def _configurations(path: str) -> list[str]:
    if os.path.isdir(path):
        try:
            with open(os.path.join(path, "keras_metadata.pb"), "rb") as file:
                content = file.read()
        except OSError:
            with open(os.path.join(path, "saved_model.pb"), "rb") as file:
                content = file.read()
        # The records are JSON inside a protocol buffer: what is looked for is there as it is written.
        return ['{"class_name": "Lambda"}'] if b'"class_name": "Lambda"' in content else []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return [archive.read("config.json").decode("utf-8")]
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config", "")
    return [text.decode("utf-8") if isinstance(text, bytes) else str(text)]


def _has_lambda(config: Any) -> bool:
    if isinstance(config, dict):
        return config.get("class_name") == "Lambda" or any(_has_lambda(each) for each in config.values())
    return isinstance(config, list) and any(_has_lambda(each) for each in config)


@dataclass(frozen=True)
class KerasVariable:
    """A variable of a layer: its path, and how training treats it."""

    variable: Any
    path: str
    kind: WeightKind
    trainable: bool


def layer_paths(model: Any) -> dict[int, tuple[str, ...]]:
    """The path of every layer below the root, by `id(layer)`; the root's own path is empty."""
    paths: dict[int, tuple[str, ...]] = {id(model): ()}
    pending = [model]
    while pending:
        layer = pending.pop(0)
        taken: set[str] = set()
        for child in children(layer):
            if id(child) in paths:
                continue
            name = _unique(_name_in(layer, child), taken)
            paths[id(child)] = (*paths[id(layer)], name)
            pending.append(child)
    return paths


def _name_in(layer: Any, child: Any) -> str:
    cell: Any = getattr(layer, "cell", None)
    if cell is not None and cell is child:
        return _OWN_CELLS.get(type(layer).__name__, str(child.name))
    return str(child.name)


def children(layer: Any) -> list[Any]:
    """The layers directly below a layer, in the order in which it holds them."""
    keras = library()
    if hasattr(layer, "_flatten_layers"):
        found = list(layer._flatten_layers(include_self=False, recursive=False))
    else:
        found = _inside(layer._layers)
    return [
        each
        for each in found
        if isinstance(each, keras.layers.Layer) and not isinstance(each, keras.metrics.Metric)
    ]


def _inside(held: Any) -> list[Any]:
    """The layers in what an old version keeps: layers, and wrappers of lists and dictionaries of them."""
    found = []
    for each in held:
        inner = getattr(each, "layers", None) if type(each).__name__.endswith("Wrapper") else None
        found += _inside(inner) if inner is not None else [each]
    return found


def all_layers(model: Any) -> list[Any]:
    """Every layer of a model once, the model first."""
    found: dict[int, Any] = {}
    pending = [model]
    while pending:
        layer = pending.pop()
        if id(layer) not in found:
            found[id(layer)] = layer
            pending.extend(reversed(children(layer)))
    return list(found.values())


def variables(model: Any) -> list[KerasVariable]:
    """Every weight of the model, once. Seeds, metrics and optimizer slots are no weights."""
    paths = layer_paths(model)
    trainable = {id(each) for each in model.trainable_weights}
    found: list[KerasVariable] = []
    seen: set[int] = set()
    taken: set[str] = set()
    for layer in all_layers(model):
        created = [(each, "parameter") for each in layer._trainable_weights]
        created += [(each, "buffer") for each in layer._non_trainable_weights]
        for variable, kind in created:
            own = variable.name.split(":")[0].rpartition("/")[2]
            if id(variable) in seen or own in _NO_WEIGHTS:
                continue
            seen.add(id(variable))
            path = _unique("/".join((*paths[id(layer)], own)), taken)
            found.append(
                KerasVariable(
                    variable,
                    path,
                    "parameter" if kind == "parameter" else "buffer",
                    kind == "parameter" and id(variable) in trainable,
                )
            )
    return found


def _unique(name: str, taken: set[str]) -> str:
    result, number = name, 0
    while result in taken:
        number += 1
        result = f"{name}_{number}"
    taken.add(result)
    return result


@dataclass(frozen=True)
class Interface:
    """The inputs of a model: the structure that it is called with, and the names and specs of its leaves.

    `order` says which leaf the function's arguments are, one after the other, and `outputs` which outputs
    it gives; None for all in the model's own order.
    """

    structure: Any
    names: tuple[str, ...]
    specs: tuple[tf.TensorSpec, ...]
    order: tuple[int, ...]
    outputs: tuple[int, ...] | None = None


def interface(model: Any, overrides: Sequence[InputSpec], *, static_batch: bool = False) -> Interface:
    """The inputs that a model declares, or the user for it.

    Raises InputError where nobody does, and for inputs that are no plain tensors of numbers.
    """
    structure = getattr(model, "_nested_inputs", None)
    if structure is None:
        structure = _declared(model, overrides)
    leaves = tf.nest.flatten(structure)
    names = list(getattr(model, "input_names", None) or [])
    if len(names) != len(leaves):
        names = [each.name or f"input_{position}" for position, each in enumerate(overrides)]
    if len(names) != len(leaves):
        names = [f"input_{position}" for position in range(len(leaves))]
    names = list(distinct(names))
    if overrides and len(overrides) != len(leaves):
        raise InputError(
            "the model has {} input(s) ({}), but {} were specified".format(
                len(leaves), ", ".join(names), len(overrides)
            ),
            hint="give one --input for each",
        )
    by_name = {each.name: each for each in overrides if each.name is not None}
    specs = []
    for position, (name, leaf) in enumerate(zip_equal(names, leaves)):
        override = by_name.get(name) or (overrides[position] if overrides else None)
        specs.append(_spec(name, leaf, override, static_batch))
    return Interface(structure, tuple(names), tuple(specs), tuple(range(len(leaves))))


def _declared(model: Any, overrides: Sequence[InputSpec]) -> Any:
    if overrides:
        leaves = [tf.TensorSpec([1], each.dtype) for each in overrides]
        return leaves[0] if len(leaves) == 1 else leaves
    saved = getattr(model, "_saved_model_inputs_spec", None)
    if saved is not None:
        return saved
    shape = getattr(model, "_build_input_shape", None)
    if shape is not None and not isinstance(shape, (dict, list)):
        return tf.TensorSpec([None, *tf.TensorShape(shape).as_list()[1:]], model.compute_dtype)
    raise InputError("the model is a subclass that does not say what its inputs are", hint=_INPUTS_HINT)


def _spec(name: str, leaf: Any, override: InputSpec | None, static_batch: bool) -> tf.TensorSpec:
    if type(leaf).__name__.startswith(("Sparse", "Ragged")):
        raise InputError(
            f"the input {name!r} is sparse or ragged",
            hint="bridge converts models of dense tensors only",
        )
    dtype = tf.as_dtype(leaf.dtype if override is None else override.dtype)
    if dtype == tf.string:
        raise InputError(
            f"the input {name!r} is a string",
            hint="cut the model after its text processing, and feed it numbers",
        )
    shape = None if leaf.shape.rank is None else leaf.shape.as_list()
    if override is not None:
        shape = [None if isinstance(axis, str) else axis for axis in override.shape]
    if static_batch and shape and shape[0] is None:
        shape[0] = 1
    return tf.TensorSpec(shape, dtype, name=name)


def traced(model: Any, inputs: Interface, *, training: bool = False) -> Signature:
    """The function of a model over flat inputs, with the names that users see."""

    def call(*tensors: Any) -> Any:
        leaves = dict(zip_equal(inputs.order, tensors))
        given = [leaves[position] for position in range(len(leaves))]
        outputs = model(tf.nest.pack_sequence_as(inputs.structure, given), training=training)
        if inputs.outputs is None:
            return outputs
        flat = tf.nest.flatten(outputs)
        return [flat[position] for position in inputs.outputs]

    specs = [inputs.specs[position] for position in inputs.order]
    function = tf.function(call, input_signature=specs, autograph=False).get_concrete_function()
    names = tuple(inputs.names[position] for position in inputs.order)
    return Signature(function, names, _output_names(model, function, inputs), model)


def _output_names(model: Any, function: Any, inputs: Interface) -> tuple[str, ...]:
    """The keys of a model that returns a dictionary, else its output layers' names, else `output_0`, ..."""
    structure, count = function.structured_outputs, len(function.outputs)
    if isinstance(structure, dict) and len(structure) == count:
        return distinct(sorted(structure))
    names = list(getattr(model, "output_names", None) or [])
    if inputs.outputs is not None and len(names) == count:
        names = [names[position] for position in inputs.outputs]
    generic = [f"output_{position}" for position in range(count)]
    return distinct(names if len(names) == count else generic)


def naming(model: Any, signature: Signature, called: Any = None) -> Naming:
    """What bridge calls the variables and layers of a model, by the nodes of a function of it.

    `called` is a model of the same architecture whose variables lend their paths.
    """
    own = variables(model)
    named = own if called is None else variables(called)
    known = {id(each.variable.handle): (name.path, name.trainable) for each, name in zip_equal(own, named)}
    weights = {node: known[handle] for node, handle in capture_handles(signature).items() if handle in known}
    graph = signature.function.graph.as_graph_def()
    reads: dict[str, list[str]] = {}
    for node in graph.node:
        for name in node.input:
            if name.partition(":")[0] in weights:
                reads.setdefault(node.name, []).append(name.partition(":")[0])
    return Naming(weights, keras_scopes((node.name for node in graph.node), reads=reads).scopes)


def double_form(
    model: Any,
    request: ReadRequest,
    inputs: Interface,
    rebuild: Callable[[], Any] | None,
    fallback: Callable[[], Form],
) -> Form:
    """The form of a model in float64: built again, traced again, and trainable; or else the `fallback`.

    `rebuild` makes the same architecture where the model cannot say how it is built.
    """
    ways = [lambda: _deserialized(model, request, "float64")]
    for make in [*ways, *([] if rebuild is None else [rebuild])]:
        try:
            with default_dtype("float64"):
                double = make()
                wide = replace(inputs, specs=tuple(_widened(each) for each in inputs.specs))
                _take_weights(double, model, wide)
                return _trainable_form(double, model, wide)
        except _FAILURES:
            continue
    return fallback()


def untrained_form(signature: Signature, names: Callable[[], Naming]) -> Form:
    """The float64 form of an inference function, for a model that cannot be built again."""
    return Form(function_routine(signature, {}), names, no_training=_UNTRAINED)


def _trainable_form(double: Any, model: Any, inputs: Interface) -> Form:
    signature = traced(double, inputs)
    resources: dict[int, Any] = {}

    def training() -> Any:
        with default_dtype("float64"), _without_dropout(double):
            return function_routine(traced(double, inputs, training=True), resources, effects=True)

    return Form(
        function_routine(signature, resources),
        lambda: naming(double, signature, model),
        training=training,
    )


def _deserialized(model: Any, request: ReadRequest, dtype: str) -> Any:
    keras = library()
    with keras.utils.custom_object_scope(custom_objects(request)):
        return type(model).from_config(_retyped(model.get_config(), dtype))


def _take_weights(double: Any, model: Any, inputs: Interface) -> None:
    """Give a rebuilt model the weights. Raises ValueError if a part of it stays in its precision."""
    if not double.built or len(double.weights) != len(model.weights):
        traced(double, inputs)
    double.set_weights(model.get_weights())
    narrow = [each for each in double.weights if each.dtype.name in _NARROWER["float64"]]
    layers = [each for each in all_layers(double) if _compute_dtype(each) in _NARROWER["float64"]]
    if narrow or layers:
        raise ValueError(f"{len(narrow)} variables stay in their precision")


def _compute_dtype(layer: Any) -> Any:
    return getattr(layer, "compute_dtype", getattr(layer, "_compute_dtype", None))


def _retyped(config: Any, dtype: str) -> Any:
    """A configuration with every dtype that gives way to `dtype` replaced by it."""
    if isinstance(config, dict):
        return {key: _retyped(value, dtype) for key, value in config.items()}
    if isinstance(config, (list, tuple)):
        # Not of the same class: layers give out the lists that TensorFlow wraps.
        values = [_retyped(value, dtype) for value in config]
        return tuple(values) if isinstance(config, tuple) else values
    return dtype if isinstance(config, str) and config in _NARROWER[dtype] else config


def _widened(spec: tf.TensorSpec) -> tf.TensorSpec:
    return tf.TensorSpec(spec.shape, tf.float64 if spec.dtype.is_floating else spec.dtype, name=spec.name)


@contextmanager
def default_dtype(dtype: str) -> Iterator[None]:
    """Let Keras build and compute in a dtype unless a layer says otherwise."""
    keras = library()
    mixed: Any = getattr(keras, "mixed_precision", None)
    has_policy = hasattr(mixed, "set_global_policy")
    floatx = keras.backend.floatx()
    policy = mixed.global_policy() if has_policy else None
    keras.backend.set_floatx(dtype)
    if has_policy:
        mixed.set_global_policy(dtype)
    try:
        yield
    finally:
        keras.backend.set_floatx(floatx)
        if has_policy:
            mixed.set_global_policy(policy)


@contextmanager
def _without_dropout(model: Any) -> Iterator[None]:
    """Let no layer of a model drop or disturb anything in training."""
    changed = []
    for layer in all_layers(model):
        for name in _DROPPING:
            value = vars(layer).get(name)
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
                changed.append((layer, name, value))
                object.__setattr__(layer, name, 0.0)
    try:
        yield
    finally:
        for layer, name, value in changed:
            object.__setattr__(layer, name, value)


def refuse_kept_states(model: Any) -> None:
    """Raise BridgeError for a recurrent layer that starts where its last call ended."""
    paths = layer_paths(model)
    for layer in all_layers(model):
        if isinstance(layer, library().layers.RNN) and layer.stateful:
            kind = type(layer).__name__
            raise BridgeError(
                f"the {kind} {layer.name!r} keeps its state from one call to the next, and a converted model "
                "computes from its inputs alone",
                hint="build the layer with stateful=False, and where the state matters take it as an input "
                "(initial_state) and give it back (return_state=True); the weights fit as they are",
                where="/".join(paths.get(id(layer), (layer.name,))),
            )


def stored_weights(model: Any) -> Mapping[str, Array]:
    """The weights by path."""
    return {each.path: np.asarray(each.variable.numpy()) for each in variables(model)}


def flat_inputs(signature: Signature) -> list[Any]:
    """The placeholders of a signature's own arguments."""
    return list(arguments(signature.function))
