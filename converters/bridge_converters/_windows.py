"""How the layer rules of both targets read the window attributes of convolution and pooling nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.emit.layer import NodeView


@dataclass(frozen=True)
class Window:
    """A sliding window with everything resolved; `sizes` are the input's spatial sizes where known."""

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
    def symmetric(self) -> bool:
        """Whether every axis has as much padding before as after, and none is cropped."""
        return self.begins == self.ends and min(self.begins) >= 0

    @property
    def padded(self) -> bool:
        return any(self.begins) or any(self.ends)

    @property
    def extents(self) -> tuple[int, ...]:
        """The extent of the dilated kernel along each axis."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @property
    def pads_to_same(self) -> bool:
        """Whether the pads are those that TensorFlow computes for SAME, whatever size is unknown."""
        for size, extent, stride, begin, end in zip(
            self.sizes, self.extents, self.strides, self.begins, self.ends, strict=True
        ):
            if size is None and stride != 1:
                return False
            total = extent - 1 if size is None else max((-(-size // stride) - 1) * stride + extent - size, 0)
            if (begin, end) != (total // 2, total - total // 2):
                return False
        return True


def spatial_sizes(view: NodeView) -> tuple[int | None, ...] | None:
    """The spatial sizes of a node's first input as stored; None if its rank is unknown."""
    shape = view.shape(0)
    if shape is None:
        return None
    return shape[1:-1] if view.layout == "channels_last" else shape[2:]


def channels(view: NodeView) -> int | None:
    """The number of channels of a node's first input; None if unknown."""
    shape = view.shape(0)
    if shape is None or len(shape) < 2:
        return None
    return shape[-1] if view.layout == "channels_last" else shape[1]


def window_of(view: NodeView, kernel: tuple[int, ...] | None = None) -> Window | None:
    """The window of a convolution or pooling node; None where `auto_pad` needs sizes that are unknown."""
    kernel = kernel or view.attr("kernel_shape")
    if not kernel:
        return None
    rank = len(kernel)
    sizes = spatial_sizes(view) or (None,) * rank
    if len(sizes) != rank:
        return None
    strides = view.attr("strides") or (1,) * rank
    dilations = view.attr("dilations") or (1,) * rank
    auto_pad = view.attr("auto_pad", "NOTSET")
    pads = view.attr("pads") or (0,) * (2 * rank)
    begins, ends = pads[:rank], pads[rank:]
    if auto_pad == "VALID":
        begins = ends = (0,) * rank
    elif auto_pad != "NOTSET":
        totals = []
        for size, k, s, d in zip(sizes, kernel, strides, dilations, strict=True):
            if size is None:
                return None
            totals.append(max((-(-size // s) - 1) * s + (k - 1) * d + 1 - size, 0))
        small = tuple(total // 2 for total in totals)
        large = tuple(total - total // 2 for total in totals)
        begins, ends = (small, large) if auto_pad == "SAME_UPPER" else (large, small)
    return Window(kernel, strides, dilations, begins, ends, sizes)


def uniform(values: tuple[int, ...]) -> int | tuple[int, ...]:
    """One number where all axes are equal, as both frameworks' layers accept it."""
    return values[0] if len(set(values)) == 1 else values


def without(kwargs: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments that differ from the constructor's defaults."""
    return {name: value for name, value in kwargs.items() if name not in defaults or value != defaults[name]}
