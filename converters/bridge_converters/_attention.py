"""What the attention lowerings of both targets share: refusals, and what is decided at conversion."""

from __future__ import annotations

from typing import Any

from bridge.emit.layer import NodeView

_PRECISIONS = {1: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
"""The element types in which softmax may be computed."""


def attention_refusal(view: NodeView) -> str | None:
    """Why a node breaks the rules of Attention, if it does."""
    if (view.input(4) is None) != (view.input(5) is None):
        return "it has a past key without a past value, or the other way round"
    if view.input(6) is not None and view.input(4) is not None:
        return "it has both a past key and lengths of an external cache (nonpad_kv_seqlen)"
    shape = view.shape(0)
    if shape is None or len(shape) not in (3, 4):
        return "the number of axes of its query is not known to be 3 or 4"
    if len(shape) == 3 and not (view.attr("q_num_heads") and view.attr("kv_num_heads")):
        return "its query has 3 axes and it does not say how many heads it has"
    precision = view.attr("softmax_precision")
    if precision is not None and precision not in _PRECISIONS:
        return f"its softmax_precision is {precision}, which is no float type that the standard names"
    if min(view.attr("left_window_size", -1), view.attr("right_window_size", -1)) < -1:
        return "the size of its window is negative and not -1"
    if view.attr("scale", 1.0) < 0:
        return "its scale is negative, and the standard takes the square root of it"
    return None


def precision_name(softmax_precision: int | None) -> str | None:
    """The name of the element type in which softmax is computed; None for that of the scores."""
    return None if softmax_precision is None else _PRECISIONS[softmax_precision]


def is_plain_attention(
    types: tuple[str, ...],
    shapes: tuple[tuple[Any, ...] | None, ...],
    softcap: float,
    softmax_precision: int | None,
    is_causal: int,
    windows: tuple[int, int],
    outputs: int,
) -> bool:
    """Whether one attention over the given keys is all that a node asks for.

    It may be causal or have a mask that covers all keys, not both; it has no cache and one output.
    """
    given = [bool(each) for each in types] + [False] * 7
    mask_types = ("BOOL", types[0])
    return (
        outputs == 1
        and softcap == 0
        and windows == (-1, -1)
        and not any(given[4:7])
        and types[2] == types[0]
        and is_native_precision(types, softmax_precision)
        and not (is_causal and given[3])
        and (not given[3] or (types[3] in mask_types and covers_keys(shapes[3], shapes[1])))
    )


def is_native_precision(types: tuple[str, ...], softmax_precision: int | None) -> bool:
    """Whether softmax is to be computed in the element type itself, or in float32 for a narrower one."""
    own = native_name(types[0])
    asked = precision_name(softmax_precision)
    return asked in (None, own) or (asked == "float32" and own in ("float16", "bfloat16"))


def native_name(input_type: str) -> str:
    """The frameworks' name of an element type."""
    return {"FLOAT": "float32", "DOUBLE": "float64"}.get(input_type, input_type.lower())


def covers_keys(mask: tuple[Any, ...] | None, keys: tuple[Any, ...] | None) -> bool:
    """Whether a mask of at least two axes is known to have one element for each key; a shorter is padded."""
    return (
        mask is not None
        and keys is not None
        and 2 <= len(mask) <= 4
        and mask[-1] is not None
        and mask[-1] == keys[-2]
    )


def are_grouped(
    shapes: tuple[tuple[Any, ...] | None, ...], q_num_heads: int | None, kv_num_heads: int | None
) -> bool:
    """Whether several query heads may share a key head; unknown numbers of heads may."""
    q, k = shapes[:2]
    if q_num_heads is not None and kv_num_heads is not None:
        return q_num_heads != kv_num_heads
    return q is None or k is None or not isinstance(q[1], int) or q[1] != k[1]


def causal_conv_refusal(view: NodeView) -> str | None:
    """Why a node breaks the rules of CausalConvWithState, if it does."""
    known = view.attr("activation", "none") in ("none", "silu", "swish")
    return None if known else f"it has the activation {view.attr('activation')!r}, which the standard lacks"


def linear_attention_refusal(view: NodeView) -> str | None:
    """Why a node breaks the rules of LinearAttention, if it does."""
    rule = view.attr("update_rule", "gated_delta")
    if rule not in ("linear", "gated", "delta", "gated_delta"):
        return f"it has the update rule {rule!r}, which the standard lacks"
    if "gated" in rule and view.input(4) is None:
        return f"its update rule is {rule}, and it has no decay"
    if "delta" in rule and view.input(5) is None:
        return f"its update rule is {rule}, and it has no beta"
    return None


def flex_attention_refusal(view: NodeView) -> str | None:
    """Why a node breaks the rules of FlexAttention, if it does."""
    precision = view.attr("softmax_precision")
    known = precision is None or precision in _PRECISIONS
    return None if known else f"its softmax_precision is {precision}, which is no float type"


def flex_precision(input_type: str, softmax_precision: int | None) -> str:
    """The name of the element type in which FlexAttention normalises: float32 at least by default."""
    if softmax_precision is not None:
        return _PRECISIONS[softmax_precision]
    return "float64" if input_type == "DOUBLE" else "float32"
