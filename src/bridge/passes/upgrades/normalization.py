"""Normalisation and dropout of old opsets, which said training and inference in several ways."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import take_over
from bridge.passes.upgrades.registry import upgrade
from bridge.passes.upgrades.site import (
    Site,
    is_read,
    pop_float,
    pop_int,
    put_after,
    put_before,
    refusal,
    replace,
    set_attributes,
    set_inputs,
)

_BATCH_NORM_OUTPUTS = 5


@upgrade("BatchNormalization", to=7)
def batch_norm_trains_by_its_outputs(node: ir.Node, site: Site) -> None:
    """Since opset 7 more than one output means training, and one means inference."""
    training = not pop_int(node, "is_test", 0)
    if not training and any(is_read(output) for output in node.outputs[1:]):
        raise refusal(node, "statistics of a batch are read from it in inference")
    _resize_outputs(node, _BATCH_NORM_OUTPUTS if training else 1)


@upgrade("BatchNormalization", to=9)
def batch_norm_is_spatial(node: ir.Node, site: Site) -> None:
    """`spatial=0` had statistics for each place of an image; they broadcast over the batch."""
    if pop_int(node, "spatial", 1):
        return
    if len(node.outputs) > 1:
        raise refusal(node, "it is not spatial and in training")
    data, scale, bias, mean, variance = node.inputs
    epsilon = site.number(pop_float(node, "epsilon", 1e-5), variance, node, "epsilon")
    deviation = put_before(node, "Sqrt", [put_before(node, "Add", [variance, epsilon])])
    centred = put_before(node, "Sub", [data, mean])
    scaled = put_before(node, "Mul", [put_before(node, "Div", [centred, deviation]), scale])
    replace(node, "Add", [scaled, bias])


@upgrade("BatchNormalization", to=14)
def batch_norm_says_that_it_trains(node: ir.Node, site: Site) -> None:
    if len(node.outputs) <= 1:
        return
    if any(is_read(output) for output in node.outputs[3:]):
        raise refusal(node, "its saved statistics are read")
    _resize_outputs(node, 3)
    set_attributes(node, training_mode=1)


def _resize_outputs(node: ir.Node, count: int) -> None:
    present = len(node.outputs)
    node.resize_outputs(count)
    for index, output in enumerate(node.outputs[present:], start=present):
        output.name = f"{node.outputs[0].name}_statistic_{index}"


@upgrade("Dropout", to=7)
def dropout_says_that_it_trains(node: ir.Node, site: Site) -> None:
    """`is_test` is 0 if absent; opset 12 has an input for it."""
    if not pop_int(node, "is_test", 0):
        set_attributes(node, is_test=0)


@upgrade("Dropout", to=10)
def dropout_mask_is_boolean(node: ir.Node, site: Site) -> None:
    """The mask had the type of the data before."""
    if len(node.outputs) < 2 or not is_read(node.outputs[1]):
        return
    mask = node.outputs[1]
    reader = put_after(node, "Cast", [None], {"to": int(site.dtype(node.inputs[0], node))})
    take_over(mask, reader)
    mask.name, mask.type = f"{reader.name}_boolean", ir.TensorType(ir.DataType.BOOL)
    cast = reader.producer()
    assert cast is not None
    cast.replace_input_with(0, mask)


@upgrade("Dropout", to=12)
def dropout_takes_its_ratio_as_input(node: ir.Node, site: Site) -> None:
    ratio = site.constant(np.asarray(pop_float(node, "ratio", 0.5), np.float32), "ratio")
    inputs = [node.inputs[0], ratio]
    if not pop_int(node, "is_test", 1):
        inputs.append(site.constant(np.asarray(True), "training_mode"))
    set_inputs(node, inputs)


@upgrade("GroupNormalization", to=21)
def group_norm_scales_every_channel(node: ir.Node, site: Site) -> None:
    """Before opset 21 scale and bias were per group."""
    data, scale, bias = node.inputs
    groups = node.attributes["num_groups"].as_int()
    shape = site.shape(data)
    channels = None if shape is None or len(shape) < 2 else shape[1]
    if channels is None:
        size = put_before(node, "Shape", [data], {"start": 1, "end": 2})
        count = put_before(node, "Div", [size, site.integers([groups], "groups")])
    else:
        count = site.integers([channels // groups], "channels")
    repeats = put_before(node, "Concat", [site.integers([1], "one"), count], {"axis": 0})
    for index, each in ((1, scale), (2, bias)):
        column = put_before(node, "Reshape", [each, site.integers([groups, 1], "shape")])
        spread = put_before(node, "Tile", [column, repeats])
        node.replace_input_with(index, put_before(node, "Reshape", [spread, site.integers([-1], "shape")]))
