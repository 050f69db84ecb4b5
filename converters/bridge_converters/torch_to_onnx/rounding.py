"""Which operators of a program round."""

from __future__ import annotations

import operator
from collections.abc import Collection
from typing import Any

import torch
from torch import fx

_EXACT = """
    abs alias amax amin arange ceil clamp clamp_max clamp_min clone _to_copy constant_pad_nd copy cat detach
    diagonal_scatter dropout embedding empty empty_like empty_strided eye fill flip floor full full_like
    gather hardtanh im2col index index_select lift_fresh_copy masked_fill max max_pool2d_with_indices
    max_pool3d_with_indices max_pool1d max_pool2d max_pool3d maximum median min minimum neg new_empty
    new_full new_ones new_zeros ones ones_like pad pixel_shuffle pixel_unshuffle reflection_pad1d
    reflection_pad2d reflection_pad3d relu repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d roll round scalar_tensor scatter select_scatter sign slice_scatter sort stack topk tril
    triu trunc unfold_copy upsample_nearest1d upsample_nearest2d upsample_nearest3d where zeros zeros_like
"""
"""Operators that move elements, choose among them, or write constants."""


_SUMS = """
    linalg_vector_norm logsumexp mean nansum norm std std_mean sum var var_mean
"""
"""Operators whose results are sums over axes of their first argument, or follow from one."""


def is_sum(node: fx.Node) -> bool:
    """Whether a node sums up its first argument over axes."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    return node.target._schema.name.rpartition("::")[2] in _SUMS.split()


def rounding_nodes(graph: fx.Graph, constants: Collection[str]) -> set[fx.Node]:
    """The nodes whose floating-point results carry a rounding error.

    Not among them: operators that round nothing, and values that depend on no input and weight and are
    only made into integers: positions of elements, which come out the same in every precision. `constants`
    are the names of inputs of the graph that are no weights.
    """
    data = _depend_on_data(graph, constants)
    used = _used_as_numbers(graph)
    return {
        node
        for node in graph.nodes
        if node.op == "call_function" and not _is_exact(node) and (node in data or node in used)
    }


def _is_exact(node: fx.Node) -> bool:
    if node.target is operator.getitem:
        (parent, *_) = node.all_input_nodes
        return _is_exact(parent)
    if not isinstance(node.target, torch._ops.OpOverload):
        return False
    schema = node.target._schema
    if schema.name.rpartition("::")[2] in _EXACT.split():
        return True
    return not schema.is_mutable and any(each.alias_info is not None for each in schema.returns)


def _depend_on_data(graph: fx.Graph, constants: Collection[str]) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder":
            if node.name not in constants:
                found.add(node)
        elif _is_tensor(node) and any(each in found for each in node.all_input_nodes):
            found.add(node)
    return found


def _used_as_numbers(graph: fx.Graph) -> set[fx.Node]:
    """Nodes that reach an output without becoming integers on the way."""
    found: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op == "output" or (_is_inexact(node) and any(user in found for user in node.users)):
            found.add(node)
    return found


def _is_tensor(node: fx.Node) -> bool:
    return any(isinstance(each, torch.Tensor) for each in _values(node))


def _is_inexact(node: fx.Node) -> bool:
    return any(
        isinstance(each, torch.Tensor) and (each.is_floating_point() or each.is_complex())
        for each in _values(node)
    )


def _values(node: fx.Node) -> list[Any]:
    value = node.meta.get("val")
    return list(value) if isinstance(value, list | tuple) else [value]
