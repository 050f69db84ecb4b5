"""Nodes of the domain `bridge` that stand for a target's own attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import add_constant, attribute, integers, producer, rank, take_over
from bridge.passes.attention.masks import (
    arithmetic_of,
    may_be_low,
    may_hide_all,
    never_all,
    visible_of,
)
from bridge.passes.attention.options import unusual_options
from bridge.passes.attention.scores import is_default_scale
from bridge.passes.unused import drop_unused

DOMAIN = "bridge"
Target = Literal["torch", "tf"]


_HEEDED = frozenset({"kv_num_heads", "q_num_heads", "qk_matmul_output_mode", "softmax_precision"})
"""Options that are looked at here, or that say nothing about the first output."""


def lower_attention(model: ir.Model, target: Target) -> ir.Model:
    """Attention of four axes, or of three for one head, as a kernel of the target takes it.

    `bridge::Attention(q, k, v, mask)` says what more such a kernel has to do.
    `blind` says what a query gets that the mask hides all keys from: `zeros` as the standard has it,
    `uniform` weights, what `arithmetic` gives, or `none`, where there is no such query. `dropout` is the
    part of the weights that training drops; TensorFlow gets a Dropout between `bridge::AttentionWeights(q, k,
    mask)` and `bridge::AttentionValues(weights, v)`, since there it is a layer. Does not keep the graph valid
    ONNX.
    """
    for node in list(model.graph):
        if node.op_type == "Attention" and node.domain == "" and _is_plain(node):
            _lower(node, target)
    return drop_unused(model)


def _is_plain(node: ir.Node) -> bool:
    """One attention of all heads, in its own precision, with one output and a mask or none."""
    q, v = node.inputs[0], node.inputs[2]
    given = [index for index, value in enumerate(node.inputs) if value is not None]
    read = [each for each in node.outputs if each.uses() or each.is_graph_output()]
    if q is None or v is None or q.shape is None or q.dtype != v.dtype:
        return False
    if len(q.shape) != 4 and not _has_one_head(node):
        return False
    if set(given) - {0, 1, 2, 3} or read != [node.outputs[0]] or unusual_options(node) - _HEEDED:
        return False
    precision = attribute(node, "softmax_precision")
    if precision not in (None, 0) and precision != int(q.dtype or 0):
        return False
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    if mask is not None and (attribute(node, "is_causal", 0) or mask.shape is None or len(mask.shape) < 2):
        return False
    return mask is None or mask.dtype in (ir.DataType.BOOL, q.dtype)


def _has_one_head(node: ir.Node) -> bool:
    """Whether three axes are those of one head, and the mask has no axis of heads or one that can go."""
    if (attribute(node, "q_num_heads"), attribute(node, "kv_num_heads")) != (1, 1):
        return False
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    return mask is None or rank(mask) == 2 or _of_one_head(mask) is not None


def _of_one_head(mask: ir.Value) -> ir.Value | None:
    """A mask before it got an axis of heads."""
    node = producer(mask, "Unsqueeze")
    return node.inputs[0] if node is not None and integers(node.inputs[1]) == (1,) else None


def _lower(node: ir.Node, target: Target) -> None:
    mask = node.inputs[3] if len(node.inputs) > 3 else None
    blind = "none"
    if mask is not None and rank(node.inputs[0]) == 3:
        mask = _of_one_head(mask) or mask
    if mask is not None:
        mask, blind = _mask(node, mask, target)
    attributes: dict[str, object] = {"blind": blind}
    q, k, v = node.inputs[:3]
    if attribute(node, "is_causal", 0):
        attributes["is_causal"] = 1
    if "scale" in node.attributes and not is_default_scale(node.attributes.get_float("scale", 1.0), q):
        attributes["scale"] = node.attributes["scale"].value
    masks = [] if mask is None else [mask]
    dropout = metadata.attention_dropout(node)
    if target == "torch" and dropout:
        attributes["dropout"] = dropout
    if target == "tf" and dropout:
        weights = _add(node, "AttentionWeights", [q, k, *masks], attributes)
        made = _add(node, "AttentionValues", [_dropped(node, weights, dropout), v], {})
    else:
        made = _add(node, "Attention", [q, k, v, *masks], attributes)
    producing = made.producer()
    assert producing is not None
    producing.name = node.name
    take_over(node.outputs[0], made)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)


def _dropped(node: ir.Node, weights: ir.Value, ratio: float) -> ir.Value:
    """The weights as training drops some of them."""
    assert isinstance(node.graph, ir.Graph)
    number = add_constant(node.graph, np.asarray(ratio, np.float32), "ratio")
    return _add(node, "Dropout", [weights, number], {}, domain="")


def _add(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: dict[str, object],
    *,
    domain: str = DOMAIN,
) -> ir.Value:
    """The output of a new node before another, in its place of the source."""
    made = ir.Node(
        domain,
        op_type,
        inputs,
        ir.convenience.convert_attributes(attributes),  # type: ignore[arg-type]
        num_outputs=1,
    )
    metadata.set_scope(made, metadata.scope_of(node))
    metadata.set_location(made, metadata.location_of(node))
    assert isinstance(node.graph, ir.Graph)
    node.graph.insert_before(node, made)
    q, k = node.inputs[:2]
    output = made.outputs[0]
    output.type = node.outputs[0].type
    if op_type in ("AttentionWeights", "Dropout") and q is not None and k is not None:
        output.shape = None if q.shape is None or k.shape is None else ir.Shape([*q.shape[:-1], k.shape[-2]])
    return output


def _mask(node: ir.Node, mask: ir.Value, target: Target) -> tuple[ir.Value, str]:
    """The mask for a target's kernel, and what becomes of queries that it hides all keys from."""
    if mask.dtype == ir.DataType.BOOL:
        return mask, "none" if never_all(mask, False) else "zeros"
    plain = arithmetic_of(mask)
    if plain is not None:
        return plain, "arithmetic"
    if may_hide_all(mask):
        return mask, "zeros"
    if target == "tf":
        return mask, "arithmetic"
    seen = visible_of(mask)
    if seen is not None:
        condition, hides = seen
        return (_negated(node, condition) if hides else condition), "uniform"
    return mask, "arithmetic" if may_be_low(mask) else "none"


def _negated(node: ir.Node, condition: ir.Value) -> ir.Value:
    inner = producer(condition, "Not")
    if inner is not None and inner.inputs[0] is not None:
        return inner.inputs[0]
    made = _add(node, "Not", [condition], {}, domain="")
    made.type, made.shape = condition.type, condition.shape
    return made
