"""SavedModels, `tf.Module`s and `tf.function`s: from a concrete function to a bundle."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge.worker.compatible import zip_equal
from bridge_converters.tf_to_onnx.bundle import Bundle, Port, Weight
from bridge_converters.tf_to_onnx.lift import Capture, arguments, lift_graph, lift_variables
from bridge_converters.tf_to_onnx.scopes import keras_scopes, module_scopes, split

if TYPE_CHECKING:
    from bridge.hub.metadata import Scope, WeightKind

_KERAS_CHILDREN = frozenset({"call_signature_parameters", "_losses_override", "keras_api"})
_ARCHIVE_CHILDREN = frozenset({"_all_variables", "_misc_assets"})
_PARAMETERS = frozenset(
    {
        "kernel",
        "bias",
        "gamma",
        "beta",
        "embeddings",
        "alpha",
        "recurrent_kernel",
        "scale",
        "weight",
        "weights",
    }
)
"""What Keras calls variables that training moves; any of them that is not trainable was frozen."""
_STATE = frozenset({"seed_generator_state"})


@dataclass(frozen=True)
class Signature:
    """A concrete function with the names that users see, and the object that owns its variables."""

    function: tf.types.experimental.ConcreteFunction
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    owner: tf.Module | None


def signature_of(function: tf.types.experimental.ConcreteFunction, owner: Any) -> Signature:
    """The interface of a concrete function: keys where it has them, names of arguments otherwise."""
    positional, named = function.structured_input_signature
    tensors = arguments(function)
    if not positional and len(tf.nest.flatten(named)) == len(named):
        inputs = sorted(named)
    else:
        inputs = [_argument_name(tensor) for tensor in tensors]
    structure = function.structured_outputs
    if isinstance(structure, dict) and len(tf.nest.flatten(structure)) == len(structure):
        outputs = sorted(str(key) for key in structure)
    else:
        outputs = [f"output_{position}" for position in range(len(function.outputs))]
    return Signature(function, distinct(inputs), distinct(outputs), owner)


def call_flat(
    function: tf.types.experimental.ConcreteFunction, tensors: Iterable[tf.Tensor]
) -> list[tf.Tensor]:
    """Call a concrete function with its tensors in order; the answer is its outputs in order."""
    positional, named = flat_arguments(function, tensors)
    return list(tf.nest.flatten(function(*positional, **named)))


def flat_arguments(
    function: tf.types.experimental.ConcreteFunction, tensors: Iterable[tf.Tensor]
) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The positional and named arguments of a concrete function that has these tensors in order."""
    remaining = iter(tensors)
    positional, named = tf.nest.map_structure(
        lambda spec: next(remaining) if isinstance(spec, tf.TensorSpec) else spec,
        function.structured_input_signature,
    )
    return positional, named


def trace_signature(signature: Signature, *, format: str, root_type: str) -> Bundle:
    """The bundle of a function: variables lifted, named after the source, modules told from names.

    Axis 0 of all inputs is taken for one batch where Keras made the function or where there is one input.
    Raises InputError for inputs that are no plain tensors of numbers.
    """
    started = time.perf_counter()
    function = signature.function
    inputs = tuple(port(name, tensor) for name, tensor in zip_equal(signature.inputs, arguments(function)))
    outputs = tuple(port(name, tensor) for name, tensor in zip_equal(signature.outputs, function.outputs))
    lifted = lift_variables(function)
    names = _VariableNames(signature.owner)
    reads = _readers(lifted.graph)
    root: str | None = None
    if names.keras:
        decoded = keras_scopes(
            (node.name for node in lifted.graph.node), reads=_variables_read(lifted.captures, reads)
        )
        scopes, root = decoded.scopes, decoded.root
    else:
        scopes = module_scopes(
            (node, names.path(capture, (), None)[:-1])
            for capture in lifted.captures
            for node in reads.get(capture.node, ())
        )
    weights, values = [], {}
    taken: list[str] = []
    for capture in lifted.captures:
        reader = reads.get(capture.node, [""])[0]
        path = distinct([*taken, "/".join(names.path(capture, scope_of(reader, scopes), root))])[-1]
        taken.append(path)
        kind, trainable = names.role(capture)
        weights.append(Weight(capture.node, path, kind, trainable))
        values[capture.node] = capture.numpy()
    return Bundle(
        graph=lifted.graph,
        inputs=inputs,
        outputs=outputs,
        weights=tuple(weights),
        values=values,
        format=format,
        root_type=root_type,
        batched=names.keras or len(inputs) == 1,
        unused=tuple(names.unused(lifted.captures)),
        scopes=scopes,
        seconds=time.perf_counter() - started,
    )


def lift_bundle(bundle: Bundle) -> Bundle:
    """A bundle that another TensorFlow traced, with its graph lifted by this one."""
    dtypes = {node.name: node.attr["dtype"].type for node in bundle.graph.node}
    handles = [each for each in bundle.weights if dtypes[each.node] == tf.resource.as_datatype_enum]
    arguments = [each.tensor for each in bundle.inputs]
    graph = lift_graph(
        bundle.graph,
        [*arguments, *(f"{each.node}:0" for each in bundle.weights)],
        arguments,
        [each.tensor for each in bundle.outputs],
        {
            each.node: (
                tf.TensorShape(bundle.values[each.node].shape),
                tf.as_dtype(bundle.values[each.node].dtype),
            )
            for each in handles
        },
    )
    placeholders = {node.name for node in graph.node if node.op == "Placeholder"}
    kept = tuple(each for each in bundle.weights if each.node in placeholders)
    return replace(
        bundle,
        graph=graph,
        weights=kept,
        values={each.node: bundle.values[each.node] for each in kept},
        unused=(
            *bundle.unused,
            *(replace(each, node="") for each in handles if each.node not in placeholders),
        ),
        lifted=True,
    )


def port(name: str, tensor: tf.Tensor) -> Port:
    """The record of an input or output. Raises InputError for strings, ragged and other odd tensors."""
    if tensor.dtype in (tf.string, tf.variant, tf.resource):
        raise InputError(
            f"{name!r} is a {tensor.dtype.name}, not a tensor of numbers",
            hint="bridge converts tensors only: cut the model after its text processing, and feed it numbers",
        )
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return Port(name, tensor.name, tensor.dtype.as_numpy_dtype.__name__, shape)


def concrete(
    function: Any, inputs: Sequence[InputSpec], *, what: str, static_batch: bool = False
) -> tf.types.experimental.ConcreteFunction:
    """The one concrete function of a `tf.function`, for the given inputs or for its own signature.

    Raises InputError where it needs inputs that nobody specified.
    """
    if inputs:
        return function.get_concrete_function(
            *(
                tf.TensorSpec(
                    [None if isinstance(axis, str) else axis for axis in each.shape],
                    each.dtype,
                    name=each.name,
                )
                for each in inputs
            )
        )
    if hasattr(function, "concrete_functions"):
        traced = list(function.concrete_functions)
    elif function.input_signature is not None:
        traced = [function.get_concrete_function()]
    else:
        traced = list(function._list_all_concrete_functions())
    if len(traced) != 1:
        raise InputError(
            f"{what} was traced for {len(traced)} sets of inputs"
            if traced
            else f"{what} has no input signature",
            hint="say which inputs: --input Nx224x224x3 (or inputs=... in Python), or give the tf.function "
            "an input_signature",
        )
    return traced[0]


def capture_handles(signature: Signature) -> dict[str, int]:
    """The identity of what a function captured, by the node that stands for it."""
    function = signature.function
    pairs = zip_equal(function.graph.captures, function.captured_inputs)
    return {inner.op.name: id(outer) for (_, inner), outer in pairs}


def scope_of(node: str, scopes: dict[str, Scope]) -> tuple[str, ...]:
    """The names of the modules a node belongs to."""
    prefix = node
    while prefix:
        if prefix in scopes:
            return tuple(entry.name for entry in scopes[prefix])
        prefix = prefix.rpartition("/")[0]
    return ()


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with `_1`, `_2`, ... after those that came before."""
    result: list[str] = []
    for name in names:
        candidate, number = name, 0
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return tuple(result)


class _VariableNames:
    """What the variables of an object are called.

    Variables of Keras layers carry Keras' path as their name. It is completed by the scope that reads the
    variable (a nested model that Keras leaves out) and cut by the root model's name. A variable of
    any other object is named by the attributes that lead to it, as in TensorFlow's own checkpoints.
    """

    def __init__(self, owner: Any) -> None:
        self._paths: dict[int, tuple[str, ...]] = {}
        self._variables: dict[int, tf.Variable] = {}
        self._trainable: set[int] | None = None
        self.keras = False
        if owner is None:
            return
        view = tf.train.TrackableView(owner)
        children = view.children(owner)
        archive = set(children) >= _ARCHIVE_CHILDREN
        self.keras = archive or bool(_KERAS_CHILDREN & set(children))
        pending: list[tuple[Any, tuple[str, ...]]] = [(owner, ())]
        seen = {id(owner)}
        while pending:
            found, path = pending.pop(0)
            for name, child in view.children(found).items():
                if id(child) in seen or name == "signatures":
                    continue
                seen.add(id(child))
                if isinstance(child, tf.Variable):
                    self._variables[id(child.handle)] = child
                    self._paths[id(child.handle)] = (*path, name)
                pending.append((child, (*path, name)))
        if archive:
            listed = view.children(children["trainable_variables"]).values()
            self._trainable = {id(each.handle) for each in listed}

    def path(self, capture: Capture, scope: tuple[str, ...], root: str | None) -> tuple[str, ...]:
        """The path of a captured variable that is read inside modules of these names."""
        if capture.variable is None:
            return (*scope, "constant")
        name = tuple(capture.variable.name.split(":")[0].split("/"))
        if not self.keras:
            return self._paths.get(id(capture.variable.handle), name)
        return keras_path(name, scope, root)

    def role(self, capture: Capture) -> tuple[WeightKind, bool]:
        if capture.variable is None:
            return "buffer", False
        variable = capture.variable
        trainable = bool(variable.trainable)
        if self._trainable is not None:
            trainable = id(variable.handle) in self._trainable
        if trainable or variable.trainable:
            return "parameter", trainable
        name = variable.name.split(":")[0].rpartition("/")[2]
        return ("parameter" if self.keras and name in _PARAMETERS else "buffer"), False

    def _identity(self, variable: tf.Variable) -> object:
        """What makes two variables the same: an export archive of Keras holds every variable twice."""
        return variable.name if self.keras else id(variable.handle)

    def unused(self, captures: Sequence[Capture]) -> list[Weight]:
        """Trained tensors that the function does not read.

        A saved Keras model keeps its optimizer's state among its variables, so there nobody can tell.
        """
        if self._trainable is None and self.keras:
            return []
        read = {self._identity(each.variable) for each in captures if each.variable is not None}
        missing = []
        for handle, variable in self._variables.items():
            parts = tuple(variable.name.split(":")[0].split("/"))
            if self._identity(variable) in read or parts[-1] in _STATE:
                continue
            read.add(self._identity(variable))
            path = "/".join(parts if self.keras else self._paths[handle])
            kind, trainable = self.role(Capture("", variable, None))
            missing.append(Weight("", path, kind, trainable))
        return missing


def keras_path(name: tuple[str, ...], scope: tuple[str, ...], root: str | None) -> tuple[str, ...]:
    """The path of a variable by bridge's rule, from TensorFlow's name for it and the layers it is read in.

    The name lacks a nested model (`conv/kernel` read in `block1/conv`) or the layer (`net/kernel` and
    `net/kernel_1`, read in `dense` of a subclassed `net`), and may start with the root model's name.
    """
    layers, own = name[:-1], name[-1]
    if layers[:1] == (root,) and scope[:1] != (root,):
        layers = layers[1:]
        if not layers and scope:
            own = re.sub(r"_\d+$", "", own)
    for start in range(len(scope)):
        overlap = min(len(scope) - start, len(layers))
        if scope[start : start + overlap] == layers[:overlap]:
            return (*scope, *layers[overlap:], own)
    return (*layers, own)


def _variables_read(
    captures: Iterable[Capture], readers: Mapping[str, Iterable[str]]
) -> dict[str, list[str]]:
    """The captured variables that a node reads, by node."""
    read: dict[str, list[str]] = {}
    for capture in captures:
        for node in readers.get(capture.node, ()):
            read.setdefault(node, []).append(capture.node)
    return read


def _readers(graph_def: tf.compat.v1.GraphDef) -> dict[str, list[str]]:
    readers: dict[str, list[str]] = {}
    for node in graph_def.node:
        for name in node.input:
            readers.setdefault(name.split(":")[0], []).append(node.name)
    return readers


def _argument_name(tensor: tf.Tensor) -> str:
    try:
        name = tensor.op.get_attr("_user_specified_name")
    except ValueError:
        return split(tensor.op.name)[1][-1]
    return name.decode() if isinstance(name, bytes) else str(name)
