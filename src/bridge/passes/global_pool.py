"""Means over all positions as global pooling."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import fuse, rank
from bridge.passes.moves import axes_of

_SPATIAL = frozenset(
    {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GroupNormalization"}
    | {"InstanceNormalization", "LpPool", "MaxPool", "Resize"}
)
"""Operators whose axis 1 holds channels."""

_SAME_AXES = frozenset(
    {"Abs", "Add", "Cast", "Clip", "Div", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish"}
    | {"Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Relu", "Sigmoid"}
    | {"Softplus", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "Where"}
)
"""Operators that compute each element from the elements at the same place."""


def recognise_global_pool(model: ir.Model) -> ir.Model:
    """`ReduceMean` over the spatial axes (all from 2 on) as GlobalAveragePool, flattened if they are dropped.

    `ReduceMax` likewise is GlobalMaxPool. With three axes the last may as well hold the features of a
    sequence: there the data has to come from an operator with channels.
    """
    for node in list(model.graph):
        if node.domain == "" and node.op_type in ("ReduceMax", "ReduceMean"):
            _rewrite(node, model.graph)
    return model


def _rewrite(node: ir.Node, graph: ir.Graph) -> None:
    data = node.inputs[0]
    count = rank(data)
    if data is None or data.shape is None or data.dtype is None or count is None or count < 3:
        return
    if axes_of(node, count) != tuple(range(2, count)) or not data.dtype.is_floating_point():
        return
    if count == 3 and not _has_channels(data):
        return
    op_type = "GlobalAveragePool" if node.op_type == "ReduceMean" else "GlobalMaxPool"
    if node.attributes.get_int("keepdims", 1):
        fuse([node], op_type, [data])
        return
    pool = ir.node(op_type, [data])
    pool.metadata_props.update(node.metadata_props)
    pooled = pool.outputs[0]
    pooled.type = data.type
    pooled.shape = ir.Shape([*list(data.shape)[:2], *[1] * (count - 2)])
    graph.insert_before(node, pool)
    fuse([node], "Flatten", [pooled], {"axis": 1})


def _has_channels(data: ir.Value) -> bool:
    """Whether a value comes from an operator whose axis 1 holds channels, by operators that keep its axes."""
    seen: set[ir.Node] = set()
    waiting = [data.producer()]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen or node.domain != "":
            continue
        if node.op_type in _SPATIAL:
            return True
        seen.add(node)
        if node.op_type in _SAME_AXES:
            waiting.extend(
                each.producer() for each in node.inputs if rank(each) == rank(data) and each is not None
            )
    return False
