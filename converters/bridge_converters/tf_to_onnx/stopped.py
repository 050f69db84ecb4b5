"""Where a graph keeps gradients from flowing on purpose, and where that changes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf

STOPS = "StopGradient"


def drop_stops_in_variances(graph_def: Any) -> None:
    """Write as a copy what `tf.nn.moments` stops, in place, in the bodies of control flow as well.

    That is the mean in `mean(squared_difference(x, stop_gradient(mean(x))))`. Its derivative is zero, for
    deviations from a mean add up to zero.
    """
    _drop_in(graph_def.node, ())
    for function in graph_def.library.function:
        _drop_in(function.node_def, function.ret.values())


def _drop_in(graph: Iterable[Any], results: Iterable[str]) -> None:
    nodes = {node.name: node for node in graph}
    given = {_node_name(name) for name in results}
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in nodes.values():
        for name in node.input:
            readers[_node_name(name)].append(node)
    for stop in nodes.values():
        if stop.op != STOPS or stop.name in given or not readers[stop.name]:
            continue
        mean = nodes.get(_node_name(stop.input[0]))
        if mean is not None and mean.op == "Mean" and mean.attr["keep_dims"].b:
            squares = readers[stop.name]
            if all(
                _is_deviation(each, stop, mean)
                and each.name not in given
                and readers[each.name]
                and all(_is_mean_of(outer, each, mean, nodes) for outer in readers[each.name])
                for each in squares
            ):
                stop.op = "Identity"


def _is_deviation(node: Any, stop: Any, mean: Any) -> bool:
    """Whether a node squares what the data of a mean is from the stopped mean."""
    names = list(map(_node_name, node.input))
    others = [each for each, name in zip(node.input, names, strict=True) if name != stop.name]
    return node.op == "SquaredDifference" and others == [mean.input[0]]


def _is_mean_of(node: Any, data: Any, mean: Any, nodes: Mapping[str, Any]) -> bool:
    return node.op == "Mean" and _node_name(node.input[0]) == data.name and _same_axes(node, mean, nodes)


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]


def _same_axes(first: Any, second: Any, nodes: Mapping[str, Any]) -> bool:
    if first.input[1] == second.input[1]:
        return True
    axes = [nodes.get(_node_name(each.input[1])) for each in (first, second)]
    if any(each is None or each.op != "Const" for each in axes):
        return False
    one, other = (tf.make_ndarray(each.attr["value"].tensor) for each in axes if each is not None)
    return sorted(one.reshape(-1).tolist()) == sorted(other.reshape(-1).tolist())
