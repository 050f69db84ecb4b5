"""A TensorFlow graph as steps in the order of computation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import op_def_registry

from bridge.errors import BridgeError

_FRAMES = frozenset({"Switch", "RefSwitch", "Merge", "RefMerge", "Enter", "RefEnter"})


@dataclass
class Step:
    name: str
    op: str
    node: tf.compat.v1.NodeDef
    inputs: tuple[tuple[str, int], ...]
    controls: tuple[str, ...]
    last: list[tuple[str, int]] = field(default_factory=list)
    attributes: dict[frozenset[str], tuple[Any, ...]] = field(default_factory=dict)
    narrow: frozenset[str] | None = None
    constant: tf.Tensor | None = None


class Program:
    """A graph as steps in the order of computation, with the functions that it calls.

    `outputs` are tensors (`node:index`). With `effects` the assignments to variables are part of it, in
    the order that control dependencies ask for; otherwise only what the outputs are computed from.
    """

    def __init__(
        self, graph: tf.compat.v1.GraphDef, outputs: Sequence[str], *, effects: bool = False
    ) -> None:
        self._functions = {each.signature.name: each for each in graph.library.function}
        self._effects = effects
        self._assigning: dict[str, bool] = {}
        self._bodies: dict[str, Body] = {}
        self.placeholders = {
            node.name: node.attr["dtype"].type for node in graph.node if node.op.startswith("Placeholder")
        }
        self.main = Body(self, list(graph.node), (), [_graph_reference(name) for name in outputs], None)

    def function(self, name: str) -> Body:
        """The body of a function of the library."""
        if name not in self._bodies:
            definition = self._functions[name]
            arguments = [each.name for each in definition.signature.input_arg]
            places = {node.name: self.places(node) for node in definition.node_def}
            outputs = [
                _function_reference(definition.ret[each.name], places)
                for each in definition.signature.output_arg
            ]
            self._bodies[name] = Body(self, list(definition.node_def), arguments, outputs, places)
        return self._bodies[name]

    def is_function(self, name: str) -> bool:
        return name in self._functions

    def places(self, node: tf.compat.v1.NodeDef) -> dict[str, int]:
        """The number of the first output that belongs to each output argument of an operator."""
        places, count = {}, 0
        for argument in definition_of(node.op, self._functions).output_arg:
            places[argument.name] = count
            count += length(argument, node)
        return places

    def count(self, node: tf.compat.v1.NodeDef) -> int:
        """How many tensors a node computes."""
        return sum(length(each, node) for each in definition_of(node.op, self._functions).output_arg)

    def assigns(self, node: tf.compat.v1.NodeDef) -> bool:
        """Whether a node changes a variable, itself or in a function that it calls."""
        if not self._effects:
            return False
        if node.op.startswith("Assign") or (node.op.startswith("Resource") and "Apply" in node.op):
            return True
        called = [each.func.name for each in node.attr.values() if each.HasField("func")]
        called += [each.name for attr in node.attr.values() for each in attr.list.func]
        return any(self._function_assigns(name) for name in called)

    def _function_assigns(self, name: str) -> bool:
        if name not in self._assigning:
            self._assigning[name] = False
            nodes = self._functions[name].node_def if name in self._functions else ()
            self._assigning[name] = any(self.assigns(node) for node in nodes)
        return self._assigning[name]

    def operators(self) -> Iterator[tf.compat.v1.NodeDef]:
        """Every node that an evaluation may reach."""
        seen: set[str] = set()
        pending = [self.main]
        while pending:
            body = pending.pop()
            for step in body.steps:
                yield step.node
                for name in _called(step.node):
                    if name in self._functions and name not in seen:
                        seen.add(name)
                        pending.append(self.function(name))


def _called(node: tf.compat.v1.NodeDef) -> Iterator[str]:
    yield node.op
    for attr in node.attr.values():
        if attr.HasField("func"):
            yield attr.func.name
        yield from (each.name for each in attr.list.func)


class Body:
    """The nodes of a graph or function that its outputs need, sorted."""

    def __init__(
        self,
        program: Program,
        nodes: list[tf.compat.v1.NodeDef],
        arguments: Sequence[str],
        outputs: list[tuple[str, int]],
        places: Mapping[str, Mapping[str, int]] | None,
    ) -> None:
        self.arguments = tuple(arguments)
        self.outputs = outputs
        self._consumers: dict[str, list[Step]] | None = None
        known = {}
        for node in nodes:
            data = [each for each in node.input if not each.startswith("^")]
            read = [
                _graph_reference(each) if places is None else _function_reference(each, places)
                for each in data
            ]
            controls = [each[1:].split(":")[0] for each in node.input if each.startswith("^")]
            known[node.name] = Step(node.name, node.op, node, tuple(read), tuple(controls))
        for name, _ in outputs:
            if name not in known and name not in self.arguments:
                raise BridgeError(f"the graph has no node {name!r}")
        self.frames = any(step.op in _FRAMES for step in known.values())
        effects = [step.name for step in known.values() if program.assigns(step.node)]
        ordered = bool(effects) or self.frames
        wanted = _reached(known, [*(name for name, _ in outputs), *effects], ordered)
        self.steps = [known[name] for name in _sorted(known, wanted, ordered and not self.frames)]
        self._mark_last_uses()

    def _mark_last_uses(self) -> None:
        kept = set(self.outputs)
        seen: set[tuple[str, int]] = set()
        for step in reversed(self.steps):
            for reference in step.inputs:
                if reference not in seen and reference not in kept:
                    step.last.append(reference)
                seen.add(reference)

    @property
    def consumers(self) -> dict[str, list[Step]]:
        """The steps that wait for each step; only a graph with frames is asked for them."""
        if self._consumers is None:
            self._consumers = {}
            for step in self.steps:
                for name in dict.fromkeys([*(name for name, _ in step.inputs), *step.controls]):
                    self._consumers.setdefault(name, []).append(step)
        return self._consumers


def _reached(known: Mapping[str, Step], roots: Iterable[str], controls: bool) -> set[str]:
    reached: set[str] = set()
    pending = [name for name in roots if name in known]
    while pending:
        name = pending.pop()
        if name in reached or name not in known:
            continue
        reached.add(name)
        pending.extend(source for source, _ in known[name].inputs)
        if controls:
            pending.extend(known[name].controls)
    return reached


def _sorted(known: Mapping[str, Step], wanted: set[str], controls: bool) -> list[str]:
    """The wanted nodes, sources first, in the graph's own order where that allows it.

    Loops of TensorFlow 1 have no such order; there any will do.
    """
    result: dict[str, None] = {}
    for root in known:
        if root not in wanted or root in result:
            continue
        entered: set[str] = set()
        pending = [(root, False)]
        while pending:
            name, leaving = pending.pop()
            if name in result or name not in wanted:
                continue
            if leaving:
                result[name] = None
                continue
            if name in entered:
                continue
            entered.add(name)
            pending.append((name, True))
            step = known[name]
            sources = [source for source, _ in step.inputs]
            sources += step.controls if controls else ()
            pending.extend((source, False) for source in reversed(sources) if source not in result)
    return list(result)


def _graph_reference(name: str) -> tuple[str, int]:
    node, _, index = name.partition(":")
    return node, int(index or 0)


def _function_reference(name: str, places: Mapping[str, Mapping[str, int]]) -> tuple[str, int]:
    node, _, rest = name.partition(":")
    if not rest:
        return node, 0
    argument, _, index = rest.partition(":")
    return node, places[node][argument] + int(index or 0)


def registered(op: str) -> Any:
    """TensorFlow's definition of an operator, None where it has none of this name."""
    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(op)
    return op_def_registry.get_registered_ops().get(op)  # TensorFlow 1


def definition_of(op: str, functions: Mapping[str, function_pb2.FunctionDef]) -> Any:
    if op in functions:
        return functions[op].signature
    definition = registered(op)
    if definition is None:
        raise BridgeError(f"TensorFlow does not know the operator {op!r}")
    return definition


def length(argument: Any, node: tf.compat.v1.NodeDef) -> int:
    if argument.number_attr:
        return int(node.attr[argument.number_attr].i)
    if argument.type_list_attr:
        return len(node.attr[argument.type_list_attr].list.type)
    return 1
