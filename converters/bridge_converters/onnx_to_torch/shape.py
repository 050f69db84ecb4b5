"""Shapes: reshaping, joining, splitting, padding, and conversion of dtypes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bridge.emit.layer import Layer, NodeView
from bridge_converters.onnx_to_torch._dtypes import dtype_of
from bridge_converters.onnx_to_torch._table import layer_rule, lowering

Ints = tuple[int, ...]


@lowering("Identity")
def identity(x: Tensor) -> Tensor:
    """x itself."""
    return x


@lowering("StopGradient", domain="bridge")
def stop_gradient(x: Tensor) -> Tensor:
    """x, through which no gradient passes."""
    return x.detach()


@lowering("Shape")
def shape(x: Tensor, *, end: int | None = None, start: int = 0) -> Tensor:
    """The sizes of the axes from `start` up to `end`."""
    return torch.tensor(x.shape[start:end], dtype=torch.int64, device=x.device)


@lowering("Size")
def size(x: Tensor) -> Tensor:
    """The number of elements."""
    return torch.tensor(x.numel(), dtype=torch.int64, device=x.device)


@lowering("Reshape", const=("shape",))
def reshape(x: Tensor, shape: Ints | Tensor, *, allowzero: int = 0) -> Tensor:
    """x in another shape: -1 is what remains, 0 keeps the input's size (or is 0 with `allowzero`)."""
    if isinstance(shape, tuple) and (allowzero or 0 not in shape):
        return torch.reshape(x, shape)
    if isinstance(shape, tuple) and shape == (0, -1):
        return torch.flatten(x, 1)
    if isinstance(shape, tuple) and 0 not in shape[1:]:
        return torch.reshape(x, (x.shape[0], *shape[1:]))
    if isinstance(shape, tuple):
        return torch.reshape(x, (*[x.shape[i] if n == 0 else n for i, n in enumerate(shape)],))
    sizes = shape if isinstance(shape, tuple) else shape.tolist()
    return torch.reshape(x, [x.shape[i] if not allowzero and n == 0 else n for i, n in enumerate(sizes)])


@lowering("Flatten")
def flatten(x: Tensor, *, axis: int = 1) -> Tensor:
    """x as a matrix: the axes before `axis` are rows, the others columns."""
    if axis == 1 and x.ndim > 1:
        return torch.flatten(x, 1)
    rows = math.prod(x.shape[: axis if axis >= 0 else axis + x.ndim])
    columns = math.prod(x.shape[axis if axis >= 0 else axis + x.ndim :])
    return torch.reshape(x, (rows, columns))


@lowering("Transpose")
def transpose(x: Tensor, *, perm: Ints | None = None) -> Tensor:
    """The axes in another order, by default reversed."""
    if perm is None:
        return torch.permute(x, tuple(reversed(range(x.ndim))))
    return torch.permute(x, perm)


@lowering("Squeeze", const=("axes",))
def squeeze(x: Tensor, axes: int | Ints | Tensor | None = None) -> Tensor:
    """x without the given axes of size 1, or without all of them."""
    if axes is None:
        return torch.squeeze(x)
    if isinstance(axes, int):
        return torch.squeeze(x, axes)
    if isinstance(axes, tuple) and len(axes) == 1:
        return torch.squeeze(x, axes[0])
    return torch.squeeze(x, axes if isinstance(axes, tuple) else tuple(axes.tolist()))


@lowering("Unsqueeze", const=("axes",))
def unsqueeze(x: Tensor, axes: int | Ints | Tensor) -> Tensor:
    """x with new axes of size 1 at these places of the result."""
    if isinstance(axes, int):
        return torch.unsqueeze(x, axes)
    if isinstance(axes, tuple) and len(axes) == 1:
        return torch.unsqueeze(x, axes[0])
    new = axes if isinstance(axes, tuple) else axes.tolist()
    rank = x.ndim + len(new)
    places = [axis % rank for axis in new]
    return x[(*[None if i in places else slice(None) for i in range(rank)],)]


@lowering("Expand", const=("shape",))
def expand(x: Tensor, shape: Ints | Tensor) -> Tensor:
    """x broadcast together with a shape."""
    sizes = shape if isinstance(shape, tuple) else tuple(shape.tolist())
    return x.expand(torch.broadcast_shapes(x.shape, sizes))  # type: ignore[no-untyped-call]


@lowering("Reshape", domain="bridge")
def reshape_by_sizes(x: Tensor, *others: Tensor, owners: Ints, sizes: Ints) -> Tensor:
    """x in another shape of numbers (owner -1) and the sizes of axes, those of x (owner 0) or another."""
    return torch.reshape(
        x,
        (
            *[
                n if i < 0 else x.shape[n] if i == 0 else others[i - 1].shape[n]
                for i, n in zip(owners, sizes, strict=True)
            ],
        ),
    )


@lowering("Expand", domain="bridge")
def expand_by_sizes(x: Tensor, *others: Tensor, owners: Ints, sizes: Ints) -> Tensor:
    """x broadcast to a shape of numbers (owner -1) and the sizes of axes, those of x (owner 0) or another."""
    return torch.broadcast_to(
        x,
        (
            *[
                n if i < 0 else x.shape[n] if i == 0 else others[i - 1].shape[n]
                for i, n in zip(owners, sizes, strict=True)
            ],
        ),
    )


@lowering("Concat")
def concat(*inputs: Tensor, axis: int) -> Tensor:
    """The inputs one after the other along an axis."""
    return torch.cat(inputs, axis)


@lowering("Split", const=("split",))
def split(
    x: Tensor,
    split: Ints | Tensor | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
    outputs: int = 1,
) -> Tensor | tuple[Tensor, ...]:
    """x cut along an axis into pieces of the given sizes, or into equal ones (the last may be smaller)."""
    if outputs == 1:
        return x
    if split is not None:
        return torch.split(x, list(split) if isinstance(split, tuple) else split.tolist(), axis)
    count = num_outputs or outputs
    piece = -(-x.shape[axis] // count)
    return torch.split(x, [piece] * (count - 1) + [x.shape[axis] - piece * (count - 1)], axis)


@lowering("Tile", const=("repeats",))
def tile(x: Tensor, repeats: Ints | Tensor) -> Tensor:
    """x repeated along each axis."""
    return torch.tile(x, repeats if isinstance(repeats, tuple) else tuple(repeats.tolist()))


@lowering("ConstantOfShape", const=("shape",))
def constant_of_shape(shape: Ints | Tensor, *, value: Tensor | None = None) -> Tensor:
    """A tensor of one value (by default the float 0) throughout, where the shape is."""
    if isinstance(shape, tuple):
        return torch.zeros(shape) if value is None else value.expand(shape)
    if value is None:
        return torch.zeros(tuple(shape.tolist()), device=shape.device)
    return value.to(shape.device).expand(tuple(shape.tolist()))


@lowering("Full", domain="bridge")
def full_by_sizes(*others: Tensor, owners: Ints, sizes: Ints, value: float, dtype: int) -> Tensor:
    """A tensor of one number; its shape is numbers (owner -1) and sizes of axes."""
    if value == 0:
        return torch.zeros(
            (*[n if i < 0 else others[i].shape[n] for i, n in zip(owners, sizes, strict=True)],),
            dtype=dtype_of(dtype),
            device=others[0].device,
        )
    return torch.full(
        (*[n if i < 0 else others[i].shape[n] for i, n in zip(owners, sizes, strict=True)],),
        bool(value) if dtype == 9 else value,
        dtype=dtype_of(dtype),
        device=others[0].device,
    )


@lowering("Arange", domain="bridge")
def arange(x: Tensor, *, axis: int, step: int = 1, output_types: tuple[str, ...]) -> Tensor:
    """0, step, ... below the size of an axis, in 32 or 64 bits."""
    if output_types[0] == "INT32":
        if step == 1:
            return torch.arange(x.shape[axis], dtype=torch.int32, device=x.device)
        return torch.arange(0, x.shape[axis], step, dtype=torch.int32, device=x.device)
    if step == 1:
        return torch.arange(x.shape[axis], device=x.device)
    return torch.arange(0, x.shape[axis], step, device=x.device)


@lowering("EyeLike")
def eye_like(x: Tensor, *, dtype: int | None = None, k: int = 0) -> Tensor:
    """Ones on the k-th diagonal of a matrix of x's shape, zeros elsewhere."""
    kind = x.dtype if dtype is None else dtype_of(dtype)
    if k == 0:
        return torch.eye(x.shape[0], x.shape[1], dtype=kind, device=x.device)
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    return (rows + k == torch.arange(x.shape[1], device=x.device)).to(kind)


@lowering("Range")
def range_(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """start, start + delta, ... below (or above, for a negative delta) the limit."""
    if not start.is_floating_point():
        count = max(-((start.item() - limit.item()) // delta.item()), 0)
    else:
        count = max(math.ceil((limit.item() - start.item()) / delta.item()), 0)
    device = (start + limit + delta).device  # constants are on the CPU, wherever the others are
    if stash_type == 1 and (start.dtype == torch.float16 or start.dtype == torch.bfloat16):
        steps = torch.arange(count, dtype=torch.float32, device=device)
        return (start.float() + delta.float() * steps).to(start.dtype)
    return start + delta * torch.arange(count, dtype=start.dtype, device=device)


@layer_rule("Flatten")
def flatten_layer(view: NodeView) -> Layer | None:
    """A flattening of everything but the batch."""
    return Layer("nn.Flatten") if view.attr("axis", 1) == 1 else None


@layer_rule("Identity")
def identity_layer(view: NodeView) -> Layer | None:
    return Layer("nn.Identity")
