"""Images: resizing and moving between depth and space."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge_converters._resize import resize_beyond, spatial_scales
from bridge_converters.onnx_to_torch._table import layer_rule, lowering

Floats = tuple[float, ...]


@lowering("DepthToSpace", layout="channels_first")
def depth_to_space(x: Tensor, *, blocksize: int, mode: str = "DCR") -> Tensor:
    """Blocks of channels moved into space; in DCR the block is the outer part of the channel index."""
    if mode == "CRD":
        return F.pixel_shuffle(x, blocksize)
    n, c, h, w = x.shape
    blocks = x.reshape(n, blocksize, blocksize, c // (blocksize * blocksize), h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * blocksize, w * blocksize)


@lowering("SpaceToDepth", layout="channels_first")
def space_to_depth(x: Tensor, *, blocksize: int) -> Tensor:
    """Blocks of space moved into channels; the block is the outer part of the channel index."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // blocksize, blocksize, w // blocksize, blocksize)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // blocksize, w // blocksize)


@lowering(
    "Resize",
    since=19,
    const=("roi", "scales", "sizes"),
    static=("roi", "scales", "sizes"),
    layout="channels_first",
    supports=resize_beyond,
)
def resize(
    x: Tensor,
    roi: Floats | None = None,
    scales: Floats | None = None,
    sizes: tuple[int, ...] | None = None,
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
    """x resampled along the axes by scales or to sizes."""
    places = tuple(range(x.ndim)) if axes is None else tuple(axis % x.ndim for axis in axes)
    method = (mode, coordinate_transformation_mode, nearest_mode if mode == "nearest" else "")
    usual = keep_aspect_ratio_policy == "stretch" and not antialias and x.ndim == 4
    if usual and scales and (places == (2, 3) or (len(places) == 4 and scales[:2] == (1.0, 1.0))):
        if method == ("nearest", "asymmetric", "floor"):
            return F.interpolate(x, scale_factor=scales[-2:], mode="nearest")
        if method == ("linear", "half_pixel", ""):
            return F.interpolate(x, scale_factor=scales[-2:], mode="bilinear")
    if usual and sizes and places == (2, 3):
        if method == ("nearest", "asymmetric", "floor"):
            return F.interpolate(x, sizes, mode="nearest")
        if method == ("linear", "half_pixel", ""):
            return F.interpolate(x, sizes, mode="bilinear")
        if method == ("linear", "align_corners", ""):
            return F.interpolate(x, sizes, mode="bilinear", align_corners=True)
    targets = resize_targets([x.shape[axis] for axis in places], scales, sizes, keep_aspect_ratio_policy)
    for i, (axis, (size, scale)) in enumerate(zip(places, targets, strict=True)):
        if size == x.shape[axis] and scale == 1.0 and coordinate_transformation_mode != "tf_crop_and_resize":
            continue
        region = (roi[i], roi[i + len(places)]) if roi else (0.0, 1.0)
        position = source_position(x, axis, size, scale, coordinate_transformation_mode, region)
        if mode == "nearest":
            y = torch.index_select(x, axis, nearest_index(position, x.shape[axis], nearest_mode))
        else:
            weights = sampling_weights(
                position,
                x.shape[axis],
                mode,
                cubic_coeff_a,
                exclude_outside,
                min(scale, 1.0) if antialias else 1.0,
            )
            y = torch.tensordot(x, weights.to(x.dtype), ([axis], [1])).movedim(-1, axis)
        if coordinate_transformation_mode == "tf_crop_and_resize":
            inside = ((position >= 0) & (position <= x.shape[axis] - 1)).reshape(
                (-1,) + (1,) * (x.ndim - 1 - axis)
            )
            y = torch.where(inside, y, extrapolation_value)
        x = y
    return x


def resize_targets(
    lengths: list[int], scales: Floats | None, sizes: tuple[int, ...] | None, policy: str
) -> list[tuple[int, float]]:
    """The new size and the scale of each axis; a rounded scale stands for the ratio of sizes it gives."""
    if sizes:
        ratios = [size / length for size, length in zip(sizes, lengths, strict=True)]
        if policy != "stretch":
            common = min(ratios) if policy == "not_larger" else max(ratios)
            return [(math.floor(common * length + 0.5), common) for length in lengths]
        return list(zip(sizes, ratios, strict=True))
    targets = []
    for scale, length in zip(scales or (), lengths, strict=True):
        size = math.floor(scale * length + 1e-5)
        exact = abs(size - scale * length) < 1e-5 * max(size, 1)
        targets.append((size, size / length if exact else scale))
    return targets


def source_position(
    x: Tensor, axis: int, size: int, scale: float, transformation: str, region: tuple[float, float]
) -> Tensor:
    """Where along an axis of x each of the `size` new elements lies."""
    place = torch.arange(size, dtype=torch.float64, device=x.device)
    length = x.shape[axis]
    if transformation == "align_corners":
        return place * ((length - 1) / (size - 1) if size > 1 else 0.0)
    if transformation == "asymmetric":
        return place / scale
    if transformation == "tf_crop_and_resize":
        begin, end = region
        if size == 1:
            return place + 0.5 * (begin + end) * (length - 1)
        return begin * (length - 1) + place * ((end - begin) * (length - 1) / (size - 1))
    if transformation == "pytorch_half_pixel" and size == 1:
        return place
    centred = (place + 0.5) / scale - 0.5
    if transformation == "half_pixel_symmetric":
        return centred + length / 2 * (1 - size / (scale * length))
    return centred


def nearest_index(position: Tensor, length: int, rounding: str) -> Tensor:
    """The nearest element to each position, ties and halves as `rounding` says."""
    if rounding == "round_prefer_floor":
        index = torch.ceil(position - 0.5)
    elif rounding == "round_prefer_ceil":
        index = torch.floor(position + 0.5)
    else:
        index = torch.floor(position) if rounding == "floor" else torch.ceil(position)
    return torch.clamp(index, 0, length - 1).long()


def sampling_weights(
    position: Tensor, length: int, mode: str, cubic_coeff_a: float, exclude_outside: int, shrink: float
) -> Tensor:
    """The matrix (new size, length) of linear or cubic interpolation; a filter is widened by 1 / shrink."""
    reach = math.ceil((2 if mode == "cubic" else 1) / shrink)
    first = torch.floor(position) - reach + 1
    weights = torch.zeros(position.shape[0], length, dtype=torch.float64, device=position.device)
    for k in range(2 * reach):
        place = first + k
        distance = torch.abs(place - position) * shrink
        near = torch.clamp(1 - distance, min=0)
        if mode == "cubic":
            a = cubic_coeff_a
            inner = ((a + 2) * distance - (a + 3)) * distance * distance + 1
            outer = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
            near = torch.where(distance <= 1, inner, torch.where(distance < 2, outer, 0.0))
        if exclude_outside:
            near = torch.where((place >= 0) & (place < length), near, 0.0)
        index = torch.clamp(place, 0, length - 1).long().unsqueeze(1)
        weights = weights.scatter_add(1, index, near.unsqueeze(1))
    return weights / weights.sum(1, keepdim=True)


@layer_rule("Resize")
def upsample_layer(view: NodeView) -> Layer | None:
    """A nearest or linear upsampling by scales along the spatial axes."""
    scales = spatial_scales(view)
    if scales is None or view.attr("antialias", 0):
        return None
    factor = scales[0] if len(set(scales)) == 1 else scales
    way = (view.attr("mode", "nearest"), view.attr("coordinate_transformation_mode", "half_pixel"))
    if way == ("nearest", "asymmetric") and view.attr("nearest_mode") == "floor":
        return Layer("nn.Upsample", (), {"scale_factor": factor})
    if way == ("linear", "half_pixel"):
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(scales)]
        return Layer("nn.Upsample", (), {"scale_factor": factor, "mode": mode})
    return None
