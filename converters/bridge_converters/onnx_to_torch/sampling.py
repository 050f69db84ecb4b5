"""Sampling of images at computed positions: grids, regions of interest."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering
from bridge_converters.onnx_to_torch.resize import cubic_kernel, values_of

Ints = tuple[int, ...]


@lowering("AffineGrid", const=("size",))
def affine_grid(theta: Tensor, size: Ints | Tensor, *, align_corners: int = 0) -> Tensor:
    """The grids (N, spatial..., axes) at which affine maps look into images of a size (N, C, spatial...)."""
    return F.affine_grid(theta, values_of(size), align_corners=align_corners == 1)


@lowering("GridSample", layout="channels_first")
def grid_sample(
    x: Tensor,
    grid: Tensor,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
    input_types: tuple[str, ...] = ("", ""),
) -> Tensor:
    """x (N, C, spatial...) at the positions of a grid (N, places..., axes), last axis first, from -1 to 1."""
    aligned = align_corners == 1
    if x.is_floating_point() and (x.ndim == 4 or x.ndim == 5) and input_types[0] == input_types[1] != "":
        if mode == "linear":
            return F.grid_sample(x, grid, "bilinear", padding_mode, aligned)
        if mode == "nearest" and (aligned or padding_mode != "reflection"):
            return F.grid_sample(x, grid, "nearest", padding_mode, aligned)
        if mode == "cubic" and x.ndim == 4:
            return F.grid_sample(x, grid, "bicubic", padding_mode, aligned)
    places = grid.flip(-1).reshape(x.shape[0], -1, x.ndim - 2)
    sizes = torch.tensor(x.shape[2:], dtype=grid.dtype, device=grid.device)
    position = (places + 1) / 2 * (sizes - 1) if aligned else ((places + 1) * sizes - 1) / 2
    taps = [
        neighbours_on_grid(position[..., axis], x.shape[axis + 2], mode, padding_mode, aligned)
        for axis in range(x.ndim - 2)
    ]
    return sampled(x, taps).reshape(*x.shape[:2], *grid.shape[1:-1])


def neighbours_on_grid(
    position: Tensor, length: int, mode: str, padding_mode: str, aligned: bool
) -> tuple[Tensor, Tensor]:
    """The elements near each position along an axis and their weights, on a new last axis.

    What lies outside the image has no weight (`zeros`), or the value of the last element (`border`), or
    of its mirror image (`reflection`).
    """
    if mode == "nearest":
        position = torch.round(position)
    first, last = {"nearest": (0, 0), "linear": (0, 1), "cubic": (-1, 2)}[mode]
    steps = torch.arange(first, last + 1, dtype=position.dtype, device=position.device)
    place = torch.floor(position).unsqueeze(-1) + steps
    distance = torch.abs(position.unsqueeze(-1) - place)
    weights = cubic_kernel(distance, -0.75) if mode == "cubic" else torch.clamp(1 - distance, min=0)
    if padding_mode == "zeros":
        weights = torch.where((place >= 0) & (place <= length - 1), weights, 0)
    elif padding_mode == "reflection":
        place = reflected(place, 0.0, length - 1.0) if aligned else reflected(place, -0.5, length - 0.5)
    return place.clamp(0, length - 1).long(), weights


def reflected(position: Tensor, low: float, high: float) -> Tensor:
    """The positions mirrored at both ends until they are between them."""
    span = high - low
    turn = torch.remainder(position - low, max(2 * span, 1.0))
    return high - torch.abs(turn - span)


def sampled(x: Tensor, taps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Weighted sums of x (N, C, spatial...): (N, C, places).

    For each spatial axis the indices and weights (N, places, elements in each sum) of what is summed; the
    weight of an element is the product of those along its axes.
    """
    index, weights = taps[0]
    for axis, (more, factor) in enumerate(taps[1:], start=3):
        index = (index.unsqueeze(-1) * x.shape[axis] + more.unsqueeze(-2)).flatten(2)
        weights = (weights.unsqueeze(-1) * factor.unsqueeze(-2)).flatten(2)
    flat = index.flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    elements = x.flatten(2).gather(2, flat).reshape(*x.shape[:2], *index.shape[1:])
    if x.is_floating_point():
        return (elements * weights.to(x.dtype).unsqueeze(1)).sum(-1)
    return (elements * weights.unsqueeze(1)).sum(-1).to(x.dtype)


@lowering("RoiAlign", layout="channels_first")
def roi_align(
    x: Tensor,
    rois: Tensor,
    batch_indices: Tensor,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Tensor:
    """x (N, C, H, W) pooled over a grid of samples in each bin of each region (x1, y1, x2, y2).

    A sample is a weighted sum of the four elements around it; `max` is that of their single terms.
    """
    half = coordinate_transformation_mode == "half_pixel"
    corners = rois * spatial_scale - (0.5 if half else 0.0)
    left, top, right, bottom = corners.unbind(1)
    width, height = (each if half else torch.clamp(each, min=1) for each in (right - left, bottom - top))
    rows = roi_taps(top, height, x.shape[2], output_height, sampling_ratio)
    columns = roi_taps(left, width, x.shape[3], output_width, sampling_ratio)
    index, weights, wanted = crossed(rows, columns, batch_indices, x.shape[2], x.shape[3])
    table = x.permute(0, 2, 3, 1).flatten(0, 2)
    if mode == "max":
        return largest_terms(table, index, weights, wanted).permute(0, 3, 1, 2)
    weights = weights / torch.clamp(wanted.sum(-1, keepdim=True) / 4, min=1)
    sums = F.embedding_bag(index.flatten(0, 2), table, per_sample_weights=weights.flatten(0, 2), mode="sum")
    return sums.reshape(*index.shape[:3], x.shape[1]).permute(0, 3, 1, 2)


def roi_taps(
    start: Tensor, extent: Tensor, length: int, bins: int, sampling_ratio: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Indices, weights and presence (regions, bins, elements) of what the samples along one axis touch.

    Regions have as many samples in a bin as `sampling_ratio` says, or one for each element of its size.
    """
    size = extent / bins
    count = torch.full_like(size, sampling_ratio) if sampling_ratio > 0 else torch.ceil(size)
    most = sampling_ratio if sampling_ratio > 0 else int(F.pad(count, (0, 1), value=1).max())
    sample = torch.arange(most, device=start.device)
    places = (
        torch.arange(bins, device=start.device).unsqueeze(1)
        + (sample + 0.5) / torch.clamp(count, min=1)[:, None, None]
    )
    position = start[:, None, None] + places * size[:, None, None]
    present = ((sample < count[:, None, None]) & torch.ones_like(position, dtype=torch.bool)).unsqueeze(-1)
    inside = ((position >= -1) & (position <= length)).unsqueeze(-1)
    inner = torch.where(present.squeeze(-1), position, 0).clamp(0, length - 1)
    first = torch.floor(inner)
    index = torch.stack([first, (first + 1).clamp(max=length - 1)], -1).long()
    weights = torch.where(inside & present, torch.stack([1 - inner + first, inner - first], -1), 0)
    return index.flatten(2), weights.flatten(2), present.expand_as(index).flatten(2)


def crossed(
    rows: tuple[Tensor, Tensor, Tensor],
    columns: tuple[Tensor, Tensor, Tensor],
    batch: Tensor,
    height: int,
    width: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same for all pairs of a row and a column: (regions, rows of bins, columns of bins, elements)."""
    first = batch[:, None, None] * height + rows[0]
    index = first[:, :, None, :, None] * width + columns[0][:, None, :, None, :]
    weights = rows[1][:, :, None, :, None] * columns[1][:, None, :, None, :]
    present = rows[2][:, :, None, :, None] & columns[2][:, None, :, None, :]
    return index.flatten(3), weights.flatten(3), present.flatten(3)


def largest_terms(table: Tensor, index: Tensor, weights: Tensor, present: Tensor) -> Tensor:
    """The largest weighted row of a table along the last axis of an index; 0 where none is present."""
    terms = table[index] * weights.unsqueeze(-1)
    largest = torch.where(present.unsqueeze(-1), terms, -math.inf).amax(-2)
    return torch.where(present.any(-1, keepdim=True), largest, 0)


@lowering("MaxRoiPool", layout="channels_first")
def max_roi_pool(
    x: Tensor, rois: Tensor, *, pooled_shape: tuple[int, ...], spatial_scale: float = 1.0
) -> Tensor:
    """The maxima of x (N, C, H, W) in the bins of regions (batch, x1, y1, x2, y2), ends included."""
    batch = rois[:, 0].long()
    corners = rois[:, 1:] * spatial_scale
    left, top, right, bottom = (torch.sign(corners) * torch.floor(torch.abs(corners) + 0.5)).unbind(1)
    rows = bin_taps(top, bottom, x.shape[2], pooled_shape[0])
    columns = bin_taps(left, right, x.shape[3], pooled_shape[1])
    index, weights, present = crossed(rows, columns, batch, x.shape[2], x.shape[3])
    table = x.permute(0, 2, 3, 1).flatten(0, 2)
    return largest_terms(table, index, weights.to(x.dtype), present).permute(0, 3, 1, 2)


def bin_taps(first: Tensor, last: Tensor, length: int, bins: int) -> tuple[Tensor, Tensor, Tensor]:
    """Indices, weights of 1 and presence (regions, bins, elements) of the elements in each bin of an axis."""
    size = torch.clamp(last - first + 1, min=1).unsqueeze(1) / bins
    edges = torch.arange(bins + 1, device=first.device)
    begin = (torch.floor(edges[:-1] * size) + first.unsqueeze(1)).clamp(0, length).long()
    end = (torch.ceil(edges[1:] * size) + first.unsqueeze(1)).clamp(0, length).long()
    most = int(F.pad((end - begin).flatten(), (0, 1), value=1).max())
    index = begin.unsqueeze(-1) + torch.arange(most, device=first.device)
    return index.clamp(max=length - 1), torch.ones_like(index), index < end.unsqueeze(-1)


@lowering("DeformConv", layout="channels_first")
def deform_conv(
    x: Tensor,
    w: Tensor,
    offset: Tensor,
    b: Tensor | None = None,
    mask: Tensor | None = None,
    *,
    dilations: tuple[int, ...] | None = None,
    group: int = 1,
    kernel_shape: tuple[int, ...] | None = None,
    offset_group: int = 1,
    pads: tuple[int, ...] | None = None,
    strides: tuple[int, ...] | None = None,
) -> Tensor:
    """Convolution of x (N, C, spatial...) with w (M, C / group, kernel...) beside the usual places.

    `offset` has for each group, kernel element and axis how far (N, offset_group * elements * axes,
    out...), `mask` a factor for what is seen there (N, offset_group * elements, out...).
    """
    rank, batch, places = x.ndim - 2, x.shape[0], offset.shape[2:]
    kernel = w.shape[2:]
    elements = math.prod(kernel)
    stride, dilation, begins = strides or (1,) * rank, dilations or (1,) * rank, pads or (0,) * rank
    shifts = offset.reshape(batch * offset_group, elements, rank, *places)
    taps = []
    for axis in range(rank):
        steps = torch.arange(kernel[axis], device=x.device) * dilation[axis] - begins[axis]
        starts = torch.arange(places[axis], device=x.device) * stride[axis]
        steps = steps.reshape([-1 if i == axis else 1 for i in range(rank)]).expand(kernel).reshape(-1)
        starts = starts.reshape([-1 if i == axis else 1 for i in range(rank)])
        position = shifts[:, :, axis] + (steps.reshape([-1] + [1] * rank) + starts)
        taps.append(neighbours_on_grid(position.flatten(1), x.shape[axis + 2], "linear", "zeros", True))
    grouped = x.reshape(batch * offset_group, -1, *x.shape[2:])
    columns = sampled(grouped, taps).reshape(batch, offset_group, -1, elements, math.prod(places))
    if mask is not None:
        columns = columns * mask.reshape(batch, offset_group, 1, elements, -1)
    columns = columns.reshape(batch, group, -1, math.prod(places))
    y = torch.matmul(w.reshape(group, w.shape[0] // group, -1), columns).reshape(batch, -1, *places)
    return y if b is None else y + b.reshape([-1] + [1] * rank)
