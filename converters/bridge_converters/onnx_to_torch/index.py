"""Selecting, gathering, scattering and ordering."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge.emit.layer import Tensor as LayerTensor
from bridge_converters._slice import reverses
from bridge_converters.onnx_to_torch._table import layer_rule, lowering

Ints = tuple[int, ...]


@lowering("Slice", const=("starts", "ends", "axes", "steps"))
def slice_(
    x: Tensor,
    starts: Ints | Tensor,
    ends: Ints | Tensor,
    axes: Ints | Tensor | None = None,
    steps: Ints | Tensor | None = None,
) -> Tensor:
    """The elements from starts to ends by steps along axes, as Python slices select them."""
    if isinstance(starts, tuple) and isinstance(ends, tuple) and len(starts) == 1 and steps in (None, (1,)):
        if axes is None or axes == (0,):
            return x[starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (1,):
            return x[:, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes is not None and axes[0] in (-1, x.ndim - 1):
            return x[..., starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (2,):
            return x[:, :, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
        if axes == (3,):
            return x[:, :, :, starts[0] or None : ends[0] if ends[0] < 2147483647 else None]
    if reverses(starts, ends, axes, steps):
        return x.flip(axes)  # type: ignore[arg-type]
    firsts = starts if isinstance(starts, tuple) else starts.tolist()
    lasts = ends if isinstance(ends, tuple) else ends.tolist()
    places = range(len(firsts)) if axes is None else axes if isinstance(axes, tuple) else axes.tolist()
    strides = [1] * len(firsts) if steps is None else steps if isinstance(steps, tuple) else steps.tolist()
    for axis, first, last, stride in zip(places, firsts, lasts, strides, strict=True):
        before = (slice(None),) * (axis % x.ndim)
        if stride > 0:
            x = x[(*before, slice(first, last, stride))]
        else:
            chosen = list(range(x.shape[axis]))[slice(first, last, stride)]
            x = torch.index_select(x, axis, torch.tensor(chosen, dtype=torch.int64, device=x.device))
    return x


@lowering("Slice", domain="bridge")
def slice_to_size(x: Tensor, other: Tensor, *, start: int, axis: int, of: int) -> Tensor:
    """The elements along an axis from a start up to the size of an axis of another tensor."""
    if axis == 0:
        return x[start or None : other.shape[of]]
    if axis == 1:
        return x[:, start or None : other.shape[of]]
    if axis == 2:
        return x[:, :, start or None : other.shape[of]]
    return x[(*[slice(None)] * axis, slice(start, other.shape[of]))]


@lowering("Gather", const=("indices",))
def gather(x: Tensor, indices: int | Ints | Tensor, *, axis: int = 0) -> Tensor:
    """The slices of x along an axis at the indices, which may count from the end.

    A single index is given as a list of one: PyTorch cannot trace what a number decides that data gives.
    """
    chosen = list(indices) if isinstance(indices, tuple) else indices
    if isinstance(indices, int | tuple) or indices.ndim > 0:
        if axis == 0:
            return x[chosen]
        if axis == 1:
            return x[:, chosen]
        if axis == 2:
            return x[:, :, chosen]
        if axis == -1:
            return x[..., chosen]
        return x[(slice(None),) * (axis % x.ndim) + (chosen,)]
    if axis == 0:
        return x[indices[None]][0]
    if axis == 1:
        return x[:, indices[None]][:, 0]
    return x[(slice(None),) * (axis % x.ndim) + (indices[None],)].squeeze(axis)


@lowering("GatherElements")
def gather_elements(x: Tensor, indices: Tensor, *, axis: int = 0) -> Tensor:
    """The elements of x along an axis at the indices, one for each index."""
    return torch.gather(x, axis, from_start(indices, x.shape[axis]))


def from_start(indices: Tensor, size: int) -> Tensor:
    """Indices that may count from the end, counted from the start."""
    return torch.where(indices < 0, indices + size, indices).long()


@lowering("GatherND", since=13)
def gather_nd(x: Tensor, indices: Tensor, *, batch_dims: int = 0) -> Tensor:
    """The slices of x at the index tuples in the last axis of indices, after shared batch axes."""
    batch = [
        torch.arange(x.shape[i], device=x.device).reshape((-1,) + (1,) * (indices.ndim - 2 - i))
        for i in range(batch_dims)
    ]
    return x[(*batch, *indices.long().unbind(-1))]


@lowering("ScatterND", since=16)
def scatter_nd(x: Tensor, indices: Tensor, updates: Tensor, *, reduction: str = "none") -> Tensor:
    """x with the slices at the index tuples replaced by, or combined with, the updates."""
    if reduction == "none" or reduction == "add":
        return torch.index_put(x, indices.long().unbind(-1), updates, accumulate=reduction == "add")
    depth = indices.shape[-1]
    flat = torch.zeros_like(indices[..., 0], dtype=torch.int64)
    for i in range(depth):
        flat = flat * x.shape[i] + from_start(indices[..., i], x.shape[i])
    rows = x.reshape((-1, *x.shape[depth:])) if x.ndim > depth else x.reshape(-1)
    changes = updates.reshape((-1, *x.shape[depth:])) if x.ndim > depth else updates.reshape(-1)
    places = flat.reshape((-1,) + (1,) * (x.ndim - depth)).expand_as(changes)
    reduce = "prod" if reduction == "mul" else "amax" if reduction == "max" else "amin"
    return torch.scatter_reduce(rows, 0, places, changes, reduce).reshape(x.shape)


@lowering("ScatterElements", since=16)
def scatter_elements(
    x: Tensor, indices: Tensor, updates: Tensor, *, axis: int = 0, reduction: str = "none"
) -> Tensor:
    """x with the elements at the indices along an axis replaced by, or combined with, the updates."""
    if reduction == "none":
        return torch.scatter(x, axis, from_start(indices, x.shape[axis]), updates)
    reduce = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}[reduction]
    return torch.scatter_reduce(x, axis, from_start(indices, x.shape[axis]), updates, reduce)


@lowering("Trilu", const=("k",))
def trilu(x: Tensor, k: int | Tensor | None = None, *, upper: int = 1) -> Tensor:
    """The upper or lower triangle of the last two axes, from the k-th diagonal."""
    if isinstance(k, Tensor):
        rows = torch.arange(x.shape[-2], device=x.device).unsqueeze(1) + k
        columns = torch.arange(x.shape[-1], device=x.device)
        return torch.where(columns >= rows if upper else columns <= rows, x, x.new_zeros(()))
    diagonal = 0 if k is None else k
    if upper:
        return torch.triu(x, diagonal)
    return torch.tril(x, diagonal)


@lowering("OneHot", const=("depth",))
def one_hot(
    indices: Tensor, depth: float | tuple[float, ...] | Tensor, values: Tensor, *, axis: int = -1
) -> Tensor:
    """values[1] at each index along a new axis of size depth, values[0] elsewhere."""
    count = (
        depth if isinstance(depth, int | float) else depth[0] if isinstance(depth, tuple) else depth.item()
    )
    place = axis % (indices.ndim + 1)
    line = torch.arange(int(count), device=indices.device).reshape((-1,) + (1,) * (indices.ndim - place))
    wanted = torch.where(indices < 0, indices + int(count), indices).long().unsqueeze(place)
    return torch.where(wanted == line, values[1], values[0])


@lowering("NonZero")
def nonzero(x: Tensor) -> Tensor:
    """The indices of all elements that are not zero, one row an axis."""
    return torch.nonzero(x).mT


@lowering("Compress", const=("condition",))
def compress(x: Tensor, condition: tuple[bool, ...] | Tensor, *, axis: int | None = None) -> Tensor:
    """The slices along an axis (of the flat input by default) where the condition holds."""
    chosen = condition if not isinstance(condition, tuple) else torch.tensor(condition, device=x.device)
    line = torch.nonzero(chosen).squeeze(1)
    return x.flatten()[line] if axis is None else torch.index_select(x, axis, line)


@lowering("TopK", since=11, const=("k",))
def top_k(
    x: Tensor, k: int | Ints | Tensor, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Tensor, Tensor]:
    """The k largest (or smallest) elements along an axis and their indices, equal ones in input order."""
    count = k if isinstance(k, int) else k[0] if isinstance(k, tuple) else int(k.item())
    values, indices = torch.sort(x, dim=axis, descending=largest == 1, stable=True)
    return values.narrow(axis, 0, count), indices.narrow(axis, 0, count)


@lowering("Unique")
def unique(
    x: Tensor, *, axis: int | None = None, sorted: int = 1, outputs: int = 1
) -> Tensor | tuple[Tensor, ...]:
    """The different elements (or slices along an axis), where each is first, which each was, and how many.

    In ascending order, or if not `sorted` in the order in which they come.
    """
    x = x.flatten() if axis is None else x
    place = 0 if axis is None else axis
    values, which, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=place)
    positions = torch.arange(x.shape[place], device=x.device)
    first = torch.full_like(counts, x.shape[place]).scatter_reduce(0, which, positions, "amin")
    if not sorted:
        order = torch.argsort(first)
        first, counts, which = first[order], counts[order], torch.argsort(order)[which]
        values = torch.index_select(values, place, order)
    found: tuple[Tensor, ...] = (values, first, which, counts)
    return values if outputs == 1 else found[:outputs]


@lowering("ReverseSequence")
def reverse_sequence(x: Tensor, sequence_lens: Tensor, *, batch_axis: int = 1, time_axis: int = 0) -> Tensor:
    """The first `sequence_lens[i]` steps of each batch entry i in reverse order."""
    steps = torch.arange(x.shape[time_axis], device=x.device)
    lengths = sequence_lens.unsqueeze(1)
    order = torch.where(steps < lengths, lengths - 1 - steps, steps)
    moved = x.movedim((batch_axis, time_axis), (0, 1))
    batch = torch.arange(moved.shape[0], device=x.device).unsqueeze(1)
    return moved[batch, order].movedim((0, 1), (batch_axis, time_axis))


@lowering("Embedding", domain="bridge")
def embedding(table: Tensor, indices: Tensor, *, padding_idx: int) -> Tensor:
    """The rows of a table at the indices; one of them takes no gradient."""
    return F.embedding(indices, table, padding_idx)


@layer_rule("Embedding", domain="bridge")
def padded_embedding_layer(view: NodeView) -> Layer | None:
    """Rows of a trained table at computed indices, one of which is not trained."""
    layer = embedding_layer(view)
    return None if layer is None else replace(layer, kwargs={"padding_idx": view.attr("padding_idx")})


@layer_rule("Gather")
def embedding_layer(view: NodeView) -> Layer | None:
    """Rows of a trained table at computed indices."""
    table = view.input(0)
    if table is None or view.attr("axis", 0) != 0 or not view.is_trained(0) or view.constant(1) is not None:
        return None
    shape = view.known_shape(0)
    if len(shape) != 2:
        return None
    return Layer("nn.Embedding", shape, {}, {"weight": LayerTensor(table)}, inputs=(1,))
