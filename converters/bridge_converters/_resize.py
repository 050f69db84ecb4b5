"""What the lowerings and layer rules of both targets ask about Resize nodes."""

from __future__ import annotations

from bridge.emit.layer import NodeView


def resize_beyond(view: NodeView) -> str | None:
    """Why a Resize node cannot be lowered exactly; None if it can."""
    value, mode = view.input(0), view.attr("mode", "nearest")
    dtype = None if value is None else value.dtype
    if mode != "nearest" and dtype is not None and not dtype.is_floating_point():
        return f"{mode} interpolation of integers rounds differently in every runtime"
    if view.attr("antialias", 0) and mode == "nearest":
        return "antialias has no meaning for nearest"
    scales, sizes, shape = view.constant(2), view.constant(3), view.shape(0)
    if view.attr("axes") is None and shape is not None:
        if scales is not None and scales.size and tuple(scales[:2]) != (1, 1):
            return "it resizes the batch or the channels"
        channels = shape[-1] if view.layout == "channels_last" else shape[1]
        if sizes is not None and sizes.size and (shape[0], channels) != tuple(sizes[:2].tolist()):
            return "its sizes fix the batch or the channels, which are dynamic or different"
    return None


def spatial_scales(view: NodeView) -> tuple[float, ...] | None:
    """The scales of all spatial axes, if that is what the node is given and no other axis is resized."""
    scales, shape = view.constant(2), view.shape(0)
    if scales is None or not scales.size or shape is None or not 3 <= len(shape) <= 5:
        return None
    factors = tuple(float(str(each)) for each in scales)
    axes = view.attr("axes")
    if axes is None:
        return factors[2:] if factors[:2] == (1.0, 1.0) else None
    in_order = tuple(axis % len(shape) for axis in axes) == tuple(range(2, len(shape)))
    return factors if in_order else None
