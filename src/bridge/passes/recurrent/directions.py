"""Two recurrences over the same sequences, forwards and backwards, as one layer in both directions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import all_nodes, attribute, producer, rank, replace_value
from bridge.passes.recurrent.builder import DOMAIN
from bridge.passes.recurrent.eligible import LENGTHS, activation, given_states, has_no_bias, input_of
from bridge.passes.recurrent.groups import Group
from bridge.passes.recurrent.same import is_same


def opposite(found: Sequence[Group]) -> Iterator[tuple[Group, Group]]:
    """Layers forwards, each with the one of the same module that goes backwards over the same sequences.

    Layers of the model itself stay two: their names are all that it has for them. So do layers over
    sequences of different lengths: PyTorch takes these packed if it goes in both directions, and
    `torch.export` cannot trace that.
    """
    backward = [group for group in found if _goes(group, "reverse")]
    for group in found:
        if not _goes(group, "forward"):
            continue
        other = next((each for each in backward if _fit(group, each)), None)
        if other is not None:
            backward.remove(other)
            yield group, other


def _goes(group: Group, direction: str) -> bool:
    return not group.is_cell and all(
        attribute(node, "direction", "forward") == direction for node in group.nodes
    )


def _fit(forward: Group, backward: Group) -> bool:
    pairs = list(zip(forward.nodes, backward.nodes, strict=False))
    return len(forward.nodes) == len(backward.nodes) and all(_belong(*pair) for pair in pairs)


def _belong(forward: ir.Node, backward: ir.Node) -> bool:
    form = [
        (node.op_type, activation(node), has_no_bias(node), len(given_states(node)), _sizes(node))
        for node in (forward, backward)
    ]
    return (
        form[0] == form[1]
        and forward.graph is backward.graph
        and _share_a_module(forward, backward)
        and is_same(forward.inputs[0], backward.inputs[0])
        and input_of(forward, LENGTHS) is None
        and input_of(backward, LENGTHS) is None
        and not _depends(forward, backward)
        and not _depends(backward, forward)
    )


def _sizes(node: ir.Node) -> object:
    return [None if value is None else value.shape for value in node.inputs[1:3]]


def _share_a_module(first: ir.Node, second: ir.Node) -> bool:
    scopes = [metadata.scope_of(node) or () for node in (first, second)]
    return scopes[0] == scopes[1] or (len(scopes[0]) > 1 and scopes[0][:-1] == scopes[1][:-1])


def _depends(node: ir.Node, on: ir.Node) -> bool:
    """Whether what one recurrence starts with comes from another."""
    seen: set[ir.Node] = set()
    waiting = [state.producer() for state in given_states(node)]
    while waiting:
        each = waiting.pop()
        if each is on:
            return True
        if each is not None and each not in seen:
            seen.add(each)
            waiting.extend(value.producer() for value in each.inputs if value is not None)
    return False


def join_halves(model: ir.Model) -> None:
    """Let what puts the halves of a layer's results side by side read the whole.

    Also where steps that a mask leaves out come between: `Concat(Spread(a, mask), Spread(b, mask))` is
    `Spread(Concat(a, b), mask)`.
    """
    for node in list(all_nodes(model)):
        if node.op_type != "Concat" or node.domain != "" or len(node.inputs) != 2 or node.graph is None:
            continue
        if attribute(node, "axis") not in (2, -1) or rank(node.outputs[0]) != 3:
            continue
        spread = [_spread(value) for value in node.inputs]
        halves = [each.inputs[0] if each else value for value, each in zip(node.inputs, spread, strict=True)]
        parts = producer(halves[0], "Split")
        if parts is None or list(parts.outputs) != halves or attribute(parts, "axis", 0) != 2:
            continue
        whole = parts.inputs[0]
        assert whole is not None
        if spread[0] is not None and spread[1] is not None:
            if not is_same(spread[0].inputs[1], spread[1].inputs[1]):
                continue
            made = ir.Node(DOMAIN, "Spread", [whole, spread[0].inputs[1]])
            made.metadata_props.update(spread[0].metadata_props)
            node.graph.insert_before(node, made)
            made.outputs[0].type, made.outputs[0].shape = whole.type, whole.shape
            whole = made.outputs[0]
        elif spread[0] is not spread[1]:
            continue
        replace_value(node.outputs[0], whole)


def _spread(value: ir.Value | None) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and (node.domain, node.op_type) == (DOMAIN, "Spread") else None
