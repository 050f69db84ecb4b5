"""What the lowerings and layer rules of both targets ask about Resize nodes."""

from __future__ import annotations

import onnx_ir as ir

from bridge.emit.layer import NodeView

_NOT_NUMBERS = (ir.DataType.BOOL, ir.DataType.STRING)


def resize_beyond(view: NodeView) -> str | None:
    """Why a Resize node cannot be lowered exactly; None if it can."""
    value, mode = view.input(0), view.attr("mode", "nearest")
    dtype = None if value is None else value.dtype
    if mode != "nearest" and dtype in _NOT_NUMBERS:
        return f"{mode} interpolation has no meaning for {dtype.name}"
    computed = view.input(2) is not None and view.constant(2) is None
    if computed and view.attr("coordinate_transformation_mode", "half_pixel") == "align_corners":
        return (
            "align_corners with scales that are known only at run time: where scale * size is no whole "
            "number, runtimes and the standard's reference disagree"
        )
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
