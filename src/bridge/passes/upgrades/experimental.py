"""Operators of ONNX's first years that never became part of the standard; Caffe2 defined them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import constant
from bridge.passes.upgrades.registry import experimental
from bridge.passes.upgrades.site import (
    Site,
    pop_float,
    pop_int,
    pop_ints,
    put_before,
    refusal,
    replace,
    set_attributes,
)


@experimental("Affine")
def affine(node: ir.Node, site: Site) -> None:
    """alpha * x + beta"""
    alpha, beta = pop_float(node, "alpha", 1.0), pop_float(node, "beta", 0.0)
    data = node.inputs[0]
    scaled = _times(data, alpha, node, site)
    replace(node, "Add", [scaled, site.number(beta, data, node, "beta")])


@experimental("Scale")
def scale(node: ir.Node, site: Site) -> None:
    """scale * x"""
    data = node.inputs[0]
    replace(node, "Mul", [data, site.number(pop_float(node, "scale", 1.0), data, node, "scale")])


@experimental("ImageScaler")
def image_scaler(node: ir.Node, site: Site) -> None:
    """scale * x + bias, with a bias for each channel of [N, C, H, W]"""
    data = node.inputs[0]
    bias = node.attributes.pop("bias", None)
    scaled = _times(data, pop_float(node, "scale", 1.0), node, site)
    offsets = np.asarray([] if bias is None else bias.as_floats(), site.dtype(data, node).numpy())
    replace(node, "Add", [scaled, site.constant(offsets.reshape(1, -1, 1, 1), "bias")])


@experimental("ScaledTanh")
def scaled_tanh(node: ir.Node, site: Site) -> None:
    """alpha * tanh(beta * x)"""
    data = node.inputs[0]
    alpha, beta = pop_float(node, "alpha", 1.0), pop_float(node, "beta", 1.0)
    squashed = put_before(node, "Tanh", [_times(data, beta, node, site)])
    replace(node, "Mul", [squashed, site.number(alpha, data, node, "alpha")])


@experimental("ParametricSoftplus")
def parametric_softplus(node: ir.Node, site: Site) -> None:
    """alpha * log(1 + exp(beta * x))"""
    data = node.inputs[0]
    alpha, beta = pop_float(node, "alpha", 1.0), pop_float(node, "beta", 1.0)
    plus = put_before(node, "Softplus", [_times(data, beta, node, site)])
    replace(node, "Mul", [plus, site.number(alpha, data, node, "alpha")])


@experimental("MeanVarianceNormalization")
def mean_variance_normalization(node: ir.Node, site: Site) -> None:
    """Each channel, or all together, less its mean and over its deviation in the batch."""
    data = node.inputs[0]
    across = pop_int(node, "across_channels", 0)
    axes = [axis for axis in range(site.rank(data, node)) if across or axis != 1]
    if pop_int(node, "normalize_variance", 1):
        set_attributes(node, axes=axes)
        return
    mean = put_before(node, "ReduceMean", [data], {"axes": axes, "keepdims": 1})
    replace(node, "Sub", [data, mean])


@experimental("Crop")
def crop(node: ir.Node, site: Site) -> None:
    """[N, C, H, W] without a border (left, top, right, bottom), or `scale` (height, width) of it."""
    border, size = pop_ints(node, "border"), pop_ints(node, "scale")
    if border is None or len(border) != 4:
        raise refusal(node, "its border is not four numbers")
    left, top, right, bottom = border
    ends = (top + size[0], left + size[1]) if size else (_before(bottom), _before(right))
    starts = site.integers((top, left), "starts")
    replace(
        node, "Slice", [node.inputs[0], starts, site.integers(ends, "ends"), site.integers((2, 3), "axes")]
    )


def _before(border: int) -> int:
    """The end of a slice that leaves so many out."""
    return -border if border else np.iinfo(np.int64).max


@experimental("DynamicSlice")
def dynamic_slice(node: ir.Node, site: Site) -> None:
    """Slice with its bounds as inputs, before Slice had them."""
    replace(node, "Slice", node.inputs)


@experimental("GivenTensorFill")
def given_tensor_fill(node: ir.Node, site: Site) -> None:
    """A tensor of the values in the node."""
    values = node.attributes.pop("values", None)
    numbers = np.asarray([] if values is None else values.as_floats(), np.float32)
    shape = _shape_of_fill(node, site)
    replace(node, "Reshape", [site.constant(numbers, "values"), shape])


@experimental("ConstantFill")
def constant_fill(node: ir.Node, site: Site) -> None:
    """A tensor of one value."""
    dtype = ir.DataType(pop_int(node, "dtype", int(ir.DataType.FLOAT)))
    value = ir.tensor(np.asarray([pop_float(node, "value", 0.0)]).astype(dtype.numpy()))
    shape = _shape_of_fill(node, site)
    replace(node, "ConstantOfShape", [shape], {"value": value})


def _shape_of_fill(node: ir.Node, site: Site) -> ir.Value:
    """The shape in the node, or of its input, or in its input; and the axes added at the end."""
    shape, extra = pop_ints(node, "shape"), pop_ints(node, "extra_shape") or ()
    given = node.inputs[0] if node.inputs else None
    if shape is not None or given is None:
        return site.integers((*(shape or ()), *extra), "shape")
    known = constant(given)
    if pop_int(node, "input_as_shape", 0):
        if known is not None:
            return site.integers([int(each) for each in known.reshape(-1)] + list(extra), "shape")
        size = put_before(node, "Cast", [given], {"to": int(ir.DataType.INT64)})
    else:
        size = put_before(node, "Shape", [given])
    if not extra:
        return size
    return put_before(node, "Concat", [size, site.integers(extra, "extra_shape")], {"axis": 0})


def _times(data: ir.Value | None, factor: float, node: ir.Node, site: Site) -> ir.Value | None:
    return put_before(node, "Mul", [data, site.number(factor, data, node, "factor")]) if factor != 1 else data
