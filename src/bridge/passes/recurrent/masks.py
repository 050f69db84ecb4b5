"""Sequences of which only some steps count, as readers write them for recurrent operators."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import attribute, constant, integers, producer, rank, replace_value, scalar
from bridge.passes.moves import axes_of, permutation
from bridge.passes.recurrent.builder import DOMAIN, SWAP
from bridge.passes.recurrent.eligible import LENGTHS, RECURRENT, input_of
from bridge.passes.recurrent.same import is_same


def name_kept_steps(model: ir.Model) -> None:
    """The two moves around a recurrence with a mask (batch, steps), each as one node of the domain `bridge`.

    `KeptFirst(x, mask)` is x (batch, steps, size) with the steps that count before the others, in their
    order. `Held(y, mask)` gives at every step what y has for the last step so far that counts, of those
    in order, and zero before the first; `Spread(y, mask)` gives zero at all steps that do not count. Does
    not keep the graph valid ONNX.
    """
    for node in list(model.graph):
        if node.domain != "" or node.op_type != "GatherND" or attribute(node, "batch_dims", 0) != 1:
            continue
        sequences, places = node.inputs[0], _without_last_axis(node.inputs[1])
        if sequences is None or places is None or rank(sequences) != 3:
            continue
        kept = _sorted_mask(places)
        if kept is not None:
            _replace(node, "KeptFirst", sequences, kept, node.outputs[0])
            continue
        mask = _counted_mask(places)
        choice = None if mask is None else _zero_elsewhere(node.outputs[0])
        if mask is None or choice is None:
            continue
        chosen = _without_last_axis(choice.inputs[0])
        if chosen is mask:
            _replace(node, "Spread", sequences, mask, choice.outputs[0])
        elif _is_after_first(chosen, mask):
            _replace(node, "Held", sequences, mask, choice.outputs[0])


def read_in_order(model: ir.Model) -> None:
    """Let a recurrence read what one before it gave for the steps of the same mask as that gave it.

    Between two layers with one mask the steps that count would be spread over all and collected again. What
    follows the ends is not the same, and is not read.
    """
    for node in list(model.graph):
        if (node.domain, node.op_type) != (DOMAIN, "KeptFirst"):
            continue
        mask = node.inputs[1]
        if not _is_read_within(node.outputs[0], mask):
            continue
        joined = producer(node.inputs[0], "Concat")
        parts = [node.inputs[0]] if joined is None else joined.inputs
        series = [_in_order(part, mask) for part in parts]
        if None in series or (joined is not None and attribute(joined, "axis") not in (2, -1)):
            continue
        whole = series[0]
        if joined is not None:
            made = ir.node("Concat", series, {"axis": 2})
            made.metadata_props.update(joined.metadata_props)
            model.graph.insert_before(node, made)
            whole = made.outputs[0]
            whole.type, whole.shape = node.outputs[0].type, node.outputs[0].shape
        assert whole is not None
        replace_value(node.outputs[0], whole)


def _in_order(value: ir.Value | None, mask: ir.Value | None) -> ir.Value | None:
    """What a recurrence gave for the steps of a mask, of which `value` has it at all steps."""
    spread = None if value is None else value.producer()
    if spread is None or spread.domain != DOMAIN or spread.op_type not in ("Held", "Spread"):
        return None
    return spread.inputs[0] if is_same(spread.inputs[1], mask) else None


def _is_read_within(value: ir.Value, mask: ir.Value | None) -> bool:
    """Whether only recurrences read a value, (batch, steps, size) or time first, as many steps as count."""
    if value.is_graph_output():
        return False
    readers = [use.node for use in value.uses()]
    for reader in readers:
        if reader.domain != "":
            return False
        if reader.op_type == "Transpose" and permutation(reader) == SWAP:
            if not _is_read_within(reader.outputs[0], mask):
                return False
        elif reader.op_type not in RECURRENT or not is_same(_counted(input_of(reader, LENGTHS)), mask):
            return False
    return bool(readers)


def _counted(lengths: ir.Value | None) -> ir.Value | None:
    """The mask (batch, steps) whose steps that count are counted."""
    count = producer(_uncast(lengths), "ReduceSum")
    if count is None or len(count.inputs) != 2 or integers(count.inputs[1]) not in ((1,), (-1,)):
        return None
    mask = _uncast(count.inputs[0])
    return mask if _is_mask(mask) else None


def read_within_ends(model: ir.Model) -> None:
    """Drop the zeros after the ends of sequences where a mask reads only what lies before."""
    for node in list(model.graph):
        if (node.domain, node.op_type) not in ((DOMAIN, "Held"), (DOMAIN, "Spread")):
            continue
        kept = node.inputs[0].producer() if node.inputs[0] is not None else None
        if kept is None or (kept.domain, kept.op_type) != (DOMAIN, "KeepSteps"):
            continue
        mask = _counted(kept.inputs[1])
        if mask is not None and attribute(kept, "batch_first") == 1 and is_same(mask, node.inputs[1]):
            node.replace_input_with(0, kept.inputs[0])


def _replace(node: ir.Node, op_type: str, sequences: ir.Value, mask: ir.Value, old: ir.Value) -> None:
    made = ir.Node(DOMAIN, op_type, [sequences, mask])
    made.metadata_props.update(node.metadata_props)
    made.outputs[0].type, made.outputs[0].shape = old.type, old.shape
    last = old.producer()
    assert node.graph is not None
    assert last is not None
    node.graph.insert_before(last, made)
    replace_value(old, made.outputs[0])


def _without_last_axis(value: ir.Value | None) -> ir.Value | None:
    """What (batch, steps, 1) was made of, of shape (batch, steps)."""
    axis = producer(value, "Unsqueeze")
    if axis is None or axes_of(axis, 3) != (2,):
        return None
    return _uncast(axis.inputs[0])


def _uncast(value: ir.Value | None) -> ir.Value | None:
    while (node := producer(value, "Cast")) is not None:
        value = node.inputs[0]
    return value


def _sorted_mask(order: ir.Value) -> ir.Value | None:
    """The mask whose steps `order` has, those that count first; None if it has something else."""
    node = producer(order, "TopK")
    if node is None or order is not node.outputs[1] or attribute(node, "axis", -1) not in (1, -1):
        return None
    mask = _uncast(node.inputs[0])
    if attribute(node, "largest", 1) != 1 or attribute(node, "sorted", 1) != 1 or not _is_mask(mask):
        return None
    return mask if mask is not None and _is_number_of_steps(node.inputs[1], mask) else None


def _is_mask(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.BOOL and rank(value) == 2


def _is_number_of_steps(size: ir.Value | None, mask: ir.Value) -> bool:
    known = integers(size)
    if known is not None and mask.shape is not None:
        return len(known) == 1 and mask.shape[1] == known[0]
    part = producer(size, "Slice")
    if part is not None:
        bounds = [integers(each) for each in part.inputs[1:]]
        whole = producer(part.inputs[0], "Shape")
        if bounds[0] != (1,) or bounds[1] is None or bounds[1][0] < 2 or bounds[2:] not in ([], [(0,)]):
            return False
        return whole is not None and not whole.attributes and _uncast(whole.inputs[0]) is mask
    whole = producer(size, "Shape")
    if whole is None or attribute(whole, "start", 0) != 1 or attribute(whole, "end", 2) != 2:
        return False
    return _uncast(whole.inputs[0]) is mask


def _counted_mask(places: ir.Value) -> ir.Value | None:
    """The mask for which `places` says which of the steps that count was the last, and 0 before the first."""
    bound = producer(places, "Max", "Relu")
    if bound is None or (bound.op_type == "Max" and [scalar(each) for each in bound.inputs[1:]] != [0]):
        return None
    less = producer(_uncast(bound.inputs[0]), "Sub", "Add")
    if less is None or scalar(less.inputs[1]) != (1 if less.op_type == "Sub" else -1):
        return None
    return _mask_of_counts(less.inputs[0])


def _mask_of_counts(counts: ir.Value | None) -> ir.Value | None:
    node = producer(_uncast(counts), "CumSum")
    if node is None or attribute(node, "exclusive", 0) or attribute(node, "reverse", 0):
        return None
    axis = constant(node.inputs[1])
    mask = _uncast(node.inputs[0])
    if axis is None or axis.size != 1 or int(axis.reshape(-1)[0]) not in (1, -1) or not _is_mask(mask):
        return None
    return mask


def _zero_elsewhere(gathered: ir.Value) -> ir.Node | None:
    """The only node that reads a value: it takes the value where a condition holds and zeros elsewhere."""
    uses = list(gathered.uses())
    if len(uses) != 1 or gathered.is_graph_output():
        return None
    choice = uses[0].node
    if choice.op_type != "Where" or choice.domain != "" or choice.inputs[1] is not gathered:
        return None
    other = constant(choice.inputs[2])
    return choice if other is not None and other.size == 1 and not np.any(other) else None


def _is_after_first(condition: ir.Value | None, mask: ir.Value) -> bool:
    """Whether a condition holds from the first step on that counts."""
    some = producer(condition, "Greater")
    return some is not None and scalar(some.inputs[1]) == 0 and _mask_of_counts(some.inputs[0]) is mask
