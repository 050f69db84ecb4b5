"""The side of a TensorFlow model in the environment of an old TensorFlow, with Keras 2 where it has it.

It runs, differentiates and trains the model as any other TensorFlow side does, and hands it over as a traced
graph (`bridge_converters.tf_to_onnx.bundle`) for the reader of the present TensorFlow.
"""

from __future__ import annotations

import os
import platform
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.bundle import Bundle, Weight
from bridge_converters.tf_to_onnx.form import Form, Naming, function_routine
from bridge_converters.tf_to_onnx.functions import (
    Signature,
    call_flat,
    concrete,
    port,
    signature_of,
    trace_signature,
)
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.runnable import FunctionRunnable

from bridge.errors import InputError
from bridge.formats.request import ReadRequest
from bridge.worker import device
from bridge.worker.compatible import zip_equal
from bridge.worker.legacy import keras2, keras2_hooks
from bridge.worker.references import failed, is_reference, resolve_reference
from bridge.worker.sides.tf_side import Parts, TensorFlowSide, Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Array = np.ndarray[Any, np.dtype[Any]]

if tf.__version__.startswith("1."):
    # Eager execution and resource variables, which its Keras and tf.function work with as TensorFlow 2's do.
    tf.compat.v1.enable_v2_behavior()

_DEFAULT_SIGNATURES = ("serving_default", "serve")
_KERAS_FILES = ("keras", "h5")
_AUTOMATIC_NAME = re.compile(r"(functional|sequential|model)(_\d+)?$")
"""The names Keras gives to models that have none."""
_PRESENT = "saved_model_v1", "tf1_checkpoint", "frozen_graph"


def load(request: Mapping[str, Any]) -> LegacySide:
    """Load the model of a ReadRequest (as JSON), with a `dtype` beside it that `run` shall compute in.

    Raises InputError and TrustError for what cannot be loaded here, EnvironmentFailure where Keras 2 is
    missing.
    """
    record = dict(request)
    dtype = record.pop("dtype", None)
    device.tensorflow_device(tf)
    read = ReadRequest.from_json(record)
    opened = _opened(read)
    return LegacySide(opened, read, dtype)


@dataclass(frozen=True)
class Opened:
    """A loaded model: what runs it, what hands it over, what to call it, and notes for the user."""

    parts: Parts
    bundle: Callable[[], Bundle]
    what: str
    notes: tuple[str, ...] = ()


class LegacySide(TensorFlowSide):
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, opened: Opened, request: ReadRequest, dtype: str | None) -> None:
        super().__init__(opened.parts, what=opened.what, dtype=dtype)
        self._bundle = opened.bundle
        self.what = f"{opened.what} under {_versions()}{device.words()}"
        self.notes = list(opened.notes)

    def hand_over(self, directory: str) -> dict[str, Any]:
        """Write the model as a traced graph, whose markers only the reader understands."""
        bundle = self._bundle()
        bundle.save(directory)
        return {"path": directory, "format": "tf_bundle", "notes": [f"read by {_versions()}"]}


def _versions() -> str:
    keras = "" if tf.__version__.startswith("1.") else f", Keras {keras2.version()}"
    return f"TensorFlow {tf.__version__}{keras} and Python {platform.python_version()}"


def _opened(request: ReadRequest) -> Opened:
    if request.format in _PRESENT:
        raise InputError(
            "a TensorFlow 1 graph needs no environment of its own: every TensorFlow runs it",
            hint="leave out --source-python and --source-env",
            where=request.path,
        )
    if request.format in _KERAS_FILES:
        return _keras(keras2.load_file(request), request, "Keras model")
    if request.format == "h5_weights":
        return _weights_file(request)
    if request.format == "saved_model":
        return _saved_model(request)
    return _built(request)


def _built(request: ReadRequest) -> Opened:
    """What a Python factory returns."""
    model, rebuild = _made(request.path)
    if keras2.is_model(model):
        return _keras(model, request, f"the {type(model).__name__} of {request.path}", rebuild)
    call = model if hasattr(model, "get_concrete_function") else getattr(model, "__call__", None)  # noqa: B004
    if not isinstance(model, tf.Module) and not hasattr(model, "get_concrete_function"):
        raise InputError(
            f"{request.path} returns a {type(model).__name__}, which is not a model",
            hint="return a tf.keras.Model, a tf.Module with a __call__, or a tf.function",
        )
    function = call if hasattr(call, "get_concrete_function") else tf.function(call)
    signature = signature_of(concrete(function, request.inputs, what=type(model).__name__), model)
    what = f"the {type(model).__name__} of {request.path}"
    return _function(signature, what, type(model).__name__, "tf_function")


def _made(reference: str) -> tuple[Any, Callable[[], Any] | None]:
    """What a reference means, called where it is a factory, and the factory."""
    found = resolve_reference(reference)
    if keras2.is_model(found) or isinstance(found, tf.Module) or hasattr(found, "get_concrete_function"):
        return found, None
    if not callable(found):
        raise InputError(f"{reference} is neither a model nor a function that builds one")
    try:
        return found(), found
    except Exception as error:  # the factory is the user's and may raise anything
        raise failed(f"calling {reference}()", error, reference) from error


def _weights_file(request: ReadRequest) -> Opened:
    if request.model is None:
        raise InputError(
            "the file holds weights only, not the model they belong to",
            hint="name a function that builds the model: --model pkg.mod:build",
            where=request.path,
        )
    reference = request.model if is_reference(request.model) else f"{request.model}:build"
    model, rebuild = _made(reference)
    if not keras2.is_model(model):
        raise InputError(f"{reference} returned a {type(model).__name__}, not a tf.keras.Model")
    try:
        model.load_weights(request.path)
    except (ValueError, KeyError, OSError, AttributeError) as error:
        raise InputError(
            "the weights do not fit the model of {}: {}".format(reference, str(error).strip().split("\n")[0]),
            hint="the function must build the very architecture that the weights were saved from",
            where=request.path,
        ) from error
    return _keras(model, request, "Keras model", rebuild)


def _saved_model(request: ReadRequest) -> Opened:
    """A SavedModel; as a Keras model where Keras wrote it and its default signature is that model's call."""
    signature = _default_signature(request)
    if _keras_wrote(request.path):
        try:
            model = keras2.load_file(request)
            inputs = _ordered(model, signature, request)
        except InputError as error:
            reason = error.message
        else:
            if inputs is not None:
                return _keras(model, request, "SavedModel as a Keras model", inputs=inputs)
            reason = "its default signature is another function"
        opened = _function(signature, "SavedModel", "Model", request.format)
        return replace(opened, notes=(f"read as a graph, not as a Keras model: {reason}",))
    return _function(signature, "SavedModel", "Model", request.format)


def _keras_wrote(path: str) -> bool:
    if os.path.exists(os.path.join(path, "keras_metadata.pb")):
        return True
    with open(os.path.join(path, "saved_model.pb"), "rb") as file:
        return b"_tf_keras_" in file.read()


def _default_signature(request: ReadRequest) -> Signature:
    """The default signature of a SavedModel, or its only one, or its only function."""
    try:
        loaded = tf.saved_model.load(request.path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, tf.errors.OpError) as error:
        raise InputError(
            f"TensorFlow {tf.__version__} cannot load the SavedModel: {str(error).strip().splitlines()[0]}",
            hint="a newer TensorFlow may have written it",
            where=request.path,
        ) from error
    signatures = dict(getattr(loaded, "signatures", {}))
    chosen = [signatures[name] for name in _DEFAULT_SIGNATURES if name in signatures]
    if not chosen and len(signatures) == 1:
        chosen = list(signatures.values())
    if not chosen and callable(loaded) and not signatures:
        chosen = [concrete(loaded.__call__, request.inputs, what="the SavedModel")]
    if not chosen:
        raise InputError(
            "the SavedModel has {}, and none is the default".format(
                "the signatures " + ", ".join(sorted(signatures)) if signatures else "no signature"
            ),
            hint="save it with signatures={'serving_default': function}",
            where=request.path,
        )
    return signature_of(chosen[0], loaded)


def _ordered(model: Any, signature: Signature, request: ReadRequest) -> keras2.Interface | None:
    """The model's inputs in the signature's order; None where the signature computes something else.

    That is tried: names alone would not tell a signature with a preparation of its own.
    """
    inputs = keras2.interface(model, request.inputs, static_batch=request.static_batch)
    if sorted(inputs.names) != sorted(signature.inputs):
        return None
    order = tuple(inputs.names.index(name) for name in signature.inputs)
    names = list(getattr(model, "output_names", None) or [])
    count = len(signature.outputs)
    outputs = (
        tuple(names.index(name) for name in signature.outputs)
        if (sorted(names) == sorted(signature.outputs))
        else tuple(range(count))
    )
    chosen = replace(inputs, order=order, outputs=outputs)
    feeds = _drawn(chosen)
    try:
        ours = FunctionRunnable(keras2.traced(model, chosen)).run(feeds)
        theirs = FunctionRunnable(signature).run(feeds)
    except (ValueError, TypeError, IndexError, tf.errors.OpError):
        return None
    same = len(ours) == len(theirs) and all(
        one.shape == other.shape and np.allclose(one, other, rtol=1e-4, atol=1e-5)
        for one, other in zip_equal(ours, theirs)
    )
    return chosen if same else None


def _drawn(inputs: keras2.Interface) -> dict[str, Array]:
    """Some input of every name: 2 samples, 3 for other free axes, normal numbers, ids of 0 and 1."""
    random = np.random.RandomState(0)
    feeds = {}
    for name, spec in zip_equal(inputs.names, inputs.specs):
        known = spec.shape.as_list()
        shape = [(3 if axis else 2) if size is None else size for axis, size in enumerate(known)]
        if spec.dtype.is_floating:
            feeds[name] = random.standard_normal(shape).astype(spec.dtype.as_numpy_dtype)
        else:
            feeds[name] = random.randint(0, 2, shape).astype(spec.dtype.as_numpy_dtype)
    return feeds


def _function(signature: Signature, what: str, root_type: str, format: str) -> Opened:
    """A model of which there is an inference function only."""

    def bundle() -> Bundle:
        return trace_signature(signature, format=format, root_type=root_type)

    def naming() -> Naming:
        traced = bundle()
        return Naming({each.node: (each.path, each.trainable) for each in traced.weights}, traced.scopes)

    parts = Parts(
        FunctionRunnable(signature),
        arguments(signature.function),
        lambda dtype: Form(function_routine(signature, {}), naming, dtype=dtype),
        trainer=lambda: Trainer(
            lambda *tensors: call_flat(signature.function, tensors),
            signature.function.trainable_variables,
            ["the file holds an inference function only: training steps are timed in inference mode"],
        ),
    )
    return Opened(parts, bundle, what)


def _keras(
    model: Any,
    request: ReadRequest,
    what: str,
    rebuild: Callable[[], Any] | None = None,
    inputs: keras2.Interface | None = None,
) -> Opened:
    keras2.refuse_kept_states(model)
    found = inputs or keras2.interface(model, request.inputs, static_batch=request.static_batch)
    signature = keras2.traced(model, found)

    def naming() -> Naming:
        return keras2.naming(model, signature)

    def form(dtype: str | None) -> Form:
        return Form(function_routine(signature, {}), naming, dtype=dtype)

    def trainer() -> Trainer:
        traced = keras2.traced(model, found, training=True).function
        return Trainer(lambda *tensors: call_flat(traced, tensors), list(model.trainable_weights))

    parts = Parts(
        FunctionRunnable(signature),
        keras2.flat_inputs(signature),
        form,
        lambda: keras2.stored_weights(model),
        lambda: keras2.double_form(
            model, request, found, rebuild, lambda: keras2.untrained_form(signature, naming)
        ),
        trainer,
    )
    return Opened(parts, lambda: _bundle(model, found, request.format), what)


def _bundle(model: Any, inputs: keras2.Interface, format: str) -> Bundle:
    """The trace of a Keras model with its layers whole, not yet lifted."""
    started = time.perf_counter()
    recorder = keras2_hooks.Recorder(model)
    with keras2_hooks.hooks(recorder):
        signature = keras2.traced(model, inputs)
    function = signature.function
    weights, values = _weights(model, function)
    names = {each.path for each in weights}
    return Bundle(
        graph=function.graph.as_graph_def(),
        inputs=tuple(port(name, each) for name, each in zip_equal(signature.inputs, arguments(function))),
        outputs=tuple(port(name, each) for name, each in zip_equal(signature.outputs, function.outputs)),
        weights=tuple(weights),
        values=values,
        format=format,
        root_type=_root_type(model),
        batched=all(each.shape.rank for each in arguments(function)),
        unused=tuple(
            Weight("", each.path, each.kind, each.trainable)
            for each in keras2.variables(model)
            if each.path not in names
        ),
        scopes=recorder.scopes,
        notes=tuple(dict.fromkeys(recorder.notes)),
        seconds=time.perf_counter() - started,
        lifted=False,
    )


def _root_type(model: Any) -> str:
    """The model's class, or the name that its author gave to a model put together from layers."""
    own = type(model).__name__
    if own not in ("Functional", "Sequential", "Model") or _AUTOMATIC_NAME.match(model.name):
        return own
    return str(model.name)


def _weights(model: Any, function: Any) -> tuple[list[Weight], dict[str, Array]]:
    """What a traced function captured: the model's weights in their order, then tensors without a name."""
    known = {id(each.variable.handle): each for each in keras2.variables(model)}
    order = {each.path: position for position, each in enumerate(known.values())}
    found: list[Weight] = []
    values: dict[str, Array] = {}
    for node, outer, variable in _captures(function):
        record = known.get(id(outer))
        if record is not None:
            found.append(Weight(node, record.path, record.kind, record.trainable))
        elif variable is not None:
            trainable = bool(variable.trainable)
            path = variable.name.split(":")[0]
            found.append(Weight(node, path, "parameter" if trainable else "buffer", trainable))
        else:
            found.append(Weight(node, f"constant_{len(found)}", "buffer", False))
        values[node] = np.asarray((outer if variable is None else variable).numpy())
    return sorted(found, key=lambda each: order.get(each.path, len(order))), values


def _captures(function: Any) -> Iterator[tuple[str, Any, Any]]:
    """(node, what it stands for, the variable if it is one) of everything from outside a function."""
    held = {id(variable.handle): variable for variable in function.graph.variables}
    for (_, inner), outer in zip_equal(function.graph.captures, function.captured_inputs):
        variable = held.get(id(outer))
        if variable is None and outer.dtype in (tf.resource, tf.variant, tf.string):
            raise InputError(
                f"the model uses a resource that is no variable ({outer.dtype.name})",
                hint="bridge converts tensors only: cut the model after its lookup tables or text processing",
                where=inner.op.name,
            )
        yield inner.op.name, outer, variable
