"""Constants as initializers: one form for everything that is known at conversion."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from bridge.errors import InputError
from bridge.hub import metadata
from bridge.hub.graph import all_nodes, describe_node, take_over

_VALUES = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def lift_constants(model: ir.Model) -> ir.Model:
    """Turn Constant nodes into initializers of the same graph, and drop defaults of inputs.

    An initializer that is also a graph input is a default that a caller may override (IR version 3
    demanded it of all weights); the hub knows inputs and weights only, so it stays a weight unless the
    reader lists it among the users' inputs.
    """
    for node in list(all_nodes(model)):
        if node.op_type == "Constant" and node.domain == "":
            _lift(node)
    graph = model.graph
    overridable = [value for value in graph.inputs if value.is_initializer()]
    if overridable:
        users = set(metadata.source_info(model).inputs)
        for value in overridable:
            if value.name in users:
                graph.initializers.pop(str(value.name))
                value.const_value = None
            else:
                graph.inputs.remove(value)
    return model


def _lift(node: ir.Node) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    (attribute,) = node.attributes.values()
    output = node.outputs[0]
    if attribute.name == "value":
        tensor: ir.TensorProtocol = attribute.as_tensor()
    elif attribute.name in _VALUES:
        tensor = ir.tensor(np.asarray(attribute.value, _VALUES[attribute.name]))
    elif attribute.name in ("value_string", "value_strings"):
        tensor = _text(attribute.value)
    else:
        raise InputError(
            f"a constant given as {attribute.name!r} is not supported", where=describe_node(node)
        )
    value = ir.Value(
        name=output.name,
        const_value=tensor,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
    )
    value.metadata_props.update(output.metadata_props)
    if output.is_graph_output():
        value.name = f"{output.name}_value"
        identity = ir.node("Identity", [value])
        identity.metadata_props.update(node.metadata_props)
        graph.insert_before(node, identity)
        take_over(output, identity.outputs[0])
    else:
        output.replace_all_uses_with(value)
        output.name = None
    graph.remove(node, safe=True)
    graph.register_initializer(value)


def _text(value: str | Sequence[str]) -> ir.TensorProtocol:
    """A tensor of one text, or of a list of them."""
    texts = [value] if isinstance(value, str) else list(value)
    shape = ir.Shape([] if isinstance(value, str) else [len(texts)])
    return ir.StringTensor([each.encode() for each in texts], shape=shape)
