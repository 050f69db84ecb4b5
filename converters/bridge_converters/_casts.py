"""Which conversions of element type the targets do not share with ONNX."""

from __future__ import annotations

import onnx_ir as ir

from bridge.emit.layer import NodeView

_INTEGERS = frozenset(
    getattr(ir.DataType, f"{sign}INT{bits}") for sign in ("", "U") for bits in (2, 4, 8, 16, 32, 64)
)
_READ_AS_NUMBERS = _INTEGERS - {ir.DataType.UINT64} | {ir.DataType.FLOAT, ir.DataType.DOUBLE}


def cast_beyond(view: NodeView) -> str | None:
    """Why a Cast, CastLike or BitCast cannot be lowered where there are no strings."""
    source, target = types_of(view)
    if target is None:
        return "the type that it converts to is unknown"
    return "it converts from or to text" if ir.DataType.STRING in (source, target) else None


def cast_beyond_strings(view: NodeView) -> str | None:
    """Why a Cast or CastLike cannot be lowered where there are strings.

    How many digits of a number are written is not specified, so that only integers become text.
    """
    source, target = types_of(view)
    if target is None:
        return "the type that it converts to is unknown"
    if target == ir.DataType.STRING and source not in _INTEGERS | {ir.DataType.STRING}:
        told = "a number of unknown type" if source is None else source.name
        return f"it writes {told} as text, for which ONNX fixes no number of digits"
    if source == ir.DataType.STRING and target not in _READ_AS_NUMBERS | {ir.DataType.STRING}:
        return f"it reads text as {target.name}"
    return None


def types_of(view: NodeView) -> tuple[ir.DataType | None, ir.DataType | None]:
    """The element types that a conversion is from and to; None for one that is unknown."""
    value, like = view.input(0), view.input(1)
    source = None if value is None else value.dtype
    if view.op_type == "CastLike":
        return source, None if like is None else like.dtype
    return source, ir.DataType(view.attr("to"))
