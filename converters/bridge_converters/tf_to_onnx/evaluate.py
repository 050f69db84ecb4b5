"""Compute a TensorFlow graph operator by operator, in another precision than it was built for.

TensorFlow's own eager kernels do the arithmetic; only the walk through the graph is here: calls, `While`,
`If`, variables, and the control flow of TensorFlow 1. A walk can be observed (every result of every
operator), differentiated (a `tf.GradientTape` around it sees eager operators), and disturbed by rounding
noise, and it changes nothing but the types: float32, float16 and bfloat16 become the precision that is asked
for. No part of the reader takes part in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import attr_value_pb2, types_pb2
from tensorflow.python.eager import context, execute
from tensorflow.python.framework import ops

from bridge.errors import BridgeError
from bridge.worker.compatible import zip_equal
from bridge_converters.tf_to_onnx.exact import COMPOSITIONS
from bridge_converters.tf_to_onnx.program import Body, Program, Step, length, registered
from bridge_converters.tf_to_onnx.rounding import MOVES, Noise

_SINGLE = frozenset({types_pb2.DT_FLOAT, types_pb2.DT_HALF, types_pb2.DT_BFLOAT16})
_TYPES: Mapping[str, Mapping[int, int]] = {
    "float64": {
        **dict.fromkeys(_SINGLE, types_pb2.DT_DOUBLE),
        types_pb2.DT_COMPLEX64: types_pb2.DT_COMPLEX128,
    },
    "float16": {types_pb2.DT_FLOAT: types_pb2.DT_HALF},
    "bfloat16": {types_pb2.DT_FLOAT: types_pb2.DT_BFLOAT16},
}
_CALLS = frozenset({"PartitionedCall", "StatefulPartitionedCall", "RemoteCall"})
_LOOPS = frozenset({"While", "StatelessWhile"})
_BRANCHES = frozenset({"If", "StatelessIf"})
_CASES = frozenset({"Case", "StatelessCase"})
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_PASSES = frozenset(
    {
        "Identity",
        "IdentityN",
        "LoopCond",
        "Snapshot",
        "PlaceholderWithDefault",
        "PreventGradient",
        "Enter",
        "RefEnter",
        "Exit",
        "RefExit",
        "NextIteration",
        "RefNextIteration",
        "ReadVariableOp",
    }
)
_REINTERPRETS = frozenset({"Bitcast"})
"""Operators that read the bits of a number: they must see the type that the model gave it."""
_FIXED = ""
"""Stands for inputs and outputs of a floating type that no attribute changes."""
_NO_KERNEL = (tf.errors.NotFoundError, tf.errors.UnimplementedError)


class Resource:
    """The stand-in of a variable.

    `value` is an eager tensor in the precision of the walk, `stored` what the variable held at first.
    """

    __slots__ = ("stored", "value")

    def __init__(self, value: tf.Tensor) -> None:
        self.stored = self.value = value


@dataclass(frozen=True)
class Result:
    """A tensor that a walk computed: its name (`node:0`), its operator, and the tensors it was made from.

    `operands` are what the operator itself takes, in order.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    value: tf.Tensor
    operands: tuple[str, ...] = ()
    node: tf.compat.v1.NodeDef | None = None

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the operator, defaults included."""
        return {} if self.node is None else _attributes(self.node, {})


if TYPE_CHECKING:
    Observer = Callable[[Result], None]


class Evaluator:
    """Walks through a program in one precision: `float64`, `float16`, `bfloat16`, or None for its own.

    `single` collects the operators that TensorFlow computed in single precision all the same, because it
    has no other kernel for them.
    """

    def __init__(self, program: Program, dtype: str | None) -> None:
        self._program = program
        self._dtype = dtype
        self._types = {} if dtype is None else _TYPES[dtype]
        self.single: set[str] = set()

    def cast(self, value: Any) -> tf.Tensor:
        """A tensor or array in the precision of the walk, if it is floating and narrower or wider."""
        tensor = tf.convert_to_tensor(value)
        wanted = self._types.get(tensor.dtype.as_datatype_enum)
        return tensor if wanted is None else tf.cast(tensor, wanted)

    def fed(self, node: str, value: Any) -> tf.Tensor:
        """A floating value as a placeholder of the program takes it in this precision."""
        tensor = tf.convert_to_tensor(value)
        dtype = self._program.placeholders[node]
        return tf.cast(tensor, self._types.get(dtype, dtype)) if tensor.dtype.is_floating else tensor

    def run(
        self,
        feeds: Mapping[str, Any],
        *,
        observe: Observer | None = None,
        noise: Noise | None = None,
    ) -> list[Any]:
        """The outputs of the program.

        `feeds` are what placeholders and variables stand for, tensors or Resources by node.
        Raises BridgeError or NotImplementedError where TensorFlow cannot compute it.
        """
        with tf.device("/CPU:0"):
            return _Walk(self._program, self, feeds, observe, noise).graph(self._program.main, [], "")

    def execute(self, step: Step, inputs: list[Any]) -> list[Any]:
        """Compute one operator."""
        if self._dtype == "float64" and step.op in COMPOSITIONS:
            composed = COMPOSITIONS[step.op](_attributes(step.node, {}), inputs)
            if composed is not None:
                return list(composed)
        if self._narrow(step):
            return self._in_own_types(step, inputs, self._narrow(step))
        try:
            return self._call(step, inputs, frozenset())
        except _NO_KERNEL as error:
            typed = frozenset(name for name, attr in step.node.attr.items() if attr.type in self._types)
            if not typed:
                raise NotImplementedError(f"TensorFlow has no {step.op} for these types") from error
            return self._in_own_types(step, inputs, typed)

    def _narrow(self, step: Step) -> frozenset[str]:
        """The type attributes of an operator that must stay, and `_FIXED` if it has fixed types."""
        if step.narrow is None:
            step.narrow = frozenset(self._narrow_attributes(step.node))
        return step.narrow

    def _narrow_attributes(self, node: tf.compat.v1.NodeDef) -> Iterator[str]:
        definition = registered(node.op)
        arguments = [*definition.input_arg, *definition.output_arg]
        typed = {each.type_attr for each in arguments if each.type_attr}
        fixed = any(each.type in self._types for each in arguments)
        if fixed:
            yield _FIXED
        for attr in definition.attr:
            dtype = node.attr[attr.name].type if attr.name in typed else 0
            if dtype in self._types:
                allowed = attr.allowed_values.list.type
                statistics = node.op.startswith("FusedBatchNorm") and attr.name == "U"
                own = statistics or node.op in _REINTERPRETS or (fixed and self._dtype == "float64")
                if own or (allowed and self._types[dtype] not in allowed):
                    yield attr.name

    def _in_own_types(self, step: Step, inputs: list[Any], kept: frozenset[str]) -> list[Any]:
        """Compute an operator some of whose types cannot be changed, between casts."""
        typed = {each for each, attr in step.node.attr.items() if attr.type in self._types}
        if step.op not in _REINTERPRETS:
            if self._dtype != "float64" and not typed - kept:
                raise NotImplementedError(f"TensorFlow has no {step.op} in {self._dtype}")
            self.single.add(step.op)
        declared = _declared_inputs(step.node, self._types, kept)
        fitting = [
            tf.cast(each, dtype) if tf.is_tensor(each) and each.dtype.is_floating else each
            for each, dtype in zip_equal(inputs, declared)
        ]
        return [self.cast(each) for each in self._call(step, fitting, kept)]

    def _call(self, step: Step, inputs: list[Any], kept: frozenset[str]) -> list[Any]:
        if kept not in step.attributes:
            pairs = _attributes(step.node, self._types, kept).items()
            step.attributes[kept] = tuple(part for pair in pairs for part in pair)
        attributes = step.attributes[kept]
        ctx = context.context()
        ctx.ensure_initialized()
        results = execute.execute(
            step.op, self._program.count(step.node), inputs=inputs, attrs=attributes, ctx=ctx, name=None
        )
        _record(step.op, inputs, attributes, results)
        return list(results)


def _record(op: str, inputs: list[Any], attributes: tuple[Any, ...], results: Any) -> None:
    """Let the tapes that watch an input know of an operator."""
    if not hasattr(execute, "must_record_gradient"):  # TensorFlow 1
        execute.record_gradient(op, inputs, attributes, results, None)
    elif execute.must_record_gradient():
        execute.record_gradient(op, inputs, attributes, results)


def _declared_inputs(node: tf.compat.v1.NodeDef, types: Mapping[int, int], kept: frozenset[str]) -> list[int]:
    """The types of the inputs of a node whose type attributes other than the `kept` ones are replaced."""
    declared: list[int] = []
    for argument in registered(node.op).input_arg:
        if argument.type_list_attr:
            listed = node.attr[argument.type_list_attr].list.type
            declared.extend(types.get(each, each) for each in listed)
            continue
        dtype = argument.type
        if argument.type_attr:
            dtype = node.attr[argument.type_attr].type
            dtype = dtype if argument.type_attr in kept else types.get(dtype, dtype)
        declared.extend([dtype] * length(argument, node))
    return declared


def _attributes(
    node: tf.compat.v1.NodeDef, types: Mapping[int, int], kept: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The attributes of a node as eager operators take them, defaults included, types replaced."""
    result = {}
    for attr in registered(node.op).attr:
        value = node.attr.get(attr.name, attr.default_value)
        result[attr.name] = _attribute(value, {} if attr.name in kept else types)
    return result


def _attribute(value: attr_value_pb2.AttrValue, types: Mapping[int, int]) -> Any:
    kind = value.WhichOneof("value")
    if kind == "type":
        return types.get(value.type, value.type)
    if kind == "shape":
        return _shape(value.shape)
    if kind == "func":
        return value.func.name
    if kind != "list":
        return None if kind is None else getattr(value, kind)
    for name in ("type", "shape", "s", "i", "f", "b", "func", "tensor"):
        found = list(getattr(value.list, name))
        if found and name == "type":
            return [types.get(each, each) for each in found]
        if found and name == "shape":
            return [_shape(each) for each in found]
        if found:
            return [each.name for each in found] if name == "func" else found
    return []


def _shape(proto: Any) -> list[int | None] | None:
    shape = tf.TensorShape(proto)
    return None if shape.rank is None else shape.as_list()


_EagerTensor = ops.EagerTensor


class _Walk:
    """One evaluation."""

    def __init__(
        self,
        program: Program,
        evaluator: Evaluator,
        feeds: Mapping[str, Any],
        observe: Observer | None,
        noise: Noise | None,
    ) -> None:
        self._program = program
        self._evaluator = evaluator
        self._feeds = feeds
        self._observe = observe
        self._noise = noise
        self._observed: dict[int, str] = {}
        self._inside: dict[str, tuple[str, ...]] = {}  # what lists of tensors, which nobody sees, hold

    def graph(self, body: Body, arguments: Sequence[Any], prefix: str) -> list[Any]:
        """The outputs of a body; `prefix` is what the names of its nodes start with."""
        if body.frames:
            return self._frames(body, arguments, prefix)
        values: dict[tuple[str, int], Any] = {
            (name, 0): value for name, value in zip_equal(body.arguments, arguments)
        }
        for step in body.steps:
            for index, value in enumerate(self._step(step, [values[each] for each in step.inputs], prefix)):
                values[step.name, index] = value
            for reference in step.last:
                values.pop(reference, None)
        return [values[each] for each in body.outputs]

    def _step(self, step: Step, inputs: list[Any], prefix: str) -> list[Any]:
        fed = not prefix and step.name in self._feeds
        results = [self._feeds[step.name]] if fed else self._result(step, inputs, prefix)
        if self._noise is not None and step.op not in MOVES and not self._is_call(step):
            results = [
                self._noise.disturb(step.op, inputs, each) if tf.is_tensor(each) else each for each in results
            ]
        if self._observe is not None:
            names = [
                self._name(value, f"{prefix}{name}:{index}")
                for value, (name, index) in zip_equal(inputs, step.inputs)
            ]
            read = tuple(dict.fromkeys(each for name in names for each in self._inside.get(name, (name,))))
            for index, value in enumerate(results):
                name = f"{prefix}{step.name}:{index}"
                if tf.is_tensor(value) and value.dtype == tf.variant:
                    self._inside[self._name(value, name)] = read
                elif tf.is_tensor(value) and value.dtype not in (tf.resource, tf.string):
                    inside = self._name(value, name)
                    made_of = read if inside == name else (inside,)
                    self._observe(Result(name, step.op, made_of, value, tuple(names), step.node))
        return results

    def _name(self, value: Any, name: str) -> str:
        """What a tensor was called first: a function passes on the tensors of its caller, and back."""
        return self._observed.setdefault(value._id, name) if isinstance(value, _EagerTensor) else name

    @contextmanager
    def _observing(self, observing: bool) -> Iterator[None]:
        """Iterations of a loop are not observed: they compute tensors of one name again and again."""
        observe = self._observe
        self._observe = observe if observing else None
        try:
            yield
        finally:
            self._observe = observe

    def _is_call(self, step: Step) -> bool:
        return step.op in _CALLS | _LOOPS | _BRANCHES | _CASES or self._program.is_function(step.op)

    def _result(self, step: Step, inputs: list[Any], prefix: str) -> list[Any]:
        op, node = step.op, step.node
        if op in ("Placeholder", "PlaceholderV2") or op in _VARIABLES:
            raise BridgeError(f"nothing is fed to {prefix}{node.name}")
        if op == "Const":
            if step.constant is None:
                with tf.init_scope():
                    step.constant = self._evaluator.cast(tf.make_ndarray(node.attr["value"].tensor))
            return [step.constant]
        if self._is_call(step):
            return self._call(step, inputs, f"{prefix}{step.name}/")
        if op in _PASSES:
            first = inputs[0]
            if op == "ReadVariableOp" and isinstance(first, Resource):
                return [first.value]
            if op != "ReadVariableOp":
                return inputs
        if inputs and isinstance(inputs[0], Resource):
            return _with_variable(step, inputs[0], inputs[1:])
        if op in _TENSOR_ARRAYS:
            return _TENSOR_ARRAYS[op](node, inputs)
        return self._evaluator.execute(step, inputs)

    def _call(self, step: Step, inputs: list[Any], prefix: str) -> list[Any]:
        attr = step.node.attr
        if self._program.is_function(step.op):
            return self.graph(self._program.function(step.op), inputs, prefix)
        if step.op in _CALLS:
            return self.graph(self._program.function(attr["f"].func.name), inputs, prefix)
        if step.op in _BRANCHES:
            name = attr["then_branch" if bool(inputs[0]) else "else_branch"].func.name
            return self.graph(self._program.function(name), inputs[1:], prefix)
        if step.op in _CASES:
            branches = attr["branches"].list.func
            chosen = int(inputs[0])
            chosen = chosen if 0 <= chosen < len(branches) else len(branches) - 1
            return self.graph(self._program.function(branches[chosen].name), inputs[1:], prefix)
        condition = self._program.function(attr["cond"].func.name)
        body = self._program.function(attr["body"].func.name)
        with self._observing(False):
            while bool(self.graph(condition, inputs, prefix)[0]):
                inputs = self.graph(body, inputs, prefix)
        return inputs

    def _frames(self, body: Body, arguments: Sequence[Any], prefix: str) -> list[Any]:
        """The outputs of a graph with the control flow of TensorFlow 1.

        A node computes once for each iteration of each loop it is in, as soon as its inputs are there. What a
        Switch does not choose is never computed, so a Merge takes what comes first.
        """
        values: dict[tuple[str, _Tag], list[Any]] = {}
        fired: set[tuple[str, _Tag]] = set()
        loops = _Loops()
        ready: deque[tuple[Step, _Tag]] = deque()

        def deliver(name: str, tag: _Tag, results: list[Any]) -> None:
            values[name, tag] = results
            for consumer in body.consumers.get(name, ()):
                if (consumer.name, tag) not in fired and _may_compute(consumer, tag, values):
                    fired.add((consumer.name, tag))
                    ready.append((consumer, tag))

        ready.extend((step, ()) for step in body.steps if not step.inputs and not step.controls)
        for name, value in zip_equal(body.arguments, arguments):
            deliver(name, (), [value])
        while ready:
            step, tag = ready.popleft()
            found = [values.get((name, tag)) for name, _ in step.inputs]
            read = [
                None if each is None else each[index] for each, (_, index) in zip_equal(found, step.inputs)
            ]
            if step.op in ("Switch", "RefSwitch"):
                deliver(step.name, tag, [None, read[0]] if bool(read[1]) else [read[0], None])
            elif step.op in ("Merge", "RefMerge"):
                chosen = next(index for index, value in enumerate(read) if value is not None)
                deliver(step.name, tag, [read[chosen], tf.constant(chosen)])
            else:
                with self._observing(not tag):
                    results = self._step(step, read, prefix)
                for place in loops.places(step, tag, results):
                    deliver(place.name, place.tag, place.results)
        return [values[name, ()][index] for name, index in body.outputs]


if TYPE_CHECKING:
    _Tag = tuple[tuple[str, int], ...]
    """Which iteration of which loops, from the outermost."""


def _may_compute(step: Step, tag: _Tag, values: Mapping[tuple[str, _Tag], list[Any]]) -> bool:
    if any((name, tag) not in values for name in step.controls):
        return False
    live = [(name, tag) in values and values[name, tag][index] is not None for name, index in step.inputs]
    return any(live) if step.op in ("Merge", "RefMerge") else all(live)


@dataclass(frozen=True)
class _Place:
    name: str
    tag: _Tag
    results: list[Any]


class _Loops:
    """Where results go that enter, leave or continue a loop; invariants go to every iteration."""

    def __init__(self) -> None:
        self._iterations: dict[tuple[_Tag, str], int] = {}
        self._invariants: dict[tuple[_Tag, str], dict[str, list[Any]]] = {}

    def places(self, step: Step, tag: _Tag, results: list[Any]) -> Iterator[_Place]:
        if step.op in ("Enter", "RefEnter"):
            frame = step.node.attr["frame_name"].s.decode()
            last = self._iterations.setdefault((tag, frame), 0)
            yield _Place(step.name, (*tag, (frame, 0)), results)
            if step.node.attr["is_constant"].b:
                self._invariants.setdefault((tag, frame), {})[step.name] = results
                for iteration in range(1, last + 1):
                    yield _Place(step.name, (*tag, (frame, iteration)), results)
        elif step.op in ("Exit", "RefExit"):
            yield _Place(step.name, tag[:-1], results)
        elif step.op in ("NextIteration", "RefNextIteration"):
            frame, iteration = tag[-1]
            following = (*tag[:-1], (frame, iteration + 1))
            if self._iterations[tag[:-1], frame] == iteration:
                self._iterations[tag[:-1], frame] = iteration + 1
                for name, value in self._invariants.get((tag[:-1], frame), {}).items():
                    yield _Place(name, following, value)
            yield _Place(step.name, following, results)
        else:
            yield _Place(step.name, tag, results)


def _with_variable(step: Step, variable: Resource, inputs: list[Any]) -> list[Any]:
    """An operator on a variable, by what it does to the variable's value."""
    op, value = step.op, variable.value
    batch = step.node.attr["batch_dims"].i
    if op == "ResourceGather":
        return [tf.gather(value, inputs[0], axis=batch, batch_dims=batch)]
    if op == "ResourceGatherNd":
        return [tf.gather_nd(value, inputs[0])]
    if op == "VariableShape":
        return [tf.shape(value, out_type=step.node.attr["out_type"].type or tf.int32)]
    if op == "VarIsInitializedOp":
        return [tf.constant(True)]
    if op in ("AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp"):
        change = tf.stop_gradient(inputs[0])
        if op == "AssignVariableOp":
            variable.value = change
        else:
            variable.value = value + change if op == "AssignAddVariableOp" else value - change
        return []
    raise BridgeError(f"bridge cannot evaluate {op} on a variable", where=step.name)


def _array(node: tf.compat.v1.NodeDef, inputs: list[Any]) -> list[Any]:
    return [[None] * int(inputs[0]), tf.constant(0.0)]


def _array_write(node: tf.compat.v1.NodeDef, inputs: list[Any]) -> list[Any]:
    array, index, value = inputs[:3]
    array.extend([None] * (int(index) + 1 - len(array)))
    array[int(index)] = value
    return [tf.constant(0.0)]


def _array_scatter(node: tf.compat.v1.NodeDef, inputs: list[Any]) -> list[Any]:
    array, indices, value = inputs[:3]
    for index, row in zip_equal(np.asarray(indices), tf.unstack(value)):
        _array_write(node, [array, index, row])
    return [tf.constant(0.0)]


def _array_rows(array: list[Any], indices: Iterable[int]) -> list[Any]:
    """Elements of an array; zeros where none was written, as after the end of a sequence."""
    written = next((row for row in array if row is not None), None)
    return [tf.zeros_like(written) if array[index] is None else array[index] for index in indices]


_TENSOR_ARRAYS: Mapping[str, Callable[[tf.compat.v1.NodeDef, list[Any]], list[Any]]] = {
    "TensorArrayV3": _array,
    "TensorArrayWriteV3": _array_write,
    "TensorArrayScatterV3": _array_scatter,
    "TensorArrayReadV3": lambda node, inputs: _array_rows(inputs[0], [int(inputs[1])]),
    "TensorArrayGatherV3": lambda node, inputs: [tf.stack(_array_rows(inputs[0], np.asarray(inputs[1])))],
    "TensorArraySizeV3": lambda node, inputs: [tf.constant(len(inputs[0]), tf.int32)],
}
"""TensorFlow 1's arrays, which eager execution lacks: the handle is the list itself."""
