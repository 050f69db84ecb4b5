"""Which conversions of dtype both targets share with ONNX."""

from __future__ import annotations

import onnx_ir as ir

from bridge.emit.layer import NodeView

_SHARED = frozenset(
    getattr(ir.DataType, name)
    for name in (
        *("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16", "BOOL", "COMPLEX64", "COMPLEX128"),
        *("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    )
)


def cast_beyond(view: NodeView) -> str | None:
    """Why a Cast or CastLike cannot be lowered: text, and the packed and 8-bit floats that saturate."""
    like = view.input(1)
    wanted = ir.DataType(view.attr("to")) if view.op_type == "Cast" else None if like is None else like.dtype
    value = view.input(0)
    for dtype in (None if value is None else value.dtype, wanted):
        if dtype is not None and dtype not in _SHARED:
            return f"it converts from or to {dtype.name}"
    return None
