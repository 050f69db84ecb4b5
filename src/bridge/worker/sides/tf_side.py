"""A loaded TensorFlow model as a side, whatever it was loaded from.

This module also runs in an old environment.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from bridge_converters.tf_to_onnx.functions import flat_arguments
from bridge_converters.tf_to_onnx.id_limits import id_limits
from bridge_converters.tf_to_onnx.runnable import FunctionRunnable

from bridge.worker import device
from bridge.worker.compatible import zip_equal
from bridge.worker.standalone import ArrayTiming

if TYPE_CHECKING:
    import numpy as np
    from bridge_converters.tf_to_onnx.form import Cotangents, Form
    from bridge_converters.tf_to_onnx.load import Runnable

    Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Parts:
    """What a side is made of.

    `tensors` are the inputs in the graph of the `runnable`, `form` makes the same model in another
    precision, for None in its own.
    Without `weights` the form says what they are. `differentiable` is the model in float64 for gradients and
    training, where that is another one. `trainer` makes what training steps are timed on.
    """

    runnable: Runnable
    tensors: Sequence[Any]
    form: Callable[[str | None], Form]
    weights: Callable[[], Mapping[str, Array]] | None = None
    differentiable: Callable[[], Form] | None = None
    trainer: Callable[[], Trainer] | None = None


@dataclass(frozen=True)
class Trainer:
    """What a training step differentiates: a function of tensors, its trainable variables, and notes."""

    forward: Callable[..., Any]
    variables: Sequence[Any]
    notes: Sequence[str] = ()


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
        self._make_trainer = parts.trainer
        self._differentiable: Form | None = None
        self._dtype = dtype
        self.inputs = _inputs(parts.runnable, parts.tensors)
        self.outputs = list(parts.runnable.output_names)
        self.what = f"{what} under TensorFlow {tf.__version__}{device.words()}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array] | None:
        """The trained tensors by path, in the dtypes of the model."""
        if self._weights is not None:
            return dict(self._weights())
        return self._double.stored()

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The outputs in the model's own precision, or in the one that was asked for."""
        if self._dtype is None:
            with tf.device(device.tensorflow_device(tf)):
                return self._runnable.run(feeds)
        return self._form(self._dtype).run(feeds)

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of what `run` runs; a graph of TensorFlow 1 from array to array, as its sessions work."""
        from bridge.worker.sides.tf_timing import time_inference, time_training

        if self._dtype is not None:
            raise NotImplementedError(
                f"in {self._dtype} it is computed operator by operator, whose speed says nothing"
            )
        if not isinstance(self._runnable, FunctionRunnable):
            if training or compiled:
                raise NotImplementedError("a graph of TensorFlow 1 is only run as it is")
            return ArrayTiming(self._runnable.run, feeds)
        with tf.device(device.tensorflow_device(tf)):
            tensors = [tf.convert_to_tensor(feeds[name]) for name in self._runnable.input_names]
        if not training:
            function = self._runnable.function
            positional, named = flat_arguments(function, tensors)
            return time_inference(function, positional, named, compiled=compiled)
        assert self._make_trainer is not None
        trainer = self._make_trainer()
        return time_training(
            trainer.forward, trainer.variables, tensors, compiled=compiled, notes=trainer.notes
        )

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
        for name, tensor, limit in zip_equal(runnable.input_names, tensors, limits)
    ]
