"""Resizing."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge_converters._resize import resize_beyond, spatial_scales
from bridge_converters.onnx_to_torch._table import layer_rule, lowering

Floats = tuple[float, ...]
Ints = tuple[int, ...]


@lowering(
    "Resize", since=19, const=("roi", "scales", "sizes"), layout="channels_first", supports=resize_beyond
)
def resize(
    x: Tensor,
    roi: Floats | Tensor | None = None,
    scales: Floats | Tensor | None = None,
    sizes: Ints | Tensor | None = None,
    *,
    antialias: int = 0,
    axes: tuple[int, ...] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Tensor:
    """x resampled along the axes by scales or to sizes; integers are rounded half to even."""
    places = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    native = interpolation_mode(
        x.ndim,
        (mode, coordinate_transformation_mode, nearest_mode if mode == "nearest" else ""),
        cubic_coeff_a,
        exclude_outside,
        antialias,
    )
    spatial = tuple(range(2, x.ndim))
    usual = native != "" and keep_aspect_ratio_policy == "stretch" and x.is_floating_point()
    if usual and isinstance(sizes, tuple) and sizes and places == spatial:
        if antialias:
            return F.interpolate(x, sizes, mode=native, antialias=True)
        if coordinate_transformation_mode == "align_corners":
            return F.interpolate(x, sizes, mode=native, align_corners=True)
        return F.interpolate(x, sizes, mode=native)
    if usual and isinstance(scales, tuple) and coordinate_transformation_mode != "align_corners":
        if places == spatial and not antialias:
            return F.interpolate(x, scale_factor=scales, mode=native)
        if places == (0, 1, *spatial) and scales[:2] == (1.0, 1.0) and not antialias:
            return F.interpolate(x, scale_factor=scales[2:], mode=native)
    crops = coordinate_transformation_mode == "tf_crop_and_resize"
    lengths = [x.shape[axis] for axis in places]
    targets = resize_targets(lengths, values_of(scales), values_of(sizes), keep_aspect_ratio_policy)
    exact = mode == "nearest" and not crops
    y = x if exact or x.is_floating_point() or x.is_complex() else x.double()
    outside = torch.zeros((), dtype=torch.bool, device=x.device)
    for i, (axis, length, (size, scale)) in enumerate(zip(places, lengths, targets, strict=True)):
        if isinstance(length, int) and isinstance(size, int) and size == length and scale == 1 and not crops:
            continue
        position = torch.arange(size, dtype=torch.float64, device=x.device)
        if crops:
            begin, end = (0.0, 1.0) if roi is None else (roi[i], roi[i + len(places)])
            position = cropped_position(position, length, size, begin, end)
            beyond = (position < 0) | (position > length - 1)
            outside = outside | beyond.reshape((-1,) + (1,) * (x.ndim - 1 - axis))
            position = torch.clamp(position, 0, length - 1)
        else:
            position = source_position(position, length, size, scale, coordinate_transformation_mode)
        if mode == "nearest":
            y = torch.index_select(y, axis, nearest_index(position, length, nearest_mode))
        else:
            shrink = min(scale, 1.0) if antialias else 1.0
            index, weights = neighbours(position, length, mode, cubic_coeff_a, exclude_outside, shrink)
            y = weighted_sums(y, axis, index, weights)
    if crops:
        y = torch.where(outside, torch.full((), extrapolation_value, dtype=y.dtype, device=y.device), y)
    if y.dtype == x.dtype:
        return y
    limits = torch.iinfo(x.dtype)
    return torch.round(y).clamp(limits.min, limits.max).to(x.dtype)


def interpolation_mode(
    rank: int, method: tuple[str, str, str], cubic_coeff_a: float, exclude_outside: int, antialias: int
) -> str:
    """The mode of `F.interpolate` that resizes alike all axes but the first two; empty if there is none."""
    if not 3 <= rank <= 5 or (antialias and (rank != 4 or not exclude_outside)):
        return ""
    if method[1] == "half_pixel" or (method[1] == "align_corners" and not antialias):
        if method[0] == "linear":
            return ("linear", "bilinear", "trilinear")[rank - 3]
        if method[0] == "cubic" and rank == 4 and cubic_coeff_a == (-0.5 if antialias else -0.75):
            return "bicubic" if antialias or not exclude_outside else ""
    if method == ("nearest", "half_pixel", "round_prefer_ceil"):
        return "nearest-exact"
    return "nearest" if method == ("nearest", "asymmetric", "floor") else ""


def values_of(numbers: tuple[float, ...] | Tensor | None) -> list[Any]:
    """The numbers of a small vector, which decide the shape of an output; none for None."""
    if numbers is None:
        return []
    return list(numbers) if isinstance(numbers, tuple) else numbers.tolist()


def resize_targets(
    lengths: list[int], scales: list[float], sizes: list[int], policy: str
) -> list[tuple[int, float]]:
    """The new size and the scale of each axis; a rounded scale stands for the ratio of sizes it gives."""
    if sizes:
        ratios = [size / length for size, length in zip(sizes, lengths, strict=True)]
        if policy != "stretch":
            common = min(ratios) if policy == "not_larger" else max(ratios)
            return [(math.floor(common * length + 0.5), common) for length in lengths]
        return list(zip(sizes, ratios, strict=True))
    targets = []
    for scale, length in zip(scales, lengths, strict=True):
        size = math.floor(scale * length + 1e-5)
        exact = abs(size - scale * length) < 1e-5 * max(size, 1)
        targets.append((size, size / length if exact else scale))
    return targets


def source_position(place: Tensor, length: int, size: int, scale: float, transformation: str) -> Tensor:
    """Where along an axis of a length each of the `size` new elements at `place` lies."""
    if transformation == "align_corners":
        return place * ((length - 1) / max(size - 1, 1))
    if transformation == "asymmetric":
        return place / scale
    if transformation == "pytorch_half_pixel" and size == 1:
        return place
    centred = (place + 0.5) / scale - 0.5
    if transformation == "half_pixel_symmetric":
        return centred + length / 2 * (1 - size / (scale * length))
    return centred


def cropped_position(
    place: Tensor, length: int, size: int, begin: float | Tensor, end: float | Tensor
) -> Tensor:
    """Where along an axis each new element lies if they span the part from `begin` to `end` of its length."""
    if size == 1:
        return place + 0.5 * (begin + end) * (length - 1)
    return begin * (length - 1) + place * ((end - begin) * (length - 1) / (size - 1))


def nearest_index(position: Tensor, length: int, rounding: str) -> Tensor:
    """The nearest element to each position, ties and halves as `rounding` says."""
    if rounding == "round_prefer_floor":
        index = torch.ceil(position - 0.5)
    elif rounding == "round_prefer_ceil":
        index = torch.floor(position + 0.5)
    else:
        index = torch.floor(position) if rounding == "floor" else torch.ceil(position)
    return torch.clamp(index, 0, length - 1).long()


def neighbours(
    position: Tensor, length: int, mode: str, cubic_coeff_a: float, exclude_outside: int, shrink: float
) -> tuple[Tensor, Tensor]:
    """The elements near each position and their weights in linear or cubic interpolation.

    Both are (positions, neighbours). The filter is widened by 1 / shrink.
    """
    reach = math.ceil((2 if mode == "cubic" else 1) / shrink)
    place = torch.floor(position)[:, None] + torch.arange(1 - reach, reach + 1, device=position.device)
    distance = torch.abs(place - position[:, None]) * shrink
    weights = cubic_kernel(distance, cubic_coeff_a) if mode == "cubic" else torch.clamp(1 - distance, min=0)
    if exclude_outside:
        weights = torch.where((place >= 0) & (place < length), weights, 0.0)
    return torch.clamp(place, 0, length - 1).long(), weights / weights.sum(1, keepdim=True)


def cubic_kernel(distance: Tensor, a: float) -> Tensor:
    """The weight of cubic convolution at a distance (Keys 1981, doi 10.1109/TASSP.1981.1163711)."""
    inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
    outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return torch.where(distance <= 1, inner, torch.where(distance < 2, outer, 0.0))


def weighted_sums(x: Tensor, axis: int, index: Tensor, weights: Tensor) -> Tensor:
    """Sums of elements along an axis; index and weights are (new size, elements in each sum)."""
    shape = (*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
    elements = torch.index_select(x, axis, index.flatten()).reshape(shape)
    return (elements * weights.to(x.dtype).reshape(index.shape + (1,) * (x.ndim - 1 - axis))).sum(axis + 1)


@layer_rule("Resize")
def upsample_layer(view: NodeView) -> Layer | None:
    """A nearest or linear upsampling of floats by scales along the spatial axes."""
    scales, value = spatial_scales(view), view.input(0)
    if scales is None or view.attr("antialias", 0):
        return None
    if value is None or value.dtype is None or not value.dtype.is_floating_point():
        return None
    factor = scales[0] if len(set(scales)) == 1 else scales
    way = (view.attr("mode", "nearest"), view.attr("coordinate_transformation_mode", "half_pixel"))
    if way == ("nearest", "asymmetric") and view.attr("nearest_mode") == "floor":
        return Layer("nn.Upsample", (), {"scale_factor": factor})
    if way == ("linear", "half_pixel"):
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(scales)]
        return Layer("nn.Upsample", (), {"scale_factor": factor, "mode": mode})
    return None
