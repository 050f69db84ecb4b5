"""Where a program keeps gradients from flowing, so that the hub can say it: an ONNX operator cannot."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from bridge_converters.torch_to_onnx.program import DETACHED, detached_marker

_aten = torch.ops.aten

_ITEMS = (_aten.item.default, _aten._local_scalar_dense.default)


_IN_A_LIST = "*"
"""How a schema says that a list of results has views of an argument in it."""


def mark_detached(program: ExportedProgram) -> None:
    """Put the marker operator behind whatever takes a gradient away, in place.

    That is what `detach`, `torch.no_grad()` and `item()` compute from a parameter or a floating-point input,
    where something that has a gradient of its own reads it. Expects `inline_gradient_switches` to have run.
    Branches of control flow are left as they are, and so is a tensor that is written to later on: the marker
    would read it too early.
    """
    graph = program.graph_module.graph
    output = graph.output_node()
    trained = _differentiated_inputs(program)
    written_later = _written_later(graph)
    flows: set[fx.Node] = set()
    stopped: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            if node.name in trained and _is_inexact(node):
                flows.add(node)
            continue
        if node.op == "output" or not _may_be_inexact(node):
            continue
        read = set(node.all_input_nodes)
        if is_detached(node):
            if read & (flows | stopped):
                stopped.add(node)
        elif read & flows:
            flows.add(node)
    for node in list(graph.nodes):
        if node.target in _ITEMS and isinstance(node.meta.get("val"), torch.SymFloat | float):
            (read_by_item,) = node.all_input_nodes
            if read_by_item in flows and read_by_item not in written_later:
                _insert(graph, read_by_item, [node])
        elif node in stopped and node not in written_later and _is_inexact(node):
            readers = [
                each
                for each in node.users
                if not is_detached(each)
                and each.target not in _ITEMS
                and (each.op == "output" or _may_be_inexact(each))
            ]
            if readers:
                marker = _insert(graph, node, readers)
                if output in readers:
                    for spec in program.graph_signature.output_specs:
                        if spec.arg.name == node.name:
                            spec.arg.name = marker.name
    program.graph_module.recompile()


def is_detached(node: fx.Node) -> bool:
    """Whether autograd does not record a node in the source."""
    return bool((node.meta.get("custom") or {}).get(DETACHED))


def _differentiated_inputs(program: ExportedProgram) -> set[str]:
    """The names of the inputs that have a gradient: the user's, and parameters that are trained."""
    return {
        spec.arg.name
        for spec in program.graph_signature.input_specs
        if spec.kind is InputKind.USER_INPUT
        or (spec.kind is InputKind.PARAMETER and program.state_dict[str(spec.target)].requires_grad)
    }


def _written_later(graph: fx.Graph) -> set[fx.Node]:
    """The nodes whose memory a later node writes to, as operators' schemas tell of views and writes."""
    memory: dict[fx.Node, set[fx.Node]] = {}
    found: set[fx.Node] = set()
    for node in graph.nodes:
        shared = memory.setdefault(node, {node})
        schema = getattr(node.target, "_schema", None)
        if node.target is operator.getitem:
            shared = _joined(memory, shared, memory[node.args[0]])
        if schema is None:
            continue
        returned = {name for each in schema.returns if each.alias_info for name in _sets(each.alias_info)}
        for position, argument in enumerate(schema.arguments):
            given = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
            if argument.alias_info is None or not isinstance(given, fx.Node):
                continue
            if argument.alias_info.is_write:
                found |= memory[given]
            if not _sets(argument.alias_info).isdisjoint({*returned, _IN_A_LIST}):
                shared = _joined(memory, shared, memory[given])
    return found


def _joined(memory: dict[fx.Node, set[fx.Node]], first: set[fx.Node], second: set[fx.Node]) -> set[fx.Node]:
    joined = first | second
    for each in joined:
        memory[each] = joined
    return joined


def _sets(alias: Any) -> set[str]:
    """The names of the memories that an argument or result of a schema may lie in."""
    return set(alias.before_set) | set(alias.after_set)


def _insert(graph: fx.Graph, node: fx.Node, readers: list[fx.Node]) -> fx.Node:
    with graph.inserting_after(node):
        marker = graph.call_function(detached_marker(), (node,))
    marker.meta = dict(node.meta)
    for each in readers:
        each.replace_input_with(node, marker)
    return marker


def _is_inexact(node: fx.Node) -> bool:
    value: Any = node.meta.get("val")
    return isinstance(value, torch.Tensor) and (value.is_floating_point() or value.is_complex())


def _may_be_inexact(node: fx.Node) -> bool:
    """Tuples of results count, integers and truth values do not."""
    value: Any = node.meta.get("val")
    return isinstance(value, tuple | list) or _is_inexact(node)
