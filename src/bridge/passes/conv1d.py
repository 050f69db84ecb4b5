"""One-dimensional operators that a converter wrote as two-dimensional ones with an axis of 1."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, attribute, integers, only_use, rank

_OPERATORS = ("AveragePool", "Conv", "ConvTranspose", "MaxPool")
_PER_AXIS = ("dilations", "kernel_shape", "output_padding", "output_shape", "strides")


def lower_rank_of_windows(model: ir.Model) -> ir.Model:
    """`Conv`, `ConvTranspose` and pooling over an axis of extent 1, squeezed afterwards: one axis less.

    TensorFlow has no one-dimensional convolution of its own; Keras' Conv1D adds an axis and removes it.
    The Squeeze moves before the operator, from the last to the first, where it meets the Unsqueeze.
    Needs inferred shapes.
    """
    for node in reversed(list(model.graph)):
        if node.op_type in _OPERATORS and node.domain == "" and len(node.outputs) == 1:
            _lower(node, model.graph)
    return model


def _lower(node: ir.Node, graph: ir.Graph) -> None:
    data, output = node.inputs[0], node.outputs[0]
    squeeze = only_use(output)
    count = rank(output)
    if squeeze is None or squeeze.op_type != "Squeeze" or squeeze.domain != "" or count is None or count < 4:
        return
    axes = integers(squeeze.inputs[1]) if len(squeeze.inputs) > 1 else None
    if axes is None or len(axes) != 1 or data is None:
        return
    axis = axes[0] % count
    if axis < 2 or not _is_idle(node, axis, count):
        return
    squeezed = _squeezed(node, data, axis, graph)
    inputs: list[ir.Value | None] = [squeezed]
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = node.inputs[1]
        assert weight is not None
        inputs.append(_squeezed(node, weight, axis, graph))
        inputs.extend(node.inputs[2:])
    lowered = ir.node(node.op_type, inputs, _without_axis(node, axis - 2, count - 2))
    lowered.name = node.name
    lowered.metadata_props.update(node.metadata_props)
    graph.insert_before(node, lowered)
    old, new = squeeze.outputs[0], lowered.outputs[0]
    new.type, new.shape = old.type, old.shape
    new.metadata_props.update(output.metadata_props)
    new.metadata_props.update(old.metadata_props)
    name = old.name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(squeeze, safe=True)
    graph.remove(node, safe=True)
    old.name = None
    new.name = name


def _is_idle(node: ir.Node, axis: int, count: int) -> bool:
    """Whether an operator does nothing along an axis: extent 1 before and after, window 1, no padding."""
    data, output = node.inputs[0], node.outputs[0]
    if data is None or data.shape is None or output.shape is None:
        return False
    if data.shape[axis] != 1 or output.shape[axis] != 1:
        return False
    if attribute(node, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    spatial, position = count - 2, axis - 2
    pads = attribute(node, "pads", (0,) * (2 * spatial))
    padding = attribute(node, "output_padding", (0,) * spatial)
    assert isinstance(pads, tuple)
    assert isinstance(padding, tuple)
    if pads[position] or pads[position + spatial] or padding[position]:
        return False
    if node.op_type in ("Conv", "ConvTranspose"):
        weight = node.inputs[1]
        return weight is not None and weight.shape is not None and weight.shape[axis] == 1
    kernel = attribute(node, "kernel_shape")
    return (
        isinstance(kernel, tuple)
        and kernel[position] == 1
        and not node.attributes.get_int("storage_order", 0)
    )


def _squeezed(node: ir.Node, value: ir.Value, axis: int, graph: ir.Graph) -> ir.Value:
    """The value without an axis, computed before a node."""
    axes = add_constant(graph, np.asarray([axis], np.int64), f"{value.name}_axes")
    moved = ir.node("Squeeze", [value, axes])
    moved.metadata_props.update(node.metadata_props)
    result = moved.outputs[0]
    result.type = value.type
    assert value.shape is not None
    result.shape = ir.Shape([dim for position, dim in enumerate(value.shape) if position != axis])
    graph.insert_before(node, moved)
    return result


def _without_axis(node: ir.Node, position: int, spatial: int) -> dict[str, ir.Attr]:
    """The attributes for one spatial axis less."""
    attributes = dict(node.attributes.items())
    for name in (*_PER_AXIS, "pads"):
        values = attribute(node, name)
        if isinstance(values, tuple):
            dropped = {position, position + spatial} if name == "pads" else {position}
            kept = [value for index, value in enumerate(values) if index not in dropped]
            attributes[name] = ir.AttrInt64s(name, kept)
    return attributes
