"""Layer, root-mean-square and instance normalisation that were written out as arithmetic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, common_scope, fuse, producer, rank, scalar, static_shape
from bridge.hub.metadata import set_scope
from bridge.passes.moments import Normal, normalised


def recognise_layer_norm(model: ir.Model) -> ir.Model:
    """Arithmetic with the mean and the mean square of axes as the normalisation that it is.

    LayerNormalization or RMSNormalization where gamma and beta run along the normalised axes, and
    InstanceNormalization where they run along the channels and all others but the batch are normalised.
    A missing gamma becomes ones. Where the axes of an image are not the last ones, the node stands between
    two transposes.
    """
    for node in model.graph:
        if node.domain == "" and node.op_type in ("LayerNormalization", "RMSNormalization"):
            _plain_scale(node, model.graph)
    for node in reversed(list(model.graph)):
        if node.graph is None or node.domain != "" or node.op_type not in ("Add", "Cast", "Div", "Mul"):
            continue
        normal = normalised(node.outputs[0])
        if normal is None or not _in_place(normal):
            continue
        for write in (_write_plain_instance_norm, _write_layer_norm, _write_instance_norm):
            if write(normal, model.graph):
                break
    return model


def _plain_scale(node: ir.Node, graph: ir.Graph) -> None:
    """A scale of ones that is made as large as the data at run time, as ones of the normalised shape."""
    data, scale = node.inputs[0], node.inputs[1]
    ones = producer(scale, "ConstantOfShape", "Expand")
    if data is None or data.shape is None or data.dtype is None or ones is None:
        return
    value = ones.attributes.get_tensor("value") if ones.op_type == "ConstantOfShape" else None
    is_one = scalar(ones.inputs[0]) == 1 if value is None else bool(np.all(value.numpy() == 1))
    axis = node.attributes.get_int("axis", -1) % len(data.shape)
    sizes = [size for size in list(data.shape)[axis:] if isinstance(size, int)]
    if is_one and len(sizes) == len(data.shape) - axis:
        node.replace_input_with(1, add_constant(graph, np.ones(sizes, data.dtype.numpy()), "scale"))


def _in_place(normal: Normal) -> bool:
    """Whether the axes are the last ones, or those of an image that transposes bring there."""
    count = rank(normal.data)
    return count is not None and (count > 3 or normal.axes == tuple(range(normal.axes[0], count)))


def _write_plain_instance_norm(normal: Normal, graph: ir.Graph) -> bool:
    """InstanceNormalization of an image without gamma and beta: no layout has to change for it."""
    count = rank(normal.data)
    is_plain = normal.gamma is None and normal.beta is None and normal.axes[0] == 2
    return count is not None and count > 3 and is_plain and _write_instance_norm(normal, graph)


def _write_layer_norm(normal: Normal, graph: ir.Graph) -> bool:
    """LayerNormalization or RMSNormalization, if gamma and beta run along exactly the normalised axes."""
    shape, dtype, axes = normal.data.shape, normal.data.dtype, normal.axes
    if shape is None or dtype is None or (normal.beta is not None and not normal.centred):
        return False
    sizes = tuple(size for axis in axes if isinstance(size := shape[axis], int))
    aligned = tuple(shape[axis] if axis in axes else 1 for axis in range(len(shape)))
    if len(sizes) != len(axes) or not all(
        fits(each, aligned, dtype) for each in (normal.gamma, normal.beta) if each is not None
    ):
        return False
    last = normal.nodes[-1]
    perm = [*(axis for axis in range(len(shape)) if axis not in axes), *axes]
    scale = (
        add_constant(graph, np.ones(sizes, dtype.numpy()), "scale")
        if normal.gamma is None
        else reshaped(normal.gamma, sizes, last, graph)
    )
    weights = [scale] if normal.beta is None else [scale, reshaped(normal.beta, sizes, last, graph)]
    operator = "LayerNormalization" if normal.centred else "RMSNormalization"
    between_transposes(normal, perm, operator, weights, {"axis": -len(axes)}, graph)
    return True


def _write_instance_norm(normal: Normal, graph: ir.Graph) -> bool:
    """InstanceNormalization, if all axes but the batch's and the channels' are normalised."""
    shape, dtype = normal.data.shape, normal.data.dtype
    if shape is None or dtype is None or not normal.centred or len(shape) < 3:
        return False
    others = [axis for axis in range(1, len(shape)) if axis not in normal.axes]
    channels = shape[others[0]] if len(others) == 1 else None
    if not isinstance(channels, int):
        return False
    aligned = tuple(channels if axis == others[0] else 1 for axis in range(len(shape)))
    if not all(fits(each, aligned, dtype) for each in (normal.gamma, normal.beta) if each is not None):
        return False
    last = normal.nodes[-1]
    weights = [
        add_constant(graph, np.full(channels, number, dtype.numpy()), name)
        if value is None
        else reshaped(value, (channels,), last, graph)
        for value, number, name in ((normal.gamma, 1, "scale"), (normal.beta, 0, "shift"))
    ]
    between_transposes(normal, [0, *others, *normal.axes], "InstanceNormalization", weights, {}, graph)
    return True


def fits(value: ir.Value, aligned: tuple[object, ...], dtype: ir.DataType) -> bool:
    """Whether a weight has the data's dtype and, up to leading axes of 1, the shape that it should have."""
    shape = static_shape(value)
    if shape is None or len(shape) > len(aligned) or value.dtype != dtype:
        return False
    return (1,) * (len(aligned) - len(shape)) + shape == aligned


def between_transposes(
    normal: Normal,
    perm: list[int],
    operator: str,
    weights: list[ir.Value],
    attributes: dict[str, object],
    graph: ir.Graph,
) -> None:
    """Put an operator in the place of what computes `normal`; it takes the data transposed by `perm`."""
    attributes = {**attributes, "epsilon": normal.epsilon}
    if perm == sorted(perm):
        fuse(normal.nodes, operator, [normal.data, *weights], attributes)
        return
    last = normal.nodes[-1]
    scope = common_scope(normal.nodes)
    inverse = [perm.index(axis) for axis in range(len(perm))]
    before = insert(last, "Transpose", [normal.data], {"perm": perm}, graph)
    result = insert(last, operator, [before, *weights], attributes, graph)
    shape = normal.data.shape
    for value in (before, result):
        node = value.producer()
        assert node is not None
        set_scope(node, scope)
        value.type = normal.data.type
        value.shape = None if shape is None else ir.Shape([shape[axis] for axis in perm])
    fuse(normal.nodes, "Transpose", [result], {"perm": inverse})


def insert(
    before: ir.Node, operator: str, inputs: list[ir.Value], attributes: dict[str, object], graph: ir.Graph
) -> ir.Value:
    """The output of a new node in front of another."""
    node = ir.node(operator, inputs, attributes)  # type: ignore[arg-type]
    graph.insert_before(before, node)
    return node.outputs[0]


def reshaped(value: ir.Value, shape: tuple[int, ...], before: ir.Node, graph: ir.Graph) -> ir.Value:
    """A weight in another shape of as many elements; folding joins the reshape to its recipe."""
    if static_shape(value) == shape:
        return value
    target = add_constant(graph, np.asarray(shape, np.int64), f"{value.name}_shape")
    result = insert(before, "Reshape", [value, target], {}, graph)
    result.type, result.shape = value.type, ir.Shape(shape)
    return result
