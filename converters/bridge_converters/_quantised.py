"""Which quantised nodes neither target can lower."""

from __future__ import annotations

import onnx_ir as ir

from bridge.emit.layer import NodeView


def quantisation_beyond(view: NodeView) -> str | None:
    """Why a QuantizeLinear or DequantizeLinear cannot be lowered: types must be known, scales floats."""
    if any(view.input(index) is not None and type_of(view, index) is None for index in range(3)):
        return "the types of its inputs are unknown"
    if view.node.outputs[0].dtype is None:
        return "the type that it gives is unknown"
    scale = view.input(1)
    if scale is None or scale.shape is None:
        return "the rank of its scale is unknown"
    if type_of(view, 1) == ir.DataType.INT32:
        return "its scale is a whole number, and the standard does not say how it divides by that"
    return None


def integers_beyond(view: NodeView) -> str | None:
    """Why a product or a convolution of quantised numbers cannot be lowered: it is not one of integers."""
    if any(type_of(view, index) in _SMALL_FLOATS for index in range(len(view.node.inputs))):
        return "the standard does not say how it sums floats of 8 bits"
    if view.node.outputs[0].dtype is None:
        return "the type that it gives is unknown"
    return None


def type_of(view: NodeView, index: int) -> ir.DataType | None:
    """The element type of an input; None if it is absent or untyped."""
    value = view.input(index)
    return None if value is None else value.dtype


_SMALL_FLOATS = frozenset(
    {
        ir.DataType.FLOAT8E4M3FN,
        ir.DataType.FLOAT8E4M3FNUZ,
        ir.DataType.FLOAT8E5M2,
        ir.DataType.FLOAT8E5M2FNUZ,
    }
)


def coerced_softmax_beyond(view: NodeView) -> str | None:
    """Why a QLinearSoftmax cannot be lowered: before opset 13 it joined all axes from its own on."""
    shape = view.shape(0)
    last = view.attr("axis", -1) in (-1, None if shape is None else len(shape) - 1)
    return None if view.attr("opset") >= 13 or last else "its softmax is that of opset 12 over several axes"


def channels_last_beyond(view: NodeView) -> str | None:
    """Why a QLinearAveragePool cannot be lowered: its data have the channels last."""
    return "its data have the channels last" if view.attr("channels_last") else None


def packed_beyond(view: NodeView) -> str | None:
    """Why a MatMulNBits cannot be lowered: how its weights are packed."""
    if view.attr("bits", 4) not in (2, 4, 8):
        return f"its weights have {view.attr('bits')} bits, which straddle bytes"
    if view.input(4) is not None:
        return "its blocks are reordered by g_idx"
    return "its weights are packed for one processor" if view.attr("weight_prepacked", 0) else None
