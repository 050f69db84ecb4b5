"""A TensorFlow model in float64: run, disturbed, looked into, differentiated, trained.

A `Routine` is one traced function of the model with what it captured; a `Form` is the model: its routine
for inference, perhaps one for training, and the weights that both share. Nothing of the reader's hub takes
part: only the names of weights and scopes are the reader's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from bridge.errors import InputError
from bridge.hub.scope import scope_path
from bridge.worker.compatible import zip_equal
from bridge_converters.tf_to_onnx.evaluate import Evaluator, Resource, Result
from bridge_converters.tf_to_onnx.extract import operator_calls
from bridge_converters.tf_to_onnx.functions import Signature
from bridge_converters.tf_to_onnx.lift import arguments
from bridge_converters.tf_to_onnx.program import Program
from bridge_converters.tf_to_onnx.rounding import Noise

if TYPE_CHECKING:
    from bridge.hub.metadata import Scope

    Array = np.ndarray[Any, np.dtype[Any]]
    Cotangents = Callable[[list[Array]], Sequence[Array | None]]

_NO_TRAINING = "the file holds an inference function only, not what the model does in training"
_RANDOM = (
    "Random",
    "StatelessRandom",
    "StatelessTruncated",
    "Truncated",
    "Multinomial",
    "ParameterizedTrunc",
)
_STOPS = frozenset({"PreventGradient", "StopGradient"})
_UNSEEN = frozenset({"Const", "ReadVariableOp", "VarHandleOp", "Variable", "VariableV2"})


@dataclass(frozen=True)
class Naming:
    """What the captures of a routine are called: node to (path, whether training moves it), and scopes."""

    weights: Mapping[str, tuple[str, bool]]
    scopes: Mapping[str, Scope] = field(default_factory=dict)


@dataclass(frozen=True)
class Routine:
    """A program with its interface: node by input name, output names, and captured values by node.

    A capture is a Resource; those in `by_value` are read without an operator that reads. Anything else
    (a lookup table) is passed as it is.
    """

    program: Program
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    captures: Mapping[str, Any]
    by_value: frozenset[str] = frozenset()

    def feeds(self) -> dict[str, Any]:
        """The captured values, as the program takes them."""
        return {
            node: value.value if node in self.by_value else value for node, value in self.captures.items()
        }


def function_routine(
    signature: Signature, resources: dict[int, Resource], *, effects: bool = False
) -> Routine:
    """The routine of a concrete function. `resources` are by the handle of the variable, and completed."""
    function = signature.function
    program = Program(
        function.graph.as_graph_def(), [tensor.name for tensor in function.outputs], effects=effects
    )
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    captures: dict[str, Any] = {}
    by_value = set()
    for (_, inner), outer in zip_equal(function.graph.captures, function.captured_inputs):
        node = inner.op.name
        if id(outer) not in resources and id(outer) in variables:
            resources[id(outer)] = Resource(variables[id(outer)].value())
        if id(outer) in resources:
            captures[node] = resources[id(outer)]
        elif outer.dtype in (tf.resource, tf.variant):
            captures[node] = outer
        else:
            captures[node] = Resource(outer)
            by_value.add(node)
    inputs = {name: tensor.op.name for name, tensor in zip_equal(signature.inputs, arguments(function))}
    return Routine(program, inputs, signature.outputs, captures, frozenset(by_value))


class Form:
    """A model in one precision, None for its own; see docs/worker-protocol.md for what its methods answer.

    `naming` is asked for when names are needed. `training` gives the routine for training, of the same
    Resources; without it `vjp` refuses to train, for the reason `no_training`.
    """

    def __init__(
        self,
        inference: Routine,
        naming: Callable[[], Naming],
        *,
        training: Callable[[], Routine] | None = None,
        no_training: str = _NO_TRAINING,
        dtype: str | None = "float64",
    ) -> None:
        self.input_names = tuple(inference.inputs)
        self.output_names = inference.outputs
        self._dtype = dtype
        self._inference = inference
        self._make_naming = naming
        self._naming: Naming | None = None
        self._make_training = training
        self._no_training = no_training
        self._training: tuple[Routine, Evaluator] | None = None
        self._evaluator = Evaluator(inference.program, dtype)
        self._widen(inference)

    @property
    def single(self) -> frozenset[str]:
        """Operators that were computed in single precision so far, for want of a wider kernel."""
        return frozenset(self._evaluator.single)

    def run(self, inputs: Mapping[str, Array]) -> list[Array]:
        """The outputs, in the precision of the form."""
        return [np.asarray(each) for each in self._run(self._inputs(inputs))]

    def run_noisy(self, inputs: Mapping[str, Array], unit: float, seed: int) -> list[Array]:
        """As `run`, every rounded result multiplied by 1 + unit * r with r uniform in [-1, 1)."""
        return [np.asarray(each) for each in self._run(self._inputs(inputs), noise=Noise(unit, seed))]

    def intermediates(
        self, inputs: Mapping[str, Array], cotangents: Cotangents | None = None
    ) -> list[tuple[Any, ...]]:
        """(record, value) of every tensor of the graph, or (record, value, gradient)."""
        results, gradients = self.observe(inputs, cotangents)
        answer: list[tuple[Any, ...]] = []
        for position, result in enumerate(results):
            record = {
                "name": result.name,
                "operator": result.operator,
                "scope": self.scope(result.name),
                "location": None,
                "inputs": list(result.inputs),
            }
            if gradients is None:
                answer.append((record, np.asarray(result.value)))
            else:
                answer.append((record, np.asarray(result.value), gradients[position]))
        return answer

    def extract(
        self, inputs: Mapping[str, Array], wanted: str, given: Collection[str]
    ) -> tuple[list[str], dict[str, Array]]:
        """The operators from the tensors `given` to `wanted`; see `extract.operator_calls`."""
        results: dict[str, Result] = {}
        self._run(self._inputs(inputs), observe=lambda result: results.setdefault(result.name, result))
        return operator_calls(results, wanted, given)

    def observe(
        self,
        inputs: Mapping[str, Array],
        cotangents: Cotangents | None = None,
        *,
        wanted: frozenset[str] | None = None,
    ) -> tuple[list[Result], list[Array | None] | None]:
        """What the walk computes, in its order, perhaps only the `wanted` tensors, and their gradients."""
        results: list[Result] = []
        hidden = set(self._inference.captures)
        watched: list[tf.GradientTape] = []

        def observe(result: Result) -> None:
            if result.operator in _STOPS:
                # What is computed behind it has gradients of its own.
                for tape in watched:
                    tape.watch(result.value)
            if result.operator in _UNSEEN or result.name.partition(":")[0] in hidden:
                return
            if wanted is None or result.name in wanted:
                results.append(result)

        tensors = self._inputs(inputs)
        if cotangents is None:
            self._run(tensors, observe=observe)
            return results, None
        with tf.GradientTape(persistent=False, watch_accessed_variables=False) as tape:
            self._watch(tape, tensors)
            watched.append(tape)
            outputs = self._run(tensors, observe=observe)
        values = [result.value for result in results]
        gradients = _gradients(tape, outputs, cotangents, values)
        return results, gradients

    def vjp(
        self, inputs: Mapping[str, Array], cotangents: Cotangents, training: bool = False
    ) -> tuple[list[Array], dict[str, Array], dict[str, Array]]:
        """The outputs, and the gradients of the floating inputs and of the trainable weights.

        In training mode BatchNormalization uses the statistics of the batch and moves its own; nothing is
        dropped out. The derivatives are those of the operators: a graph does not tell what
        `tf.custom_gradient` put in their place. Raises NotImplementedError where there is no training mode,
        and for an operator without a derivative.
        """
        routine, evaluator = self._routine(training)
        tensors = self._inputs(inputs)
        weights = self._trainable()
        with tf.GradientTape(persistent=False, watch_accessed_variables=False) as tape:
            self._watch(tape, tensors)
            before = {path: resource.value for path, resource in weights.items()}
            outputs = self._evaluate(routine, evaluator, tensors)
        floating = {name: tensor for name, tensor in tensors.items() if tensor.dtype.is_floating}
        arrays = [np.asarray(each) for each in outputs]
        found = _gradients(
            tape, outputs, lambda _: cotangents(arrays), [*floating.values(), *before.values()]
        )
        by_input = _present(floating, found[: len(floating)])
        return arrays, by_input, _present(before, found[len(floating) :])

    def state(self) -> dict[str, Array]:
        """Every weight by path."""
        return {path: np.asarray(resource.value) for path, (resource, _) in self._weights().items()}

    def stored(self) -> dict[str, Array]:
        """Every weight by path, as the model holds it."""
        return {path: np.asarray(resource.stored) for path, (resource, _) in self._weights().items()}

    def assign(self, tensors: Mapping[str, Array]) -> None:
        """Set weights. Raises InputError for a path that is none and for another shape."""
        weights = self._weights()
        for path, array in tensors.items():
            if path not in weights:
                raise InputError(f"the model has no weight {path!r}")
            resource = weights[path][0]
            if tuple(array.shape) != tuple(resource.value.shape):
                raise InputError(f"{path!r} has the shape {tuple(resource.value.shape)}, not {array.shape}")
            resource.value = tf.cast(tf.constant(array), resource.value.dtype)

    def scope(self, tensor: str) -> str:
        """The path of the module that a tensor belongs to; the root's is empty."""
        prefix = tensor.partition(":")[0]
        scopes = self._names().scopes
        while prefix:
            if prefix in scopes:
                return scope_path(scopes[prefix])
            prefix = prefix.rpartition("/")[0]
        return ""

    def _names(self) -> Naming:
        if self._naming is None:
            self._naming = self._make_naming()
        return self._naming

    def _weights(self) -> dict[str, tuple[Resource, bool]]:
        captures = self._inference.captures
        return {
            path: (captures[node], trainable)
            for node, (path, trainable) in self._names().weights.items()
            if isinstance(captures.get(node), Resource)
        }

    def _trainable(self) -> dict[str, Resource]:
        return {
            path: resource
            for path, (resource, trainable) in self._weights().items()
            if trainable and resource.value.dtype.is_floating
        }

    def _watch(self, tape: tf.GradientTape, tensors: Mapping[str, tf.Tensor]) -> None:
        watched = [*tensors.values(), *(resource.value for resource in self._trainable().values())]
        for tensor in watched:
            if tensor.dtype.is_floating:
                tape.watch(tensor)

    def _inputs(self, inputs: Mapping[str, Array]) -> dict[str, tf.Tensor]:
        return {
            name: self._evaluator.fed(node, inputs[name]) for name, node in self._inference.inputs.items()
        }

    def _routine(self, training: bool) -> tuple[Routine, Evaluator]:
        if not training:
            return self._inference, self._evaluator
        if self._make_training is None:
            raise NotImplementedError(self._no_training)
        if self._training is None:
            routine = self._make_training()
            self._refuse_randomness(routine)
            self._widen(routine)
            self._training = routine, Evaluator(routine.program, self._dtype)
        return self._training

    def _refuse_randomness(self, routine: Routine) -> None:
        for node in routine.program.operators():
            if node.op.startswith(_RANDOM):
                raise NotImplementedError(f"the model draws random numbers in training ({node.name})")

    def _widen(self, routine: Routine) -> None:
        for resource in routine.captures.values():
            if isinstance(resource, Resource):
                resource.value = self._evaluator.cast(resource.value)

    def _run(self, tensors: Mapping[str, tf.Tensor], **options: Any) -> list[Any]:
        return self._evaluate(self._inference, self._evaluator, tensors, **options)

    def _evaluate(
        self, routine: Routine, evaluator: Evaluator, tensors: Mapping[str, tf.Tensor], **options: Any
    ) -> list[Any]:
        feeds = routine.feeds()
        feeds.update({node: tensors[name] for name, node in routine.inputs.items()})
        return evaluator.run(feeds, **options)


def _gradients(
    tape: tf.GradientTape, outputs: Sequence[tf.Tensor], cotangents: Cotangents, sources: list[tf.Tensor]
) -> list[Array | None]:
    """The gradients of sources, None where there is none; outputs without a cotangent take no part."""
    given = cotangents([np.asarray(each) for each in outputs])
    targets, weights = [], []
    for output, cotangent in zip_equal(outputs, given):
        if cotangent is not None and output.dtype.is_floating and cotangent.shape == tuple(output.shape):
            targets.append(output)
            weights.append(tf.constant(cotangent, output.dtype))
    floating = [source for source in sources if source.dtype.is_floating]
    found: Iterator[Any] = iter(())
    if targets and floating:
        try:
            found = iter(tape.gradient(targets, floating, output_gradients=weights))
        except LookupError as error:
            raise NotImplementedError(f"TensorFlow cannot differentiate the model: {error}") from error
    answer: list[Array | None] = []
    for source in sources:
        gradient = next(found, None) if source.dtype.is_floating else None
        answer.append(None if gradient is None else np.asarray(tf.convert_to_tensor(gradient)))
    return answer


def _present(names: Mapping[str, Any], values: Sequence[Array | None]) -> dict[str, Array]:
    return {name: value for name, value in zip_equal(names, values) if value is not None}
