"""Padding and cropping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering

Ints = tuple[int, ...]
Value = float | tuple[float, ...]


@lowering("Pad", const=("pads", "constant_value", "axes"))
def pad(
    x: Tensor,
    pads: Ints | Tensor,
    constant_value: Value | Tensor | None = None,
    axes: Ints | Tensor | None = None,
    *,
    mode: str = "constant",
) -> Tensor:
    """x with begins and ends added to (or, where negative, cut from) the given axes."""
    amounts = pads if isinstance(pads, tuple) else pads.tolist()
    places = tuple(range(x.ndim)) if axes is None else axes if isinstance(axes, tuple) else axes.tolist()
    if mode == "constant":
        fill = 0 if constant_value is None else constant_value
        if isinstance(fill, tuple):
            fill = fill[0] if fill else 0
        if isinstance(fill, int | float):
            if not fill:
                return F.pad(x, last_axis_first(x.ndim, amounts, places))
            return F.pad(x, last_axis_first(x.ndim, amounts, places), value=fill)
        sides = last_axis_first(x.ndim, amounts, places)
        inside = F.pad(torch.ones_like(x, dtype=torch.bool), sides)
        return torch.where(inside, F.pad(x, sides), fill.reshape(()))
    for axis, begin, end in zip(places, amounts[: len(places)], amounts[len(places) :], strict=True):
        x = x.narrow(axis, max(-begin, 0), x.shape[axis] + min(begin, 0) + min(end, 0))
        if begin > 0 or end > 0:
            index = torch.arange(-max(begin, 0), x.shape[axis] + max(end, 0), device=x.device)
            x = torch.index_select(x, axis, source_index(index, x.shape[axis], mode))
    return x


def last_axis_first(rank: int, amounts: Sequence[int], places: Sequence[int]) -> list[int]:
    """Begins and ends by axis in the order of `F.pad`, the leading axes left out that are not padded."""
    sides = [[0, 0] for _ in range(rank)]
    for axis, begin, end in zip(places, amounts[: len(places)], amounts[len(places) :], strict=True):
        sides[axis] = [begin, end]
    padded = [axis for axis in range(rank) if sides[axis] != [0, 0]]
    return [amount for axis in reversed(range(min(padded, default=rank), rank)) for amount in sides[axis]]


def source_index(index: Tensor, size: int, mode: str) -> Tensor:
    """Where a padded position takes its value from: the `edge`, the `reflect`ion or by `wrap`ping around."""
    if mode == "edge":
        return torch.clamp(index, 0, size - 1)
    if mode == "wrap":
        return index % size
    period = max(2 * size - 2, 1)
    return size - 1 - torch.abs(index % period - (size - 1))


@lowering("CenterCropPad", const=("shape",))
def center_crop_pad(x: Tensor, shape: Ints | Tensor, *, axes: tuple[int, ...] | None = None) -> Tensor:
    """x with the given axes cropped or padded with zeros to a shape around their centres."""
    wanted = shape if isinstance(shape, tuple) else shape.tolist()
    places = tuple(range(x.ndim)) if axes is None else axes
    sides = [0] * (2 * x.ndim)
    for axis, size in zip(places, wanted, strict=True):
        more = size - x.shape[axis]
        before = more // 2 if more >= 0 else -(-more // 2)
        last = 2 * (x.ndim - 1 - axis % x.ndim)
        sides[last : last + 2] = [before, more - before]
    return F.pad(x, sides)
