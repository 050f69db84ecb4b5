"""Group normalisation that was written out as reshapes around another normalisation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, constant, only_use, producer, rank
from bridge.passes.layer_norm import between_transposes, fits, reshaped
from bridge.passes.match import restores, same_axis
from bridge.passes.moments import Normal, is_weight, normalised


@dataclass(frozen=True)
class _Groups:
    """Normalised groups of the channels of `normal.data`, an axis of it."""

    normal: Normal
    count: int
    channel_axis: int


def recognise_group_norm(model: ir.Model) -> ir.Model:
    """Reshape, normalise along the elements of a group, reshape back: GroupNormalization.

    Channels are axis 1 (PyTorch: the normalisation between the reshapes may be an InstanceNormalization
    of the groups) or the last axis (Keras), in which case the node stands between two transposes. Gamma
    and beta, along the channels, multiply and follow inside or outside of the reshapes, or are missing.
    """
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Add", "Mul", "Reshape"):
            continue
        groups = _groups(node)
        if groups is not None:
            _write(groups, model.graph)
    return model


def _groups(node: ir.Node) -> _Groups | None:
    if node.op_type == "Reshape":
        return _between_reshapes(node)
    for value, weight in (node.inputs, reversed(node.inputs)):
        if value is None or weight is None or not is_weight(weight) or only_use(value) is not node:
            continue
        inner = producer(value, "Mul", "Reshape") if node.op_type == "Add" else producer(value, "Reshape")
        groups = None if inner is None else _groups(inner)
        taken = None if groups is None else _taking(groups, node, weight)
        if taken is not None:
            return taken
    return None


def _taking(groups: _Groups, node: ir.Node, weight: ir.Value) -> _Groups | None:
    """The groups with a gamma or beta that multiplies or follows the reshape back."""
    normal = groups.normal
    data = normal.data
    assert data.shape is not None
    size = data.shape[groups.channel_axis]
    aligned = tuple(size if axis == groups.channel_axis else 1 for axis in range(len(data.shape)))
    if normal.beta is not None or data.dtype is None or not fits(weight, aligned, data.dtype):
        return None
    if node.op_type == "Mul":
        if normal.gamma is not None:
            return None
        return replace(groups, normal=replace(normal, gamma=weight, nodes=(*normal.nodes, node)))
    return replace(groups, normal=replace(normal, beta=weight, nodes=(*normal.nodes, node)))


def _between_reshapes(node: ir.Node) -> _Groups | None:
    inner = node.inputs[0]
    normal = _of_instances(inner) or normalised(inner)
    first = None if normal is None else producer(normal.data, "Reshape")
    if normal is None or first is None or inner is None or not normal.centred:
        return None
    data, grouped = first.inputs[0], normal.data
    if data is None or data.shape is None or grouped.shape is None or only_use(inner) is not node:
        return None
    if not restores(data, node.outputs[0]) or not same_axis(grouped.shape[0], data.shape[0]):
        return None
    axes = normal.axes
    count = len(grouped.shape)
    if axes == tuple(range(2, count)):
        group_axis, channel_axis, inner_axis = 1, 1, 2
        keeps_channels = count == len(data.shape) + 1
    elif count == len(data.shape) + 1 and axes == (*range(1, count - 2), count - 1):
        group_axis, channel_axis, inner_axis = count - 2, count - 2, count - 1
        keeps_channels = True
        if list(grouped.shape)[: count - 2] != list(data.shape)[: count - 2]:
            return None
    else:
        return None
    number, channels = grouped.shape[group_axis], data.shape[channel_axis]
    if not isinstance(number, int) or not isinstance(channels, int) or channels % number:
        return None
    within = channels // number
    keeps_channels = keeps_channels and grouped.shape[inner_axis] == within
    if channel_axis != 1 and not keeps_channels:
        return None
    aligned = tuple({group_axis: number, inner_axis: within}.get(axis, 1) for axis in range(count))
    for weight in (normal.gamma, normal.beta):
        if weight is not None and not (
            keeps_channels and grouped.dtype is not None and fits(weight, aligned, grouped.dtype)
        ):
            return None
    return _Groups(replace(normal, data=data, nodes=(first, *normal.nodes, node)), number, channel_axis)


def _of_instances(value: ir.Value | None) -> Normal | None:
    """An InstanceNormalization without scale and shift."""
    node = producer(value, "InstanceNormalization")
    count = None if node is None else rank(node.inputs[0])
    if node is None or count is None or node.inputs[0] is None:
        return None
    scale, shift = constant(node.inputs[1]), constant(node.inputs[2])
    if scale is None or shift is None or not np.all(scale == 1) or np.any(shift):
        return None
    epsilon = node.attributes.get_float("epsilon", 1e-5)
    return Normal(node.inputs[0], tuple(range(2, count)), epsilon, True, None, None, (node,))


def _write(groups: _Groups, graph: ir.Graph) -> None:
    normal, axis = groups.normal, groups.channel_axis
    data = normal.data
    assert data.shape is not None
    assert data.dtype is not None
    channels = data.shape[axis]
    assert isinstance(channels, int)
    weights = [
        add_constant(graph, np.full(channels, number, data.dtype.numpy()), name)
        if value is None
        else reshaped(value, (channels,), normal.nodes[-1], graph)
        for value, number, name in ((normal.gamma, 1, "scale"), (normal.beta, 0, "shift"))
    ]
    perm = [0, axis, *(each for each in range(1, len(data.shape)) if each != axis)]
    attributes: dict[str, object] = {"num_groups": groups.count}
    between_transposes(normal, perm, "GroupNormalization", weights, attributes, graph)
