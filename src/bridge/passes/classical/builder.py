"""Writing a node that keeps lists of numbers or text as nodes on tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub.graph import add_constant, describe_node, take_over
from bridge.hub.recipe import Array
from bridge.hub.schemas import defaults

DOMAIN = "ai.onnx.ml"
OWN = "bridge"
"""Operators of this domain exist between preparation and writer only; the hub itself is plain ONNX."""

_COMPARISONS = frozenset({"Equal", "Greater", "IsNaN", "LessOrEqual"})


class Builder:
    """Puts nodes before a node of `ai.onnx.ml`, gives them its lists as constants, and replaces it."""

    def __init__(self, node: ir.Node, graph: ir.Graph, imports: Mapping[str, int]) -> None:
        self.node = node
        self._graph = graph
        self._defaults = defaults(node.op_type, node.domain, imports)
        self._made = 0

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute or its default: text as str, tensors as arrays."""
        found = self.node.attributes.get(name)
        value = self._defaults.get(name, default) if found is None else found.value
        if isinstance(value, ir.TensorProtocol):
            return value.numpy()
        if isinstance(value, bytes):
            return value.decode()
        if isinstance(value, list | tuple):
            return [each.decode() if isinstance(each, bytes) else each for each in value]
        return value

    def numbers(self, name: str, dtype: Any = np.float32) -> Array:
        """A list attribute, or the tensor that may stand for it, as a vector; empty if there is none."""
        tensor = self.attribute(f"{name}_as_tensor")
        listed = self.attribute(name) if tensor is None else tensor
        return np.asarray([] if listed is None else listed, dtype).reshape(-1)

    @property
    def x(self) -> ir.Value:
        """The first input."""
        value = self.node.inputs[0]
        if value is None:
            raise self.fault("its input is missing")
        return value

    def input_type(self) -> ir.DataType:
        """The element type of the first input."""
        return self.x.dtype or ir.DataType.FLOAT

    def constant(self, array: Array, hint: str) -> ir.Value:
        """A constant of the model, named for the attribute that it comes from."""
        if array.dtype.kind == "U":
            array = array.astype(object)
        return add_constant(self._graph, array, f"{self.node.name or self.node.op_type}_{hint}")

    def call(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        dtype: ir.DataType | None = None,
        rank: int | None = None,
        domain: str = "",
        **attributes: Any,
    ) -> ir.Value:
        """A new node's output. Type and rank are those of its first input unless told."""
        first = inputs[0]
        assert first is not None
        node = ir.node(op_type, inputs, attributes, domain=domain)
        node.metadata_props.update(self.node.metadata_props)
        output = node.outputs[0]
        self._made += 1
        output.name = f"{self.node.outputs[0].name or self.node.name}_{self._made}"
        kind = ir.DataType.BOOL if op_type in _COMPARISONS else dtype or first.dtype
        output.type = None if kind is None else ir.TensorType(kind)
        axes = rank if rank is not None else None if first.shape is None else len(first.shape)
        output.shape = None if axes is None else ir.Shape([None] * axes)
        assert isinstance(self.node.graph, ir.Graph)
        self.node.graph.insert_before(self.node, node)
        return output

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """A value in an element type."""
        if value.dtype == dtype:
            return value
        return self.call("Cast", value, dtype=dtype, to=int(dtype))

    def replace(self, *values: ir.Value | None) -> None:
        """Let these values take the places of the node's outputs, and remove it."""
        for old, new in zip(self.node.outputs, values, strict=False):
            if new is None:
                continue
            if new.producer() is None or new.producer() is self.node.inputs[0].producer():  # type: ignore[union-attr]
                new = self.call("Identity", new)
            take_over(old, new)
        assert isinstance(self.node.graph, ir.Graph)
        self.node.graph.remove(self.node, safe=True)

    def is_read(self, index: int) -> bool:
        """Whether anything reads an output of the node."""
        outputs: Sequence[ir.Value] = self.node.outputs
        return index < len(outputs) and bool(outputs[index].uses() or outputs[index].is_graph_output())

    def fault(self, message: str) -> InputError:
        """The error for attributes that contradict each other."""
        return InputError(
            f"{self.node.op_type}: {message}",
            hint="check how the model was made",
            where=describe_node(self.node),
        )
