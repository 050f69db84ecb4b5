"""Recurrent operators on batches of sequences, with time as the first axis."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import all_nodes, attribute, take_over

_RECURRENT = ("LSTM", "GRU", "RNN")
_BATCH_FIRST_INPUTS = (0, 5, 6)
_SWAP = (1, 0, 2)
_SEQUENCES_TO_BATCH_FIRST = (2, 0, 1, 3)


def bring_time_first(model: ir.Model) -> ir.Model:
    """LSTM, GRU and RNN of `layout` 1 become transposes around the same operator of `layout` 0.

    Both mean the same; onnxruntime has the latter only.
    """
    for node in list(all_nodes(model)):
        if node.domain == "" and node.op_type in _RECURRENT and attribute(node, "layout", 0):
            _swap_axes(node)
    return model


def _swap_axes(node: ir.Node) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    inputs = list(node.inputs)
    for index, value in enumerate(inputs):
        if index in _BATCH_FIRST_INPUTS and value is not None:
            transpose = _transpose(value, _SWAP, node)
            transpose.outputs[0].type = value.type
            if value.shape is not None:
                transpose.outputs[0].shape = ir.Shape([value.shape[axis] for axis in _SWAP])
            graph.insert_before(node, transpose)
            inputs[index] = transpose.outputs[0]
    attributes = {name: each for name, each in node.attributes.items() if name != "layout"}
    swapped = ir.Node("", node.op_type, inputs, attributes.values(), num_outputs=len(node.outputs))
    swapped.name = node.name
    swapped.metadata_props.update(node.metadata_props)
    graph.insert_before(node, swapped)
    for index, (old, new) in enumerate(zip(node.outputs, swapped.outputs, strict=True)):
        if not old.name:
            new.name = ""
            continue
        transpose = _transpose(new, _SWAP if index else _SEQUENCES_TO_BATCH_FIRST, node)
        new.type = old.type
        graph.insert_before(node, transpose)
        take_over(old, transpose.outputs[0])
    graph.remove(node, safe=True)


def _transpose(value: ir.Value, perm: tuple[int, ...], like: ir.Node) -> ir.Node:
    node = ir.node("Transpose", [value], {"perm": perm})
    node.metadata_props.update(like.metadata_props)
    return node
