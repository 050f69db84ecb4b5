"""Arithmetic, comparisons and activations of old opsets."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import constant
from bridge.passes.upgrades.registry import upgrade
from bridge.passes.upgrades.site import (
    Site,
    pop_float,
    pop_int,
    put_before,
    refusal,
    set_attributes,
    set_inputs,
)

_FIRST_TYPES = {
    "FLOAT": 1,
    "UINT8": 2,
    "INT8": 3,
    "UINT16": 4,
    "INT16": 5,
    "INT32": 6,
    "INT64": 7,
    "STRING": 8,
    "BOOL": 9,
    "FLOAT16": 10,
    "DOUBLE": 11,
    "UINT32": 12,
    "UINT64": 13,
    "COMPLEX64": 14,
    "COMPLEX128": 15,
}


@upgrade(
    "Abs",
    "Add",
    "BatchNormalization",
    "Ceil",
    "Div",
    "Dropout",
    "Elu",
    "Exp",
    "Floor",
    "HardSigmoid",
    "InstanceNormalization",
    "LeakyRelu",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Sqrt",
    "Sub",
    "Sum",
    "Tanh",
    to=6,
)
def forget_reused_memory(node: ir.Node, site: Site) -> None:
    """`consumed_inputs` allowed an implementation to compute in place."""
    node.attributes.pop("consumed_inputs", None)


@upgrade("Clip", to=6)
def clip_forgets_reused_memory(node: ir.Node, site: Site) -> None:
    """Bounds that are absent were the largest numbers, as they are later."""
    forget_reused_memory(node, site)


@upgrade("Selu", to=6)
def selu_had_rounded_constants(node: ir.Node, site: Site) -> None:
    forget_reused_memory(node, site)
    for name, value in (("alpha", 1.6732), ("gamma", 1.0507)):
        if name not in node.attributes:
            set_attributes(node, **{name: value})


@upgrade("Cast", to=6)
def cast_names_types_by_number(node: ir.Node, site: Site) -> None:
    name = node.attributes["to"].as_string()
    if name.upper() not in _FIRST_TYPES:
        raise refusal(node, f"its type {name!r} is unknown")
    set_attributes(node, to=_FIRST_TYPES[name.upper()])


@upgrade(
    "Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor", to=7
)  # fmt: skip
def align_second_operand(node: ir.Node, site: Site) -> None:
    """`axis` said where the axes of the second operand start among those of the first.

    Without it they are the last ones, as they are later.
    """
    axis = node.attributes.pop("axis", None)
    if not pop_int(node, "broadcast", 0) or axis is None:
        return
    first, second = node.inputs
    shape = site.shape(second)
    if shape is not None and all(size == 1 for size in shape):
        return
    rank, given = site.rank(first, node), site.rank(second, node)
    start = axis.as_int() % rank if rank else 0
    behind = rank - start - given
    if behind < 0:
        raise refusal(node, f"its second operand has {given} axes from axis {start} of {rank}")
    if behind:
        spread = put_before(node, "Unsqueeze", [second], {"axes": list(range(given, given + behind))})
        node.replace_input_with(1, spread)


@upgrade("Gemm", to=7)
def gemm_broadcasts(node: ir.Node, site: Site) -> None:
    """The third operand was aligned at the end, if `broadcast` was set, and of equal shape if not."""
    node.attributes.pop("broadcast", None)


@upgrade("PRelu", to=7)
def align_slope_with_channels(node: ir.Node, site: Site) -> None:
    """A slope of one axis was per channel, that is, along axis 1."""
    data, slope = node.inputs
    shape = site.shape(slope)
    if shape is None:
        raise refusal(node, "the rank of its slope is unknown")
    rank = 2 if shape == (1,) or len(shape) != 1 else site.rank(data, node)
    if rank > 2:
        node.replace_input_with(1, put_before(node, "Unsqueeze", [slope], {"axes": list(range(1, rank - 1))}))


@upgrade("Clip", to=11)
def clip_takes_bounds_as_inputs(node: ir.Node, site: Site) -> None:
    largest = np.finfo(np.float32).max
    low, high = pop_float(node, "min", -float(largest)), pop_float(node, "max", float(largest))
    data = node.inputs[0]
    bounds: list[ir.Value | None] = [
        site.number(low, data, node, "min") if low > -largest else None,
        site.number(high, data, node, "max") if high < largest else None,
    ]
    while bounds and bounds[-1] is None:
        bounds.pop()
    set_inputs(node, [data, *bounds])


@upgrade("OneHot", to=11)
def one_hot_ignores_negative_indices(node: ir.Node, site: Site) -> None:
    """Before opset 11 an index below 0 was out of range; since then it counts from the end."""
    indices, depth = node.inputs[:2]
    known, dtype = constant(indices), site.dtype(indices, node)
    if (known is not None and not (known < 0).any()) or dtype.name.startswith("UINT"):
        return
    size = constant(depth)
    beyond = (
        put_before(node, "Cast", [depth], {"to": int(dtype)})
        if size is None
        else site.number(float(size.reshape(-1)[0]), indices, node, "depth")
    )
    below = put_before(node, "Less", [indices, site.number(0, indices, node, "zero")])
    node.replace_input_with(0, put_before(node, "Where", [below, beyond, indices]))


@upgrade("Erf", to=13)
def erf_of_integers_is_refused(node: ir.Node, site: Site) -> None:
    """Integers were allowed and their results are nowhere defined."""
    if not site.dtype(node.inputs[0], node).is_floating_point():
        raise refusal(node, "it is applied to integers")
