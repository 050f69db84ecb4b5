"""Recurrent nodes that share their tensors: one layer that is called several times."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from bridge.hub import metadata, recipe
from bridge.hub.graph import all_nodes, attribute, producer
from bridge.passes.moves import axes_of
from bridge.passes.recurrent.eligible import (
    LENGTHS,
    RECURRENT,
    STATES,
    activation,
    has_no_bias,
    input_of,
    refusal,
)

Target = Literal["torch", "tf"]

_TENSORS = (1, 2, 3)


@dataclass(frozen=True)
class Group:
    """The calls of one layer, in the graph's order. `is_cell`: each is a single step with given states."""

    nodes: tuple[ir.Node, ...]
    is_cell: bool


def groups(model: ir.Model, target: Target) -> Iterator[Group]:
    """The layers that a target can express, with all their calls."""
    for nodes in _by_tensors(model):
        if why_composed(nodes, target) is None:
            yield Group(nodes, all(map(is_cell, nodes)))


def composed_notes(model: ir.Model, target: Target) -> list[str]:
    """Why the recurrent nodes that remain in a prepared graph are no layers; a shared one is named once."""
    notes = []
    for nodes in _by_tensors(model):
        reason = why_composed(nodes, target)
        scope = metadata.scope_of(nodes[0])
        place = f" at {metadata.scope_path(scope)}" if scope else ""
        if reason is not None:
            notes.append(f"{nodes[0].op_type}{place} is a composed loop because {reason}")
    return list(dict.fromkeys(notes))


def _by_tensors(model: ir.Model) -> Iterable[tuple[ir.Node, ...]]:
    found: dict[tuple[int, ...], list[ir.Node]] = {}
    for node in all_nodes(model):
        if node.domain == "" and node.op_type in RECURRENT:
            key = tuple(id(input_of(node, index)) for index in _TENSORS)
            found.setdefault(key, []).append(node)
    return [tuple(each) for each in found.values()]


def why_composed(nodes: tuple[ir.Node, ...], target: Target) -> str | None:
    """Why the nodes that read the same tensors are not calls of one layer; None if they are."""
    reason = next((found for node in nodes if (found := refusal(node, target)) is not None), None)
    if reason is not None:
        return reason
    if len({_form(node) for node in nodes}) > 1:
        return "its tensors are those of another recurrence of a different kind"
    if not _own_their_tensors(nodes):
        return "its tensors are also read elsewhere"
    return None


def _form(node: ir.Node) -> tuple[object, ...]:
    return (
        node.op_type,
        attribute(node, "direction", "forward"),
        attribute(node, "linear_before_reset", 0),
        activation(node),
        has_no_bias(node),
        is_cell(node),
        input_of(node, LENGTHS) is None,
    )


def _own_their_tensors(nodes: tuple[ir.Node, ...]) -> bool:
    """Whether nothing else reads the tensors, and they are no graph outputs: a layer keeps its own."""
    for index in _TENSORS:
        value = input_of(nodes[0], index)
        if value is None or metadata.recipe_record(value) is None:
            continue
        if value.is_graph_output() or any(use.node not in nodes for use in value.uses()):
            return False
    return True


def is_cell(node: ir.Node) -> bool:
    """Whether a node is one step of a cell: a batch that gets an axis of time, with states given.

    The tensors of a whole module of PyTorch (`weight_ih_l0`) stay a module's, however short its input is.
    """
    axis = producer(node.inputs[0], "Unsqueeze")
    return (
        axis is not None
        and axes_of(axis, 3) == (0,)
        and attribute(node, "direction", "forward") == "forward"
        and all(input_of(node, index) is not None for index in STATES[node.op_type])
        and level(node.inputs[1]) is None
        and input_of(node, LENGTHS) is None
    )


def level(weights: ir.Value | None) -> str | None:
    """`layer_1` for the tensors of that layer of a stacked module of PyTorch (`weight_ih_l1`)."""
    record = None if weights is None else metadata.recipe_record(weights)
    names = [] if record is None else list(recipe.sources(recipe.from_json(record)))
    found = re.search(r"_l(\d+)(_reverse)?$", names[0]) if names else None
    return None if found is None else f"layer_{found[1]}"
