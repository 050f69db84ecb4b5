"""The side of a directory that `bridge convert --to tf` wrote.

`run`, `run_fp64` and `run_noisy` are its reloaded serving signature. What the SavedModel no longer tells
(lines, modules, training) comes from the model.py beside it, computed in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from bridge_converters.tf_to_onnx.form import Form, Naming, function_routine
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.id_limits import id_limits
from bridge_converters.tf_to_onnx.lift import arguments

from bridge.emit.imported import load_emitted
from bridge.emit.names import identifier
from bridge.errors import InputError
from bridge.hub.anchors import Anchor
from bridge.worker import device
from bridge.worker.sides.carried import Boundary
from bridge.worker.sides.tf_emitted import Emitted, Port, open_emitted

if TYPE_CHECKING:
    from bridge_converters.tf_to_onnx.form import Cotangents

Array = np.ndarray[Any, np.dtype[Any]]

_SIGNATURE = "serving_default"


def load(request: Mapping[str, Any]) -> SavedModelSide:
    """Load the SavedModel of the directory `path`; `run` computes in `dtype`, if the request has one.

    Raises InputError where it has no serving signature.
    """
    return SavedModelSide(Path(request["path"]), request.get("dtype"))


class SavedModelSide:
    """See docs/worker-protocol.md for what a loaded model answers."""

    def __init__(self, directory: Path, dtype: str | None = None) -> None:
        self._directory = directory
        self._dtype = dtype
        self._place = device.tensorflow_device(tf)
        self._loaded = tf.saved_model.load(str(directory))
        if _SIGNATURE not in self._loaded.signatures:
            raise InputError(
                f"the SavedModel has no signature {_SIGNATURE!r}",
                hint="convert the model again",
                where=str(directory),
            )
        self._signature = self._loaded.signatures[_SIGNATURE]
        self._forms: dict[str, Form] = {}
        self._emitted: dict[bool, Emitted] = {}
        self._boundary = Boundary(directory)
        specs = self._signature.structured_input_signature[1]
        inputs = _in_order(specs, tuple(self._boundary.inputs))
        outputs = _in_order(self._signature.structured_outputs, tuple(self._boundary.outputs))
        self._is_documented = inputs is not None and outputs is not None
        self._ports = [Port(name, specs[name].dtype, specs[name].shape) for name in inputs or sorted(specs)]
        limits = dict(zip(sorted(specs), id_limits(arguments(self._signature)), strict=True))
        self.inputs = [
            {
                "name": port.name,
                "dtype": self._boundary.dtype(identifier(port.name), port.dtype.name),
                "shape": None if port.shape.rank is None else port.shape.as_list(),
                "limit": limits[port.name],
            }
            for port in self._ports
        ]
        self.outputs = outputs or sorted(self._signature.structured_outputs)
        self.what = f"reloaded SavedModel under TensorFlow {tf.__version__}{device.words()}"
        self.notes: list[str] = []

    def weights(self) -> dict[str, Array] | None:
        """The SavedModel's own variables.

        Keras names a variable of a SavedModel after its path, which is what model.safetensors calls it. Where
        two variables have one name, nobody can tell them apart: then the answer is None.
        """
        tensors: dict[str, Array] = {}
        for variable in self._loaded._all_variables:
            path = variable.name.removesuffix(":0")
            if path in tensors:
                return None
            tensors[path] = variable.numpy()
        return tensors

    def run(self, feeds: Mapping[str, Array]) -> list[Array]:
        if self._dtype is not None:
            return self._served(self._form(self._dtype).run(self._boundary.carried(feeds)))
        carried = self._boundary.carried(feeds)
        with tf.device(self._place):
            results = self._signature(**{name: tf.constant(array) for name, array in carried.items()})
        return self._boundary.declared([results[name].numpy() for name in self.outputs])

    def timing(self, feeds: Mapping[str, Array], training: bool, compiled: bool) -> Any:
        """Of the signature; training steps are those of the model.py."""
        from bridge.worker.sides.tf_timing import time_inference, time_training

        if self._dtype is not None:
            raise NotImplementedError(
                f"in {self._dtype} it is computed operator by operator, whose speed says nothing"
            )
        with tf.device(self._place):
            carried = {name: tf.constant(each) for name, each in self._boundary.carried(feeds).items()}
        if not training:
            return time_inference(self._signature, (), carried, compiled=compiled)
        if not self._is_documented:
            raise NotImplementedError("model.py does not document the order of its inputs and outputs")
        with tf.device(self._place):
            model = load_emitted(self._directory)
        return time_training(
            lambda *tensors: model(*tensors, training=True),
            [each.value for each in model.trainable_variables],
            [carried[port.name] for port in self._ports],
            compiled=compiled,
            notes=["training steps are those of model.py"],
        )

    def run_fp64(self, feeds: Mapping[str, Array]) -> list[Array]:
        form = self._form("float64")
        outputs = self._served(form.run(self._boundary.carried(feeds)))
        if form.single:
            single = ", ".join(sorted(form.single))
            self.notes[:] = [f"TensorFlow has these operators in single precision only: {single}"]
        return outputs

    def run_noisy(self, feeds: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        carried = self._boundary.carried(feeds)
        return self._served(self._form("float64").run_noisy(carried, unit, seed))

    def intermediates(
        self, feeds: Mapping[str, Array], cotangents: Cotangents | None = None, *, own: bool = False
    ) -> list[tuple[Any, ...]]:
        """What model.py computes, in the axes of the hub; the gradients likewise."""
        emitted = self._model(own=own)
        carried = self._boundary.carried(feeds)
        results, gradients = emitted.form.observe(carried, cotangents, wanted=frozenset(emitted.anchors))
        answer: list[tuple[Any, ...]] = []
        for position, result in enumerate(results):
            value = np.asarray(result.value)
            for anchor in emitted.anchors[result.name]:
                record = _record(anchor)
                if gradients is None:
                    answer.append((record, _in_hub_order(value, anchor)))
                    continue
                gradient = gradients[position]
                moved = None if gradient is None else _in_hub_order(gradient, anchor)
                answer.append((record, _in_hub_order(value, anchor), moved))
        return answer

    def vjp(
        self, feeds: Mapping[str, Array], cotangents: Cotangents, training: bool = False
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        """Of model.py in float64."""
        return self._model().form.vjp(self._boundary.carried(feeds), cotangents, training)

    def state(self) -> dict[str, Array]:
        """Of model.py in float64."""
        return self._model().form.state()

    def assign(self, tensors: Mapping[str, Array]) -> None:
        """To model.py in float64."""
        self._model().form.assign(tensors)

    def _form(self, dtype: str) -> Form:
        if dtype not in self._forms:
            names = tuple(sorted(port.name for port in self._ports))
            signature = Signature(self._signature, names, tuple(sorted(self.outputs)), self._loaded)
            form = Form(function_routine(signature, {}), lambda: Naming({}), dtype=dtype)
            self._forms[dtype] = form
        return self._forms[dtype]

    def _served(self, outputs: list[Array]) -> list[Array]:
        """The outputs of the signature's function, which have the order of their names, in the model's."""
        by_name = dict(zip(sorted(self.outputs), outputs, strict=True))
        return self._boundary.declared([by_name[name] for name in self.outputs])

    def _model(self, *, own: bool = False) -> Emitted:
        if not self._is_documented:
            raise NotImplementedError("model.py does not document the order of its inputs and outputs")
        if own not in self._emitted:
            self._emitted[own] = open_emitted(self._directory, self._ports, self.outputs, own=own)
        return self._emitted[own]


def _in_order(names: Iterable[str], documented: Sequence[str]) -> list[str] | None:
    """The names of a signature, which has no order, as the model takes or gives them; None if unknown."""
    found = sorted(names)
    if len(found) < 2:
        return found
    by_identifier = {identifier(name): name for name in found}
    if len(by_identifier) < len(found) or sorted(documented) != sorted(by_identifier):
        return None
    return [by_identifier[each] for each in documented]


def _record(anchor: Anchor) -> dict[str, Any]:
    return {
        "name": anchor.hub,
        "operator": anchor.operator,
        "scope": anchor.scope,
        "location": f"model.py:{anchor.line}",
        "inputs": list(anchor.inputs),
        "source": anchor.source,
    }


def _in_hub_order(value: Array, anchor: Anchor) -> Array:
    """A value as the hub has it: stored axis i is hub axis `permutation[i]`."""
    if anchor.permutation is None or len(anchor.permutation) != value.ndim:
        return value
    return np.ascontiguousarray(np.transpose(value, np.argsort(anchor.permutation)))
