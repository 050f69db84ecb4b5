"""Reductions and running sums."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering

Axes = tuple[int, ...] | Tensor | None


def reduced_axes(axes: tuple[int, ...] | Tensor | None, rank: int) -> int | tuple[int, ...]:
    """The axes to reduce over, by default all; a single one as a number."""
    places = () if axes is None else axes if isinstance(axes, tuple) else tuple(axes.tolist())
    if len(places) == 1:
        return places[0]
    return places or tuple(range(rank))


@lowering("ReduceSum", since=13, const=("axes",))
def reduce_sum(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    """The sum over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if not x.is_floating_point():
        return torch.sum(x, dims, keepdim=keepdims == 1, dtype=x.dtype)
    if keepdims:
        return torch.sum(x, dims, keepdim=True)
    return torch.sum(x, dims)


@lowering("ReduceMean", since=13, const=("axes",))
def reduce_mean(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    """The mean over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if not x.is_floating_point():
        total = torch.sum(x, dims, keepdim=keepdims == 1)
        return torch.div(total, x.numel() // max(total.numel(), 1), rounding_mode="trunc").to(x.dtype)
    if keepdims:
        return torch.mean(x, dims, keepdim=True)
    return torch.mean(x, dims)


def lowest(x: Tensor) -> float:
    """The least number of x's dtype: the maximum of nothing."""
    return -math.inf if x.is_floating_point() else 0 if x.dtype == torch.bool else torch.iinfo(x.dtype).min


def highest(x: Tensor) -> float:
    """The greatest number of x's dtype: the minimum of nothing."""
    return math.inf if x.is_floating_point() else 1 if x.dtype == torch.bool else torch.iinfo(x.dtype).max


@lowering("ReduceMax", since=13, const=("axes",))
def reduce_max(
    x: Tensor,
    axes: Axes = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
    input_shapes: tuple[tuple[int | str | None, ...] | None, ...],
) -> Tensor:
    """The maximum over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if 0 in (input_shapes[0] or ()):
        return torch.full_like(torch.sum(x, dims, keepdim=keepdims == 1, dtype=x.dtype), lowest(x))
    if keepdims:
        return torch.amax(x, dims, keepdim=True)
    return torch.amax(x, dims)


@lowering("ReduceMin", since=13, const=("axes",))
def reduce_min(
    x: Tensor,
    axes: Axes = None,
    *,
    keepdims: int = 1,
    noop_with_empty_axes: int = 0,
    input_shapes: tuple[tuple[int | str | None, ...] | None, ...],
) -> Tensor:
    """The minimum over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if 0 in (input_shapes[0] or ()):
        return torch.full_like(torch.sum(x, dims, keepdim=keepdims == 1, dtype=x.dtype), highest(x))
    if keepdims:
        return torch.amin(x, dims, keepdim=True)
    return torch.amin(x, dims)


@lowering("ReduceProd", since=13, const=("axes",))
def reduce_prod(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    """The product over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if isinstance(dims, int):
        return torch.prod(x, dims, keepdim=keepdims == 1, dtype=x.dtype)
    for axis in sorted((axis % x.ndim for axis in dims), reverse=True):
        x = torch.prod(x, axis, keepdim=keepdims == 1, dtype=x.dtype)
    return x


@lowering("ReduceL1", since=13, const=("axes",))
def reduce_l1(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    """The sum of absolute values over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return torch.abs(x)
    dims = reduced_axes(axes, x.ndim)
    return torch.sum(torch.abs(x), dims, keepdim=keepdims == 1, dtype=x.dtype)


@lowering("ReduceL2", since=13, const=("axes",))
def reduce_l2(x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0) -> Tensor:
    """The square root of the sum of squares over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return torch.abs(x)
    dims = reduced_axes(axes, x.ndim)
    if not x.is_floating_point():
        squares = torch.sum(x * x, dims, keepdim=keepdims == 1)
        return torch.sqrt(squares.double()).to(x.dtype)
    norm: Tensor = torch.linalg.vector_norm(x, 2, dims, keepdim=keepdims == 1)
    return norm


@lowering("ReduceLogSum", since=13, const=("axes",))
def reduce_log_sum(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """The logarithm of the sum over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return torch.log(x)
    dims = reduced_axes(axes, x.ndim)
    return torch.log(torch.sum(x, dims, keepdim=keepdims == 1)).to(x.dtype)


@lowering("ReduceLogSumExp", since=13, const=("axes",))
def reduce_log_sum_exp(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """The logarithm of the sum of exponentials over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x
    dims = reduced_axes(axes, x.ndim)
    if not x.is_floating_point():
        return torch.logsumexp(x.double(), dims, keepdim=keepdims == 1).to(x.dtype)
    if keepdims:
        return torch.logsumexp(x, dims, keepdim=True)
    return torch.logsumexp(x, dims)


@lowering("ReduceSumSquare", since=13, const=("axes",))
def reduce_sum_square(
    x: Tensor, axes: Axes = None, *, keepdims: int = 1, noop_with_empty_axes: int = 0
) -> Tensor:
    """The sum of squares over the axes, by default over all."""
    if noop_with_empty_axes and (axes is None or len(axes) == 0):
        return x * x
    dims = reduced_axes(axes, x.ndim)
    return torch.sum(x * x, dims, keepdim=keepdims == 1, dtype=x.dtype)


@lowering("ArgMax", since=13)
def arg_max(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The index of the first (or last) maximum along an axis."""
    if select_last_index:
        return x.shape[axis] - 1 - torch.argmax(torch.flip(x, (axis,)), axis, keepdim=keepdims == 1)
    if keepdims:
        return torch.argmax(x, axis, keepdim=True)
    return torch.argmax(x, axis)


@lowering("ArgMin", since=13)
def arg_min(x: Tensor, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> Tensor:
    """The index of the first (or last) minimum along an axis."""
    if select_last_index:
        return x.shape[axis] - 1 - torch.argmin(torch.flip(x, (axis,)), axis, keepdim=keepdims == 1)
    if keepdims:
        return torch.argmin(x, axis, keepdim=True)
    return torch.argmin(x, axis)


@lowering("CumSum", const=("axis",))
def cum_sum(
    x: Tensor, axis: int | tuple[int, ...] | Tensor, *, exclusive: int = 0, reverse: int = 0
) -> Tensor:
    """The sum of all elements up to each along an axis, without its own if `exclusive`."""
    if not isinstance(axis, (int, tuple)):  # of all axes, as PyTorch takes none that is computed
        every = [cum_sum(x, i, exclusive=exclusive, reverse=reverse) for i in range(x.ndim)]
        return torch.stack(every).index_select(0, axis.reshape(1) % x.ndim)[0]
    place = axis if isinstance(axis, int) else axis[0]
    x = torch.flip(x, (place,)) if reverse else x
    if exclusive:
        x = torch.cat(
            (torch.zeros_like(x.narrow(place, 0, 1)), x.narrow(place, 0, x.shape[place] - 1)), place
        )
    total = torch.cumsum(x, place, dtype=x.dtype)
    return torch.flip(total, (place,)) if reverse else total


@lowering("CumProd", const=("axis",), since=26)
def cum_prod(x: Tensor, axis: int | Tensor, *, exclusive: int = 0, reverse: int = 0) -> Tensor:
    """The product of all elements up to each along an axis, without its own if `exclusive`."""
    if not isinstance(axis, int):  # of all axes, as PyTorch takes none that is computed
        every = [cum_prod(x, i, exclusive=exclusive, reverse=reverse) for i in range(x.ndim)]
        return torch.stack(every).index_select(0, axis.reshape(1) % x.ndim)[0]
    x = torch.flip(x, (axis,)) if reverse else x
    if exclusive:
        x = torch.cat((torch.ones_like(x.narrow(axis, 0, 1)), x.narrow(axis, 0, x.shape[axis] - 1)), axis)
    product = torch.cumprod(x, axis, dtype=x.dtype)
    return torch.flip(product, (axis,)) if reverse else product
