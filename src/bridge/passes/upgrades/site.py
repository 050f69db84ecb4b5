"""What an upgrade may ask of the graph it works in, and how it puts nodes there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub import metadata
from bridge.hub.graph import add_constant, describe_node, light_proto
from bridge.hub.recipe import Array
from bridge.passes.shapes import merge_inferred


class Site:
    """A model while it is upgraded. Types and shapes are those that were inferred before."""

    def __init__(self, model: ir.Model) -> None:
        self._model = model

    def infer(self) -> None:
        """Infer types and shapes as far as ONNX can; the model must be of the opset that it says."""
        light = light_proto(self._model)
        try:
            proto = onnx.shape_inference.infer_shapes(light, check_type=False, strict_mode=False)
        except (onnx.shape_inference.InferenceError, RuntimeError, ValueError):
            return
        merge_inferred(self._model.graph, proto.graph)

    def rank(self, value: ir.Value | None, node: ir.Node) -> int:
        """The number of axes. Raises InputError where it is unknown."""
        if value is None or value.shape is None:
            raise refusal(node, "the rank of its input is unknown")
        return len(value.shape)

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """The axes, None for those that are not fixed; None where the rank is unknown."""
        if value is None or value.shape is None:
            return None
        return tuple(axis if isinstance(axis, int) else None for axis in value.shape)

    def dtype(self, value: ir.Value | None, node: ir.Node) -> ir.DataType:
        """The element type. Raises InputError where it is unknown."""
        if value is None or value.dtype is None:
            raise refusal(node, "the element type of its input is unknown")
        return value.dtype

    def constant(self, array: Array, hint: str) -> ir.Value:
        """A new constant; in the main graph, where bodies see it too."""
        return add_constant(self._model.graph, array, hint)

    def integers(self, values: Sequence[int], hint: str) -> ir.Value:
        """A new constant of rank 1."""
        return self.constant(np.asarray(values, np.int64), hint)

    def number(self, value: float, like: ir.Value | None, node: ir.Node, hint: str) -> ir.Value:
        """A new constant of rank 0 and of another value's element type."""
        return self.constant(np.asarray(value, self.dtype(like, node).numpy()), hint)


def put_before(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, object] | None = None,
    outputs: int = 1,
) -> ir.Value:
    """The (first) result of a new node before another, of whose module and line it is."""
    return _put(node, op_type, inputs, attributes, outputs, after=False)


def put_after(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, object] | None = None,
) -> ir.Value:
    """The result of a new node right behind another."""
    return _put(node, op_type, inputs, attributes, 1, after=True)


def _put(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, object] | None,
    outputs: int,
    *,
    after: bool,
) -> ir.Value:
    new = ir.node(op_type, inputs, dict(attributes or {}), num_outputs=outputs)  # type: ignore[arg-type]
    new.version = node.version
    metadata.set_scope(new, metadata.scope_of(node))
    metadata.set_location(new, metadata.location_of(node))
    assert isinstance(node.graph, ir.Graph)
    if after:
        node.graph.insert_after(node, new)
    else:
        node.graph.insert_before(node, new)
    return new.outputs[0]


def replace(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, object] | None = None,
) -> None:
    """Let a node become another operator; its results stay the same values."""
    node.op_type = op_type
    set_inputs(node, inputs)
    kept = set(attributes or {})
    for name in [name for name in node.attributes if name not in kept]:
        node.attributes.pop(name)
    set_attributes(node, **(attributes or {}))


def set_inputs(node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)


def set_attributes(node: ir.Node, **attributes: object) -> None:
    for name, value in attributes.items():
        node.attributes[name] = ir.convenience.convert_attribute(name, value)  # type: ignore[arg-type]


def pop_int(node: ir.Node, name: str, default: int) -> int:
    """An attribute that the next version no longer has."""
    found = node.attributes.pop(name, None)
    return default if found is None else found.as_int()


def pop_float(node: ir.Node, name: str, default: float) -> float:
    found = node.attributes.pop(name, None)
    return default if found is None else found.as_float()


def pop_ints(node: ir.Node, name: str) -> tuple[int, ...] | None:
    found = node.attributes.pop(name, None)
    return None if found is None else tuple(found.as_ints())


def is_read(value: ir.Value) -> bool:
    return bool(value.uses()) or value.is_graph_output()


def refusal(node: ir.Node, reason: str) -> InputError:
    """The error for a node of an old version that no later one expresses, or not with what is known."""
    return InputError(
        f"{node.op_type} of an old ONNX opset cannot be converted: {reason}",
        where=describe_node(node),
        hint="export the model again with opset 13 or newer",
    )
