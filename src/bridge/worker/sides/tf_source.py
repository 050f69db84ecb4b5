"""The side of a TensorFlow file of any format: the model it holds, run by TensorFlow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.double import function_form, graph_form, keras_form
from bridge_converters.tf_to_onnx.form import Cotangents, Form
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
    if read.format in ("keras", "h5", "h5_weights"):
        from bridge_converters.tf_to_onnx.keras_source import load_keras

        return keras_side(load_keras(read), read, what=_WHAT[read.format], dtype=dtype)
    if read.format == "saved_model":
        from bridge_converters.tf_to_onnx.saved_model import open_saved_model

        return function_side(open_saved_model(read), what=_WHAT[read.format], dtype=dtype)
    if read.format == "tf_bundle":
        from bridge_converters.tf_to_onnx.objects import exported_naming, open_exported

        signature = open_exported(read.path)

        def exported_form(dtype: str) -> Form:
            return function_form(signature, naming=lambda: exported_naming(read.path, signature), dtype=dtype)

        return TensorFlowSide(
            FunctionRunnable(signature),
            arguments(signature.function),
            exported_form,
            what=_WHAT[read.format],
            dtype=dtype,
        )
    return _graph_side(read, dtype)


def keras_side(
    model: Any,
    request: ReadRequest,
    *,
    what: str,
    rebuild: Callable[[], Any] | None = None,
    dtype: str | None = None,
) -> TensorFlowSide:
    """The side of a Keras model; `rebuild` makes its architecture again where no configuration can."""
    from bridge_converters.tf_to_onnx.keras_source import plain_signature
    from bridge_converters.tf_to_onnx.keras_tree import layer_paths, variables

    def weights() -> dict[str, Array]:
        return {each.path: np.asarray(each.variable) for each in variables(model, layer_paths(model))}

    signature = plain_signature(model, request.inputs, static_batch=request.static_batch)
    return TensorFlowSide(
        FunctionRunnable(signature),
        arguments(signature.function),
        lambda dtype: keras_form(model, request, rebuild=rebuild, dtype=dtype),
        what=what,
        weights=weights,
        dtype=dtype,
    )


def function_side(signature: Signature, *, what: str, dtype: str | None = None) -> TensorFlowSide:
    """The side of a concrete function."""
    return TensorFlowSide(
        FunctionRunnable(signature),
        arguments(signature.function),
        lambda dtype: function_form(signature, dtype=dtype),
        what=what,
        dtype=dtype,
    )


def _graph_side(request: ReadRequest, dtype: str | None) -> TensorFlowSide:
    from bridge_converters.tf_to_onnx.tf1 import open_graph

    model = open_graph(request)
    session = restored_session(model)
    tensors = [session.graph.get_tensor_by_name(name) for name in model.inputs.values()]
    return TensorFlowSide(
        GraphRunnable(session, model.inputs, model.outputs),
        tensors,
        lambda dtype: graph_form(model, session, request, dtype=dtype),
        what="TensorFlow 1 graph",
        dtype=dtype,
    )


class TensorFlowSide:
    """See docs/worker-protocol.md for what a loaded model answers.

    `runnable` is the model as TensorFlow runs it, `tensors` its inputs in the graph, `form` makes the same
    model in another precision. Without `weights` the form says what they are.
    """

    def __init__(
        self,
        runnable: Runnable,
        tensors: Sequence[Any],
        form: Callable[[str], Form],
        *,
        what: str,
        weights: Callable[[], Mapping[str, Array]] | None = None,
        dtype: str | None = None,
    ) -> None:
        self._runnable = runnable
        self._make_form = form
        self._forms: dict[str, Form] = {}
        self._weights = weights
        self._dtype = dtype
        self.inputs = _inputs(runnable, tensors)
        self.outputs = list(runnable.output_names)
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
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None
    ) -> list[tuple[Any, ...]]:
        return self._double.intermediates(feeds, cotangents)

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool = False
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        return self._double.vjp(feeds, cotangents, training)

    def state(self) -> dict[str, Array]:
        return self._double.state()

    def assign(self, tensors: Mapping[str, Array]) -> None:
        self._double.assign(tensors)

    @property
    def _double(self) -> Form:
        return self._form("float64")

    def _form(self, dtype: str) -> Form:
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
