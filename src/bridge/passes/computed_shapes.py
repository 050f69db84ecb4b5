"""Arithmetic on shapes that turns out to be constant."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, all_nodes, static_shape
from bridge.passes.dims import Dim, contents, dim_of, known_contents


def fold_computed_shapes(model: ir.Model) -> bool:
    """Replace integer tensors that follow from static axes by constants, and CastLike by Cast.

    The target of a Reshape becomes a constant too where all but one of the result's axes are known
    numbers or axes of the data at the same place (`-1` and `0` say so), and that of an Expand where all
    but numbers are axes that the data has already (`1` says so). Returns whether anything changed. Needs
    inferred shapes.
    """
    changed = False
    for node in list(all_nodes(model)):
        if node.op_type == "CastLike" and node.domain == "":
            changed |= _cast_like(node)
    known = known_contents(model)
    for value, elements in known.items():
        producer = value.producer()
        numbers = [element for element in elements if isinstance(element, int)]
        if producer is None or len(numbers) != len(elements) or not value.uses() or value.dtype is None:
            continue
        shape = static_shape(value)
        if shape is None or value.is_graph_output() or producer.graph is not model.graph:
            continue
        array = np.asarray(numbers, dtype=value.dtype.numpy()).reshape(shape)
        value.replace_all_uses_with(add_constant(model.graph, array, f"{value.name}_folded"))
        changed = True
    for node in all_nodes(model):
        if node.op_type == "Reshape" and node.domain == "":
            changed |= _fix_target(node, model.graph, contents(node.inputs[1], known))
        elif node.op_type == "Expand" and node.domain == "":
            changed |= _fix_expansion(node, model.graph, contents(node.inputs[1], known))
    return changed


def _cast_like(node: ir.Node) -> bool:
    like = node.inputs[1]
    if like is None or like.dtype is None or not isinstance(node.graph, ir.Graph):
        return False
    cast = ir.node("Cast", [node.inputs[0]], {"to": int(like.dtype)})
    saturate = node.attributes.get("saturate")
    if saturate is not None:
        cast.attributes.add(saturate)
    cast.name = node.name
    cast.metadata_props.update(node.metadata_props)
    old, new = node.outputs[0], cast.outputs[0]
    node.graph.insert_before(node, cast)
    new.type, new.shape = ir.TensorType(like.dtype), old.shape
    new.metadata_props.update(old.metadata_props)
    name, old.name = old.name, None
    new.name = name
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    return True


def _fix_target(node: ir.Node, graph: ir.Graph, elements: tuple[Dim, ...] | None) -> bool:
    data, target, output = node.inputs[0], node.inputs[1], node.outputs[0]
    if data is None or data.shape is None or target is None or output.shape is None:
        return False
    is_constant = target.const_value is not None
    if is_constant and elements is not None and 0 not in elements and -1 not in elements:
        return False
    fixed = constant_target([dim_of(axis) for axis in data.shape], [dim_of(axis) for axis in output.shape])
    if fixed is None or (is_constant and elements == fixed):
        return False
    node.replace_input_with(1, add_constant(graph, np.asarray(fixed, np.int64), f"{output.name}_shape"))
    node.attributes.pop("allowzero", None)
    return True


def _fix_expansion(node: ir.Node, graph: ir.Graph, elements: tuple[Dim, ...] | None) -> bool:
    data, target, output = node.inputs[0], node.inputs[1], node.outputs[0]
    if data is None or data.shape is None or target is None or target.const_value is not None:
        return False
    if elements is None:
        return False
    new = max(len(elements) - len(data.shape), 0)
    axes = [*[None] * new, *[dim_of(axis) for axis in data.shape][len(data.shape) - len(elements) + new :]]
    fixed = [
        1 if size == axis and size is not None else size for size, axis in zip(elements, axes, strict=True)
    ]
    numbers = [size for size in fixed if isinstance(size, int)]
    if len(numbers) < len(fixed):
        return False
    node.replace_input_with(1, add_constant(graph, np.asarray(numbers, np.int64), f"{output.name}_shape"))
    return True


def constant_target(source: list[Dim], result: list[Dim]) -> tuple[int, ...] | None:
    """A Reshape target with `-1` and `0` that gives `result`; None if it depends on more than that.

    A free axis that is known to equal the data's axis at the same place is `-1` if it is the only one:
    `[N,C,H,W]` to `[N,C*H*W]` is `(-1, C*H*W)`.
    """
    if 0 in result:
        return None
    free = [axis for axis, dim in enumerate(result) if not isinstance(dim, int)]
    target = [dim if isinstance(dim, int) else -1 for dim in result]
    if len(free) > 1:
        kept = [
            axis
            for axis in free
            if axis < len(source) and result[axis] is not None and source[axis] == result[axis]
        ]
        for axis in kept:
            target[axis] = 0
    return tuple(target) if target.count(-1) <= 1 else None
