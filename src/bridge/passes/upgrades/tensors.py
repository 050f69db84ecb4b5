"""Operators on shapes: attributes of old opsets that are inputs later."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import constant
from bridge.passes.upgrades.registry import upgrade
from bridge.passes.upgrades.site import (
    Site,
    pop_float,
    pop_int,
    pop_ints,
    put_before,
    refusal,
    replace,
    set_attributes,
    set_inputs,
)


@upgrade("Concat", to=4)
def concat_says_its_axis(node: ir.Node, site: Site) -> None:
    if "axis" not in node.attributes:
        set_attributes(node, axis=1)


@upgrade("Pad", to=2)
def pad_renames_pads(node: ir.Node, site: Site) -> None:
    """The text of opset 1 lists all beginnings first, its example the two ends of each axis together."""
    pads = pop_ints(node, "paddings") or ()
    paired = tuple(pads[0::2]) + tuple(pads[1::2])
    if pads != paired:
        raise refusal(node, "opset 1 defines the order of uneven paddings in two ways")
    set_attributes(node, pads=list(pads))


@upgrade("Split", to=2)
def split_takes_parts_as_attribute(node: ir.Node, site: Site) -> None:
    if "axis" not in node.attributes:
        raise refusal(node, "it does not say its axis")
    if len(node.inputs) > 1:
        parts = constant(node.inputs[1])
        if parts is None:
            raise refusal(node, "the sizes of its parts are computed")
        set_inputs(node, node.inputs[:1])
        set_attributes(node, split=[int(each) for each in parts.reshape(-1)])


@upgrade("Reshape", to=5)
def reshape_takes_its_shape_as_input(node: ir.Node, site: Site) -> None:
    if len(node.inputs) > 1:
        return
    node.attributes.pop("consumed_inputs", None)
    shape = pop_ints(node, "shape")
    if shape is None:
        raise refusal(node, "it does not say its shape")
    set_inputs(node, [node.inputs[0], site.integers(shape, "shape")])


@upgrade("Tile", to=6)
def tile_repeats_every_axis(node: ir.Node, site: Site) -> None:
    data, tiles, along = node.inputs
    axis = constant(along)
    if axis is None:
        raise refusal(node, "its axis is computed")
    rank = site.rank(data, node)
    position, times = int(axis.reshape(-1)[0]) % rank, constant(tiles)
    if times is not None:
        repeats = [int(times.reshape(-1)[0]) if each == position else 1 for each in range(rank)]
        set_inputs(node, [data, site.integers(repeats, "repeats")])
        return
    whole = put_before(node, "Cast", [tiles], {"to": int(ir.DataType.INT64)})
    one_axis = put_before(node, "Reshape", [whole, site.integers([1], "shape")])
    before, after = [1] * position, [1] * (rank - position - 1)
    parts = [site.integers(before, "ones"), one_axis, site.integers(after, "ones")]
    set_inputs(node, [data, put_before(node, "Concat", parts, {"axis": 0})])


@upgrade("Slice", to=10)
def slice_takes_its_bounds_as_inputs(node: ir.Node, site: Site) -> None:
    if len(node.inputs) > 1:
        return
    starts, ends = pop_ints(node, "starts") or (), pop_ints(node, "ends") or ()
    axes = pop_ints(node, "axes")
    inputs = [node.inputs[0], site.integers(starts, "starts"), site.integers(ends, "ends")]
    if axes is not None:
        inputs.append(site.integers(axes, "axes"))
    set_inputs(node, inputs)


@upgrade("TopK", to=10)
def topk_takes_its_count_as_input(node: ir.Node, site: Site) -> None:
    set_inputs(node, [node.inputs[0], site.integers([pop_int(node, "k", 0)], "k")])


@upgrade("Pad", to=11)
def pad_takes_its_pads_as_inputs(node: ir.Node, site: Site) -> None:
    pads, value = pop_ints(node, "pads") or (), pop_float(node, "value", 0.0)
    data = node.inputs[0]
    inputs = [data, site.integers(pads, "pads")]
    if value != 0.0:
        inputs.append(site.number(value, data, node, "value"))
    set_inputs(node, inputs)


@upgrade("Scatter", to=11)
def scatter_has_a_new_name(node: ir.Node, site: Site) -> None:
    replace(node, "ScatterElements", node.inputs, dict(node.attributes))


@upgrade("ReduceSum", "Squeeze", "Unsqueeze", to=13)
@upgrade(
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSumSquare",
    to=18,
)
def axes_become_an_input(node: ir.Node, site: Site) -> None:
    axes = pop_ints(node, "axes")
    if axes:
        set_inputs(node, [node.inputs[0], site.integers(axes, "axes")])


@upgrade("Split", to=13)
def split_takes_parts_as_input(node: ir.Node, site: Site) -> None:
    parts = pop_ints(node, "split")
    if parts is not None:
        set_inputs(node, [node.inputs[0], site.integers(parts, "split")])


@upgrade("Split", to=18)
def split_says_the_number_of_parts(node: ir.Node, site: Site) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        set_attributes(node, num_outputs=len(node.outputs))


@upgrade("Hardmax", "LogSoftmax", "Softmax", to=13)
def softmax_flattened_its_input(node: ir.Node, site: Site) -> None:
    """Before opset 13 the input was taken as a matrix, `axis` and all behind it being one axis."""
    data = node.inputs[0]
    axis, shape = pop_int(node, "axis", 1), site.shape(data)
    if shape is not None:
        start = axis % len(shape) if axis < 0 else axis
        wide = [each for each in range(start, len(shape)) if shape[each] != 1]
        if len(wide) <= 1 and start < len(shape):
            set_attributes(node, axis=wide[0] if wide else len(shape) - 1)
            return
    size = put_before(node, "Shape", [data])
    node.replace_input_with(0, put_before(node, "Flatten", [data], {"axis": axis}))
    set_attributes(node, axis=1)
    matrix = ir.Value()
    inner = ir.node(node.op_type, node.inputs, {"axis": 1}, outputs=[matrix])
    inner.metadata_props.update(node.metadata_props)
    inner.version = node.version
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, inner)
    replace(node, "Reshape", [matrix, size])


@upgrade("DFT", to=20)
def dft_takes_its_axis_as_input(node: ir.Node, site: Site) -> None:
    axis = site.constant(np.asarray(pop_int(node, "axis", 1), np.int64), "axis")
    length = node.inputs[1] if len(node.inputs) > 1 else None
    set_inputs(node, [node.inputs[0], length, axis])
