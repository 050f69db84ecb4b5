"""A few nodes of a program as lines of Python that call PyTorch's operators one by one."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import fx


def operator_calls(
    graph: fx.Graph, values: Mapping[fx.Node, Any], wanted: str, given: Collection[str]
) -> tuple[list[str], dict[str, torch.Tensor]]:
    """Lines that compute the value `wanted` into the dict `t`, and the tensors that `t` must hold before.

    `values` are what the nodes computed. The lines begin after the values `given` and the graph's inputs.
    Raises NotImplementedError for a node that takes what cannot be written as a literal.
    """
    lines: list[str] = []
    tensors: dict[str, torch.Tensor] = {}
    written: set[fx.Node] = set()

    def literal(value: Any) -> str:
        if isinstance(value, fx.Node):
            return need(value)
        if isinstance(value, list | tuple):
            inner = ", ".join(literal(each) for each in value)
            return f"[{inner}]"
        if isinstance(value, float):
            return f'float("{value!r}")' if value != value or value in (_INF, -_INF) else repr(value)
        if isinstance(value, torch.device):
            return repr(str(value))
        if value is None or isinstance(value, bool | int | str | _NAMED):
            return repr(value)
        raise NotImplementedError(f"an argument of the type {type(value).__name__} cannot be written down")

    def need(node: fx.Node) -> str:
        value = values[node]
        if isinstance(value, int | float | bool):
            return repr(value)
        if node in written:
            return f"t[{node.name!r}]"
        written.add(node)
        if isinstance(value, torch.Tensor) and (node.op != "call_function" or node.name in given):
            tensors[node.name] = value
            return f"t[{node.name!r}]"
        if node.op != "call_function":
            raise NotImplementedError(f"{node.name} is no tensor")
        arguments = [literal(each) for each in node.args]
        arguments += [f"{name}={literal(each)}" for name, each in node.kwargs.items()]
        if node.target is operator.getitem:
            lines.append(f"t[{node.name!r}] = {arguments[0]}[{arguments[1]}]")
        elif isinstance(node.target, torch._ops.OpOverload):
            lines.append(f"t[{node.name!r}] = torch.ops.{node.target}({', '.join(arguments)})")
        else:
            raise NotImplementedError(f"{node.target} is no operator of PyTorch")
        return f"t[{node.name!r}]"

    node = next((each for each in graph.nodes if each.name == wanted), None)
    if node is None:
        raise NotImplementedError(f"the program has no node {wanted}")
    need(node)
    return lines, tensors


_INF = float("inf")
_NAMED = torch.dtype | torch.memory_format | torch.layout
