"""The bias of a convolution as its third input."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, fuse, only_use, producer, rank, static_shape
from bridge.passes.moves import permutation


def fuse_conv_bias(model: ir.Model) -> ir.Model:
    """`Conv` without bias, then `Add` of a vector along the channels: one `Conv` with bias.

    Also where a Transpose lies between, as converters of channels-last sources leave it.
    """
    for node in list(model.graph):
        if node.op_type == "Add" and node.domain == "":
            _fuse(node, model.graph)
    return model


def _fuse(add: ir.Node, graph: ir.Graph) -> None:
    for data, bias in (add.inputs, reversed(add.inputs)):
        if data is None or bias is None or bias.const_value is None or bias.is_graph_input():
            continue
        transpose = producer(data, "Transpose")
        conv = producer(transpose.inputs[0] if transpose else data, "Conv", "ConvTranspose")
        if conv is None or len(conv.inputs) != 2:
            continue
        perm = permutation(transpose) if transpose else None
        if transpose is not None and (perm is None or only_use(conv.outputs[0]) is not transpose):
            continue
        if only_use(data) is not add or not _is_along_channels(conv, bias, perm):
            continue
        _rewrite(add, conv, transpose, bias, graph)
        return


def _is_along_channels(conv: ir.Node, bias: ir.Value, perm: tuple[int, ...] | None) -> bool:
    """Whether a constant has the channels' extent on their axis, and 1 on all others."""
    output = conv.outputs[0]
    count, shape = rank(output), static_shape(bias)
    channels = None if output.shape is None else output.shape[1]
    if count is None or shape is None or not isinstance(channels, int) or len(shape) > count:
        return False
    axis = perm.index(1) if perm else 1
    expected = [1] * count
    expected[axis] = channels
    return [1] * (count - len(shape)) + list(shape) == expected


def _rewrite(add: ir.Node, conv: ir.Node, transpose: ir.Node | None, bias: ir.Value, graph: ir.Graph) -> None:
    shape = static_shape(bias)
    flat = bias
    reshape: list[ir.Node] = []
    if shape is not None and len(shape) != 1:
        size = add_constant(graph, np.asarray([int(np.prod(shape))], np.int64), f"{bias.name}_shape")
        node = ir.node("Reshape", [bias, size])
        flat = node.outputs[0]
        flat.type, flat.shape = bias.type, ir.Shape([int(np.prod(shape))])
        graph.insert_before(conv, node)
        reshape.append(node)
    attributes = {name: each.value for name, each in conv.attributes.items()}
    inputs = [*conv.inputs, flat]
    if transpose is None:
        fuse([conv, add], conv.op_type, inputs, attributes)
        return
    biased = ir.node(conv.op_type, inputs, attributes)
    biased.metadata_props.update(conv.metadata_props)
    result = biased.outputs[0]
    result.type, result.shape = conv.outputs[0].type, conv.outputs[0].shape
    graph.insert_before(add, biased)
    fuse([conv, transpose, add], "Transpose", [result], {"perm": permutation(transpose)})
