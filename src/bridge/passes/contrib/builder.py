"""Writing one node of onnxruntime's domain as nodes of the standard."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, take_over
from bridge.hub.recipe import Array
from bridge.hub.schemas import CONTRIB, defaults

EXPANSIONS: dict[str, Callable[[Builder], None]] = {}
"""How an operator is written in the standard's terms, by name."""


class InexpressibleError(Exception):
    """Why the standard's operators cannot say what a node says."""


def expansion(*op_types: str) -> Callable[[Callable[[Builder], None]], Callable[[Builder], None]]:
    """Declare the function below as what writes these operators in the standard's terms."""

    def register(function: Callable[[Builder], None]) -> Callable[[Builder], None]:
        for op_type in op_types:
            assert op_type not in EXPANSIONS
            EXPANSIONS[op_type] = function
        return function

    return register


class Builder:
    """Puts nodes before a node, and lets their results replace its own.

    Calling it makes a node: `op("Add", x, y)`. New nodes are of the module and line of the old one.
    """

    def __init__(self, node: ir.Node, graph: ir.Graph) -> None:
        self.node = node
        self._main = graph
        self._defaults = defaults(node.op_type, CONTRIB, {CONTRIB: 1})

    def __call__(self, op_type: str, *inputs: ir.Value | None, **attributes: Any) -> ir.Value:
        """The first output of a new node of the standard."""
        return self.several(op_type, 1, *inputs, **attributes)[0]

    def several(
        self, op_type: str, count: int, *inputs: ir.Value | None, **attributes: Any
    ) -> tuple[ir.Value, ...]:
        """The outputs of a new node; attributes that are None are left out."""
        given = {name: value for name, value in attributes.items() if value is not None}
        present = list(inputs)
        while present and present[-1] is None:
            present.pop()
        node = ir.node(op_type, present, given, num_outputs=count)
        metadata.set_scope(node, metadata.scope_of(self.node))
        metadata.set_location(node, metadata.location_of(self.node))
        assert isinstance(self.node.graph, ir.Graph)
        self.node.graph.insert_before(self.node, node)
        return tuple(node.outputs)

    def give(self, *values: ir.Value | None) -> None:
        """Let values take the places of the node's outputs, and remove it; None for what nobody reads.

        Raises InexpressibleError where a value is missing that somebody reads.
        """
        results = [*values, *[None] * (len(self.node.outputs) - len(values))]
        for index, (old, new) in enumerate(zip(self.node.outputs, results, strict=False)):
            if new is None:
                if self.reads(index):
                    raise InexpressibleError(f"its output {index} is read")
                continue
            if not old.name:
                continue
            own = new.producer() is not None and not new.name and not new.uses()
            take_over(old, new if own else self("Identity", new))
        assert isinstance(self.node.graph, ir.Graph)
        self.node.graph.remove(self.node, safe=True)

    def reads(self, index: int) -> bool:
        """Whether anything reads an output of the node."""
        outputs = self.node.outputs
        return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())

    def input(self, index: int) -> ir.Value | None:
        """An input; None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def __getitem__(self, index: int) -> ir.Value:
        """An input that must be there."""
        value = self.input(index)
        if value is None:
            raise InexpressibleError(f"its input {index} is missing")
        return value

    def absent(self, *indices: int) -> None:
        """Raises InexpressibleError where one of these inputs is there."""
        for index in indices:
            if self.input(index) is not None:
                raise InexpressibleError(f"it has the input {index}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, the schema's default, or `default`."""
        found = self.node.attributes.get(name)
        value = self._defaults.get(name, default) if found is None else found.value
        value = value.decode() if isinstance(value, bytes) else value
        return float(str(np.float32(value))) if isinstance(value, float) else value

    def constant(self, array: Array, hint: str) -> ir.Value:
        """A constant of the model."""
        return add_constant(self._main, array, f"{self.node.name or self.node.op_type}_{hint}")

    def integers(self, *values: int, hint: str = "axes") -> ir.Value:
        """A constant vector of int64."""
        return self.constant(np.asarray(values, np.int64), hint)

    def number(self, value: float, hint: str = "number") -> ir.Value:
        """A constant number of the node's element type."""
        return self.constant(np.asarray(value, self.dtype().numpy()), hint)

    def single(self, value: float, hint: str = "number") -> ir.Value:
        """A constant float32 number."""
        return self.constant(np.asarray(value, np.float32), hint)

    def index(self, value: int, hint: str = "index") -> ir.Value:
        """A constant int64 number."""
        return self.constant(np.asarray(value, np.int64), hint)

    def dtype(self) -> ir.DataType:
        """The element type of the first output or input that has a known one."""
        for value in self._values():
            if value.dtype is not None:
                return value.dtype
        raise InexpressibleError("the type of its elements is not known")

    def _values(self) -> Iterator[ir.Value]:
        yield from self.node.outputs[:1]
        yield from (value for value in self.node.inputs if value is not None)

    def rank(self, value: ir.Value) -> int:
        """The number of axes."""
        if value.shape is None:
            raise InexpressibleError(f"the number of axes of {value.name!r} is not known")
        return len(value.shape)

    def size(self, value: ir.Value, axis: int) -> int:
        """The size of an axis, which must be fixed."""
        size = None if value.shape is None else value.shape[axis]
        if not isinstance(size, int):
            raise InexpressibleError(f"the size of axis {axis} of {value.name!r} is not known")
        return size

    def length(self, value: ir.Value, axis: int) -> ir.Value:
        """The size of an axis as a vector of one element, computed."""
        end = axis + 1 if axis != -1 else None
        return self("Shape", value, start=axis, end=end)

    def positions(self, length: ir.Value) -> ir.Value:
        """0, 1, 2... up to a length, which is a vector of one element."""
        scalar = self("Squeeze", self("Cast", length, to=ir.DataType.INT64), self.integers(0))
        return self("Range", self.index(0), scalar, self.index(1))

    def swap(self, value: ir.Value, rank: int) -> ir.Value:
        """A value with its last two axes exchanged."""
        return self("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])

    def reshape(self, value: ir.Value, *shape: int) -> ir.Value:
        """A value in a shape, in which 0 is an axis as it was."""
        return self("Reshape", value, self.integers(*shape, hint="shape"))
