"""Resizing and sampling of images in old opsets."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import constant
from bridge.passes.upgrades.registry import upgrade
from bridge.passes.upgrades.site import (
    Site,
    pop_float,
    put_before,
    refusal,
    replace,
    set_attributes,
    set_inputs,
)

_GRID_MODES = {"bilinear": "linear", "bicubic": "cubic"}


@upgrade("GlobalLpPool", "LpPool", to=2)
def norm_is_an_integer(node: ir.Node, site: Site) -> None:
    if node.op_type == "LpPool" and "kernel_shape" not in node.attributes:
        raise refusal(node, "it does not say its kernel_shape")
    p = pop_float(node, "p", 2.0)
    if p != int(p):
        raise refusal(node, f"its norm {p} is no whole number")
    set_attributes(node, p=int(p))


@upgrade("Upsample", to=7)
def upsample_scales_every_axis(node: ir.Node, site: Site) -> None:
    height, width = pop_float(node, "height_scale", 1.0), pop_float(node, "width_scale", 1.0)
    mode = node.attributes.get_string("mode", "nearest")
    set_attributes(node, scales=[1.0, 1.0, height, width], mode="linear" if mode == "bilinear" else mode)


@upgrade("Upsample", to=9)
def upsample_takes_scales_as_input(node: ir.Node, site: Site) -> None:
    scales = np.asarray(node.attributes.pop("scales").as_floats(), np.float32)
    set_inputs(node, [node.inputs[0], site.constant(scales, "scales")])


@upgrade("Upsample", to=11)
def upsample_becomes_resize(node: ir.Node, site: Site) -> None:
    """Opset 10 deprecated it. Its scales are never below 1."""
    data, scales = node.inputs
    mode = node.attributes.get_string("mode", "nearest")
    replace(node, "Resize", [data, None, scales], _asymmetric(mode, "floor"))


@upgrade("Resize", to=11)
def resize_says_its_coordinates(node: ir.Node, site: Site) -> None:
    """Resize of opset 10 counted from the corner; the nearest pixel was above when it made smaller.

    The text leaves the latter open; onnxruntime and the cases that came with opset 10 do so.
    """
    data, scales = node.inputs
    mode = node.attributes.get_string("mode", "nearest")
    known = constant(scales)
    if mode != "nearest":
        replace(node, "Resize", [data, None, scales], _asymmetric(mode, "floor"))
        return
    if known is None:
        raise refusal(node, "its scales are computed")
    if known.max(initial=1) > 1 and known.min(initial=1) < 1:
        smaller = site.constant(np.minimum(known, 1), "scales")
        data = put_before(node, "Resize", [data, None, smaller], _asymmetric(mode, "ceil"))
        scales = site.constant(np.maximum(known, 1), "scales")
    rounding = "ceil" if known.max(initial=1) <= 1 else "floor"
    replace(node, "Resize", [data, None, scales], _asymmetric(mode, rounding))


def _asymmetric(mode: str, rounding: str) -> dict[str, object]:
    attributes: dict[str, object] = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    return {**attributes, "nearest_mode": rounding} if mode == "nearest" else attributes


@upgrade("Resize", to=13)
def resize_leaves_out_what_is_empty(node: ir.Node, site: Site) -> None:
    """Opset 11 demanded all inputs and took an empty tensor for none; it had one more kind of coordinates."""
    inputs = list(node.inputs)
    for index in range(1, len(inputs)):
        if site.shape(inputs[index]) == (0,):
            inputs[index] = None
    while inputs[-1] is None:
        inputs.pop()
    set_inputs(node, inputs)
    if node.attributes.get_string("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        _shift_by_half_a_pixel(node)


def _shift_by_half_a_pixel(node: ir.Node) -> None:
    """`tf_half_pixel_for_nn` is `half_pixel` and a half: rounding down is then to the nearest."""
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    shifted = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}
    if node.attributes.get_string("mode", "nearest") != "nearest" or rounding not in shifted:
        raise refusal(node, f"tf_half_pixel_for_nn with nearest_mode {rounding} exists in opset 11 only")
    set_attributes(node, coordinate_transformation_mode="half_pixel", nearest_mode=shifted[str(rounding)])


@upgrade("RoiAlign", to=16)
def roi_align_says_its_coordinates(node: ir.Node, site: Site) -> None:
    set_attributes(node, coordinate_transformation_mode="output_half_pixel")


@upgrade("GridSample", to=20)
def grid_sample_renames_its_modes(node: ir.Node, site: Site) -> None:
    mode = node.attributes.get_string("mode", "bilinear")
    set_attributes(node, mode=_GRID_MODES.get(str(mode), mode))
