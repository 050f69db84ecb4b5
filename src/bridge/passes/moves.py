"""Simplifying transposes, squeezes and reshapes, whatever the layout."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import (
    add_constant,
    all_nodes,
    attribute,
    fuse,
    integers,
    only_use,
    producer,
    rank,
    replace_value,
)
from bridge.passes.computed_shapes import constant_target
from bridge.passes.dims import dim_of
from bridge.passes.match import with_scalar

_REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)


def simplify_moves(model: ir.Model) -> ir.Model:
    """Join moves of elements that follow each other, and let reductions read what was transposed before.

    Two transposes or reshapes become one, a squeeze undoes an unsqueeze, also across a transpose, and a
    Reshape that keeps axis 0 and joins the others is a Flatten. A value is transposed once, and before it
    is scaled, so that a formula reads one value and not several views of it. Needs inferred shapes.
    """
    _lift_transposes(model.graph)
    for node in list(all_nodes(model)):
        rule = _RULES.get(node.op_type) if node.domain == "" and node.graph is model.graph else None
        if rule is not None:
            rule(node, model.graph)
    return model


def _lift_transposes(graph: ir.Graph) -> None:
    """`Transpose(k * x)` as `k * Transpose(x)`, and one Transpose for equal ones."""
    for node in reversed(list(graph)):
        if node.graph is graph and node.op_type == "Transpose" and node.domain == "":
            _lift(node, graph)
    first: dict[tuple[ir.Value | None, tuple[int, ...] | None], ir.Node] = {}
    for node in list(graph):
        if node.op_type == "Transpose" and node.domain == "" and not node.outputs[0].is_graph_output():
            twin = first.setdefault((node.inputs[0], permutation(node)), node)
            if twin is not node:
                replace_value(node.outputs[0], twin.outputs[0])
                graph.remove(node, safe=True)


def _lift(transpose: ir.Node, graph: ir.Graph) -> None:
    perm = permutation(transpose)
    scaling = producer(transpose.inputs[0], "Div", "Mul", "Neg")
    while scaling is not None and only_use(scaling.outputs[0]) is transpose:
        found = with_scalar(scaling) if scaling.op_type != "Neg" else (scaling.inputs[0], -1.0)
        if found is None or found[0] is None:
            return
        if scaling.op_type == "Div" and found[0] is not scaling.inputs[0]:
            return
        before = ir.node("Transpose", [found[0]], {"perm": perm})
        before.metadata_props.update(transpose.metadata_props)
        before.outputs[0].type, before.outputs[0].shape = found[0].type, transpose.outputs[0].shape
        graph.insert_before(scaling, before)
        inputs = [before.outputs[0] if value is found[0] else value for value in scaling.inputs]
        fuse([scaling, transpose], scaling.op_type, inputs)
        transpose = before
        scaling = producer(before.inputs[0], "Div", "Mul", "Neg")


def permutation(node: ir.Node) -> tuple[int, ...] | None:
    """The order of a Transpose's axes."""
    perm = attribute(node, "perm")
    if isinstance(perm, tuple):
        return perm
    count = rank(node.inputs[0])
    return None if count is None else tuple(reversed(range(count)))


def axes_of(node: ir.Node, count: int) -> tuple[int, ...] | None:
    """The axes of a Squeeze, Unsqueeze or reduction as a sorted tuple of positions among `count`."""
    axes = integers(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if axes is None else tuple(sorted(axis % count for axis in axes))


def _join_transposes(node: ir.Node, graph: ir.Graph) -> None:
    inner = producer(node.inputs[0], "Transpose")
    outer_perm = permutation(node)
    inner_perm = None if inner is None else permutation(inner)
    if inner is None or outer_perm is None or inner_perm is None:
        return
    fuse([inner, node], "Transpose", inner.inputs, {"perm": [inner_perm[axis] for axis in outer_perm]})


def _join_squeeze(node: ir.Node, graph: ir.Graph) -> None:
    """`Squeeze(Unsqueeze(x))`, and `Squeeze(Transpose(Unsqueeze(x)))` as one Transpose."""
    source = node.inputs[0]
    count = rank(source)
    squeezed = None if count is None else axes_of(node, count)
    if source is None or count is None or squeezed is None:
        return
    transpose = producer(source, "Transpose")
    inner = producer(transpose.inputs[0] if transpose else source, "Unsqueeze")
    added = None if inner is None else axes_of(inner, count)
    perm = permutation(transpose) if transpose else tuple(range(count))
    if inner is None or added is None or perm is None:
        return
    if tuple(sorted(perm[axis] for axis in squeezed)) != added:
        return
    kept = [axis for axis in perm if axis not in added]
    order = sorted(kept)
    group = [inner, *([transpose] if transpose else []), node]
    fuse(group, "Transpose", inner.inputs[:1], {"perm": [order.index(axis) for axis in kept]})


def _join_unsqueeze(node: ir.Node, graph: ir.Graph) -> None:
    """`Unsqueeze(Squeeze(x))` of the same axes."""
    inner = producer(node.inputs[0], "Squeeze")
    count = rank(node.outputs[0])
    if inner is None or count is None:
        return
    removed = axes_of(inner, count)
    if removed is not None and removed == axes_of(node, count) and rank(inner.inputs[0]) == count:
        fuse([inner, node], "Identity", inner.inputs[:1])


def _join_reshapes(node: ir.Node, graph: ir.Graph) -> None:
    """`Reshape(Reshape(x))`, and a reshape of something that was flattened, squeezed or unsqueezed."""
    inner = producer(node.inputs[0], "Reshape", "Flatten", "Squeeze", "Unsqueeze")
    target = node.inputs[1]
    if inner is not None and target is not None and target.const_value is not None:
        source, result = inner.inputs[0], node.outputs[0]
        if (
            source is None
            or source.shape is None
            or result.shape is None
            or only_use(inner.outputs[0]) is not node
        ):
            return
        fixed = constant_target(
            [dim_of(axis) for axis in source.shape], [dim_of(axis) for axis in result.shape]
        )
        if fixed is None:
            return
        constant = add_constant(graph, np.asarray(fixed, np.int64), f"{result.name}_shape")
        node = fuse([inner, node], "Reshape", [source, constant])
    _recognise_flatten(node)


def _recognise_flatten(node: ir.Node) -> None:
    source, result = node.inputs[0], node.outputs[0]
    if source is None or source.shape is None or result.shape is None:
        return
    if len(source.shape) < 3 or len(result.shape) != 2 or dim_of(source.shape[0]) is None:
        return
    width = result.shape[1]
    if dim_of(source.shape[0]) == dim_of(result.shape[0]) and isinstance(width, int) and width > 0:
        fuse([node], "Flatten", [source], {"axis": 1})


def _reduce_before_transpose(node: ir.Node, graph: ir.Graph) -> None:
    """A reduction of transposed axes is one of the axes before, if what is left keeps its order."""
    transpose = producer(node.inputs[0], "Transpose")
    perm = None if transpose is None else permutation(transpose)
    if transpose is None or perm is None:
        return
    axes = axes_of(node, len(perm))
    if not axes:
        return
    keepdims = node.attributes.get_int("keepdims", 1)
    kept = [axis for position, axis in enumerate(perm) if position not in axes]
    if keepdims or kept != sorted(kept):
        return
    before = sorted(perm[axis] for axis in axes)
    constant = add_constant(graph, np.asarray(before, np.int64), f"{node.outputs[0].name}_axes")
    attributes = {name: each.value for name, each in node.attributes.items()}
    fuse([transpose, node], node.op_type, [transpose.inputs[0], constant], attributes)


_RULES = {
    "Reshape": _join_reshapes,
    "Squeeze": _join_squeeze,
    "Transpose": _join_transposes,
    "Unsqueeze": _join_unsqueeze,
    **dict.fromkeys(_REDUCTIONS, _reduce_before_transpose),
}
