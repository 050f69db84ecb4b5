"""The side of a TensorFlow file of any format: the model it holds, run by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.bundle import Bundle
from bridge_converters.tf_to_onnx.double import function_form, graph_form, keras_form, keras_naming
from bridge_converters.tf_to_onnx.form import Cotangents, Form, Naming
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.id_limits import id_limits
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.load import FunctionRunnable, GraphRunnable, Runnable, restored_session

from bridge.formats.request import ReadRequest

Array = np.ndarray[Any, np.dtype[Any]]

_WHAT = {
    "keras": "Keras model",
    "h5": "Keras model",
    "h5_weights": "Keras model",
    "saved_model": "SavedModel",
    "tf_bundle": "the object in memory as a SavedModel",
}


def load(request: Mapping[str, Any]) -> TensorFlowSide:
    """Load the model of a ReadRequest (as JSON), with a `dtype` beside it that `run` shall compute in.

    Raises what the TensorFlow reader raises while loading.
    """
    record = dict(request)
    dtype = record.pop("dtype", None)
    read = ReadRequest.from_json(record)
    what = _WHAT.get(read.format, "TensorFlow 1 graph")
    return TensorFlowSide(_parts(read), what=what, dtype=dtype)


@dataclass(frozen=True)
class Parts:
    """What a side is made of.

    `tensors` are the inputs in the graph of the `runnable`, `form` makes the same model in another
    precision, for None in its own.
    Without `weights` the form says what they are. `differentiable` is the model in float64 for gradients and
    training, where that is another one.
    """

    runnable: Runnable
    tensors: Sequence[Any]
    form: Callable[[str | None], Form]
    weights: Callable[[], Mapping[str, Array]] | None = None
    differentiable: Callable[[], Form] | None = None


def _parts(request: ReadRequest) -> Parts:
    if request.format in ("keras", "h5", "h5_weights"):
        from bridge_converters.tf_to_onnx.keras_source import load_keras

        return keras_parts(load_keras(request), request)
    if request.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return function_parts(open_saved_model(request))
    if request.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import exported_naming, open_exported

        signature = open_exported(request.path)
        parts = function_parts(signature, lambda: exported_naming(request.path, signature))
        return replace(parts, weights=lambda: _kept_tensors(request.path) | parts.form("float64").stored())
    return _graph_parts(request)


def keras_parts(model: Any, request: ReadRequest, rebuild: Callable[[], Any] | None = None) -> Parts:
    """The parts of a Keras model; `rebuild` makes its architecture again where no configuration can.

    The inference function in float64 is the one that was traced for `run`. Gradients and training need the
    model built again, which takes as long as loading it.
    """
    from bridge_converters.tf_to_onnx.keras_source import plain_signature, trace_keras
    from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables

    def weights() -> dict[str, Array]:
        found = {each.path: np.asarray(each.variable) for each in variables(model, layer_paths(model))}
        if all(each.dtype == tf.resource for each in signature.function.captured_inputs):
            return found
        # A tensor that a layer keeps without a variable (Normalization with given statistics) has its name
        # from the reader.
        bundle = trace_keras(model, format="keras", inputs=request.inputs, static_batch=request.static_batch)
        return {**{each.path: bundle.values[each.node] for each in bundle.weights}, **found}

    signature = plain_signature(model, request.inputs, static_batch=request.static_batch)

    def form(dtype: str | None) -> Form:
        if dtype not in (None, "float64"):
            return keras_form(model, request, rebuild=rebuild, dtype=dtype)
        return function_form(signature, naming=lambda: keras_naming(model, signature), dtype=dtype)

    return Parts(
        FunctionRunnable(signature),
        arguments(signature.function),
        form,
        weights,
        lambda: keras_form(model, request, rebuild=rebuild),
    )


def function_parts(signature: Signature, naming: Callable[[], Naming] | None = None) -> Parts:
    """The parts of a concrete function; without `naming` its weights have the reader's names."""
    return Parts(
        FunctionRunnable(signature),
        arguments(signature.function),
        lambda dtype: function_form(signature, naming=naming, dtype=dtype),
    )


def _kept_tensors(directory: str) -> dict[str, Array]:
    """Tensors that the object kept without variables: a SavedModel holds them as nameless constants."""
    bundle = Bundle.load(directory)
    return {each.path: bundle.values[each.node] for each in bundle.weights if each.kind == "buffer"}


def _graph_parts(request: ReadRequest) -> Parts:
    from bridge_converters.tf_to_onnx.tf1 import open_graph

    model = open_graph(request)
    session = restored_session(model)
    tensors = [session.graph.get_tensor_by_name(name) for name in model.inputs.values()]
    return Parts(
        GraphRunnable(session, model.inputs, model.outputs),
        tensors,
        lambda dtype: graph_form(model, session, request, dtype=dtype),
    )


class TensorFlowSide:
    """See docs/worker-protocol.md for what a loaded model answers.

    `what` says in words what the parts are, `dtype` is what `run` computes in if not in the model's own.
    """

    def __init__(self, parts: Parts, *, what: str, dtype: str | None = None) -> None:
        self._runnable = parts.runnable
        self._make_form = parts.form
        self._forms: dict[str | None, Form] = {}
        self._weights = parts.weights
        self._make_differentiable = parts.differentiable
        self._differentiable: Form | None = None
        self._dtype = dtype
        self.inputs = _inputs(parts.runnable, parts.tensors)
        self.outputs = list(parts.runnable.output_names)
        self.what = f"{what} under TensorFlow {tf.__version__}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array] | None:
        """The trained tensors by path, in the dtypes of the model."""
        if self._weights is not None:
            return dict(self._weights())
        return self._double.stored()

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in the model's own precision, or in the one that was asked for."""
        if self._dtype is None:
            return self._runnable.run(feeds)
        return self._form(self._dtype).run(feeds)

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        return self._noting(self._double.run(feeds))

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        return self._double.run_noisy(feeds, unit, seed)

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None, *, own: bool = False
    ) -> list[tuple[Any, ...]]:
        return self._form(None if own else "float64").intermediates(feeds, cotangents)

    def extract(
        self, feeds: Mapping[str, Array], wanted: str, given: Collection[str]
    ) -> tuple[list[str], dict[str, Array]]:
        return self._form(None).extract(feeds, wanted, given)

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool = False
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        return self._trained.vjp(feeds, cotangents, training)

    def state(self) -> dict[str, Array]:
        return self._trained.state()

    def assign(self, tensors: Mapping[str, Array]) -> None:
        self._trained.assign(tensors)

    @property
    def _double(self) -> Form:
        return self._form("float64")

    @property
    def _trained(self) -> Form:
        if self._make_differentiable is None:
            return self._double
        if self._differentiable is None:
            self._differentiable = self._make_differentiable()
        return self._differentiable

    def _form(self, dtype: str | None) -> Form:
        if dtype not in self._forms:
            self._forms[dtype] = self._make_form(dtype)
        return self._forms[dtype]

    def _noting(self, outputs: list[Array]) -> list[Array]:
        """Tell which operators have no float64 kernel, once they ran."""
        single = self._double.single
        if single:
            note = f"TensorFlow has these operators in single precision only: {', '.join(sorted(single))}"
            self.notes[:] = [note]
        return outputs


def _inputs(runnable: Runnable, tensors: Sequence[Any]) -> list[dict[str, Any]]:
    limits = id_limits(tensors)
    return [
        {
            "name": name,
            "dtype": tensor.dtype.base_dtype.name,
            "shape": None if tensor.shape.rank is None else tensor.shape.as_list(),
            "limit": limit,
        }
        for name, tensor, limit in zip(runnable.input_names, tensors, limits, strict=True)
    ]
