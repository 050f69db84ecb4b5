"""What convolution and pooling nodes say about their windows, and explicit padding for all of it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from bridge.hub.graph import attribute

CONVOLUTIONS = ("Conv", "ConvTranspose")
POOLS = ("AveragePool", "LpPool", "MaxPool")


@dataclass(frozen=True)
class Window:
    """A node's window attributes with their defaults; `sizes` are the spatial extents, where known."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    begins: tuple[int, ...]
    ends: tuple[int, ...]
    sizes: tuple[int | None, ...]

    @property
    def rank(self) -> int:
        return len(self.kernel)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extent of the dilated kernel along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def is_padded(self) -> bool:
        return any(self.begins) or any(self.ends)


def window_of(node: ir.Node) -> Window | None:
    """The window of a convolution or pooling; None where the rank or the kernel is unknown."""
    data = node.inputs[0]
    if data is None or data.shape is None or len(data.shape) < 3:
        return None
    rank = len(data.shape) - 2
    kernel = attribute(node, "kernel_shape")
    if kernel is None and node.op_type in CONVOLUTIONS:
        weight = node.inputs[1]
        if weight is None or weight.shape is None or not all(isinstance(axis, int) for axis in weight.shape):
            return None
        kernel = tuple(weight.shape)[2:]
    if not isinstance(kernel, tuple):
        return None
    pads = _numbers(node, "pads", 0, 2 * rank)
    return Window(
        kernel,
        _numbers(node, "strides", 1, rank),
        _numbers(node, "dilations", 1, rank),
        pads[:rank],
        pads[rank:],
        tuple(axis if isinstance(axis, int) else None for axis in data.shape)[2:],
    )


def _numbers(node: ir.Node, name: str, default: int, count: int) -> tuple[int, ...]:
    found = attribute(node, name)
    return tuple(int(each) for each in found) if isinstance(found, tuple) else (default,) * count


def same_padding(window: Window, *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The pads of SAME: an extent of ceil(size / stride), the odd element at the end if `upper`.

    None where they depend on a size that is unknown.
    """
    totals = []
    for size, extent, stride in zip(window.sizes, window.extents, window.strides, strict=True):
        if size is None and stride != 1:
            return None
        totals.append(
            extent - 1 if size is None else max((-(-size // stride) - 1) * stride + extent - size, 0)
        )
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def resolve_auto_pad(model: ir.Model) -> ir.Model:
    """Replace `auto_pad` by explicit pads where these are known; `SAME` over unknown sizes stays.

    `VALID` and pads of zeros are left out altogether: they are the default.
    """
    for node in model.graph:
        if node.domain == "" and node.op_type in (*CONVOLUTIONS, *POOLS):
            _resolve(node)
    return model


def _resolve(node: ir.Node) -> None:
    auto_pad = attribute(node, "auto_pad", "NOTSET")
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        if "output_shape" in node.attributes:
            return
        pads = _explicit(node, upper=auto_pad == "SAME_UPPER")
        if pads is None:
            return
        set_pads(node, *pads)
    elif auto_pad == "VALID":
        node.attributes.pop("pads", None)
    elif "pads" in node.attributes and not any(_numbers(node, "pads", 0, 0)):
        node.attributes.pop("pads")
    node.attributes.pop("auto_pad", None)


def _explicit(node: ir.Node, *, upper: bool) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    window = window_of(node)
    if window is None:
        return None
    if node.op_type != "ConvTranspose":
        return same_padding(window, upper=upper) if not node.attributes.get_int("ceil_mode", 0) else None
    extra = _numbers(node, "output_padding", 0, window.rank)
    totals = [
        added + extent - stride
        for added, extent, stride in zip(extra, window.extents, window.strides, strict=True)
    ]
    if min(totals) < 0:
        return None
    small = tuple(total // 2 for total in totals)
    large = tuple(total - total // 2 for total in totals)
    return (small, large) if upper else (large, small)


def set_pads(node: ir.Node, begins: tuple[int, ...], ends: tuple[int, ...]) -> None:
    """Store explicit pads; none at all if they are zero."""
    node.attributes.pop("pads", None)
    if any(begins) or any(ends):
        node.attributes.add(ir.AttrInt64s("pads", [*begins, *ends]))
