"""Masks of attention: those that follow from positions alone, and those that are repeated for nothing."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub.graph import producer
from bridge.passes.dims import dim_of
from bridge.passes.positions import Facts, counts

_MASK = 3
_BEFORE = {"LessOrEqual": (0, 1, 0), "GreaterOrEqual": (1, 0, 0), "Less": (0, 1, 1), "Greater": (1, 0, 1)}
"""Which operands are the positions of keys and of queries, and how much later queries may count."""


def recognise_causal_masks(model: ir.Model) -> ir.Model:
    """Masks that let each query see the keys up to its own position, as `is_causal`.

    Queries and keys have to be equally many, and the mask has to be that comparison alone. Needs inferred
    shapes.
    """
    nodes = [node for node in model.graph if node.op_type == "Attention" and node.domain == ""]
    facts = counts(model) if nodes else {}
    for node in nodes:
        present = [index for index, value in enumerate(node.inputs) if value is not None]
        if present != [0, 1, 2, _MASK] or node.attributes.get_int("is_causal", 0) != 0:
            continue
        if _is_causal(node.inputs[_MASK], facts):
            node.resize_inputs(_MASK)
            node.attributes.add(ir.AttrInt64("is_causal", 1))
    return model


def _is_causal(mask: ir.Value | None, facts: Facts) -> bool:
    while (expand := producer(mask, "Expand")) is not None:
        if _square(mask) is None or _square(mask) != _square(expand.inputs[0]):
            return False
        mask = expand.inputs[0]
    comparison = producer(mask, *_BEFORE)
    if comparison is None or _square(mask) is None:
        return False
    keys, queries, later = _BEFORE[comparison.op_type]
    key, query = (facts.get(value) if (value := comparison.inputs[at]) else None for at in (keys, queries))
    if key is None or query is None:
        return False
    return (key.axis, query.axis) == (-1, -2) and query.start - key.start == later


def _square(mask: ir.Value | None) -> int | str | None:
    """The size of the last two axes if it is the same."""
    if mask is None or mask.shape is None or len(mask.shape) < 2:
        return None
    last, before = dim_of(mask.shape[-1]), dim_of(mask.shape[-2])
    return last if last == before else None


def shrink_masks(model: ir.Model) -> ir.Model:
    """Let `Attention` read a mask before it is expanded: it is broadcast along all axes but the last anyhow.

    Along the last axis a mask that is too short would mask the keys that it lacks. Needs inferred shapes.
    Runtimes need not take such masks, which the standard allows; the targets' lowerings do.
    """
    for node in model.graph:
        if node.op_type != "Attention" or node.domain != "" or len(node.inputs) <= _MASK:
            continue
        while (expand := producer(node.inputs[_MASK], "Expand")) is not None:
            mask, expanded = expand.inputs[0], expand.outputs[0]
            if mask is None or mask.shape is None or expanded.shape is None or len(mask.shape) < 2:
                break
            last = dim_of(mask.shape[-1])
            if last is None or last != dim_of(expanded.shape[-1]):
                break
            node.replace_input_with(_MASK, mask)
    return model
