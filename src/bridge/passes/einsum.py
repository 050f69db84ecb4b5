"""Sums of products with trained tensors, as matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import (
    add_constant,
    attribute,
    is_trained,
    only_use,
    remove_unread,
    static_shape,
    take_over,
)


@dataclass(frozen=True)
class _Projection:
    """`lead summed, weight -> lead free`: what of the weight is summed over, and what it adds."""

    lead: str
    summed: str
    free: str
    weight: str


def write_projections_as_products(model: ir.Model) -> ir.Model:
    """Einsum of data and a trained tensor over the last axes of the data, as MatMul: `abc,cde->abde`.

    The tensor becomes the matrix by moves of its elements, axes are split and joined by Reshape, and a
    trained bias of the split axes is added before they are split: that is the form of linear layers. Needs
    inferred shapes.
    """
    for node in list(model.graph):
        projection = _projection(node)
        if projection is not None:
            _write(node, projection)
    return model


def _projection(node: ir.Node) -> _Projection | None:
    if node.op_type != "Einsum" or node.domain != "" or len(node.inputs) != 2:
        return None
    terms, arrow, output = str(attribute(node, "equation", "")).replace(" ", "").partition("->")
    data, _, weight = terms.partition(",")
    if not arrow or not is_trained(node.inputs[1]) or static_shape(node.inputs[1]) is None:
        return None
    letters = (data, weight, output)
    if not all(each.isalpha() and len(set(each)) == len(each) for each in letters):
        return None
    summed = "".join(letter for letter in data if letter in weight and letter not in output)
    free = "".join(letter for letter in output if letter in weight and letter not in data)
    lead = data.removesuffix(summed)
    if not (lead and summed and free) or data != lead + summed or output != lead + free:
        return None
    return _Projection(lead, summed, free, weight) if set(weight) == set(summed + free) else None


def _write(node: ir.Node, projection: _Projection) -> None:
    graph = node.graph
    assert isinstance(graph, ir.Graph)
    data, weight = node.inputs
    assert data is not None
    assert weight is not None
    sizes = dict(zip(projection.weight, static_shape(weight) or (), strict=True))
    rows, columns = (
        [sizes[letter] for letter in letters] for letters in (projection.summed, projection.free)
    )
    kept = [0] * len(projection.lead)
    lead = [] if data.shape is None else list(data.shape)[: len(kept)]

    def add(
        op_type: str, *inputs: ir.Value, shape: list[int | ir.SymbolicDim] | None, **options: object
    ) -> ir.Value:
        made = ir.node(op_type, inputs, options)  # type: ignore[arg-type]
        made.metadata_props.update(node.metadata_props)
        graph.insert_before(last, made)
        made.outputs[0].type = node.outputs[0].type
        made.outputs[0].shape = None if shape is None else ir.Shape(shape)
        return made.outputs[0]

    def reshaped(value: ir.Value, target: list[int], shape: list[int | ir.SymbolicDim] | None) -> ir.Value:
        sizes = add_constant(graph, np.asarray(target, np.int64), f"{value.name}_shape")
        return add("Reshape", value, sizes, shape=shape)

    bias = _bias(node, columns) if len(columns) > 1 else None
    last = node if bias is None else bias[0]
    perm = [projection.weight.index(letter) for letter in projection.summed + projection.free]
    matrix = weight
    if perm != sorted(perm):
        matrix = add("Transpose", matrix, shape=[*rows, *columns], perm=perm)
    if len(perm) > 2:
        flat = [prod(rows), prod(columns)]
        matrix = reshaped(matrix, flat, [*flat])
    if len(rows) > 1:
        data = reshaped(data, [*kept, prod(rows)], [*lead, prod(rows)] if lead else None)
    result = add("MatMul", data, matrix, shape=[*lead, prod(columns)] if lead else None)
    if bias is not None:
        vector = reshaped(bias[1], [prod(columns)], [prod(columns)])
        result = add("Add", result, vector, shape=[*lead, prod(columns)] if lead else None)
    if len(columns) > 1:
        result = reshaped(result, [*kept, *columns], None)
    if bias is not None:
        result.producer().metadata_props.update(bias[0].metadata_props)  # type: ignore[union-attr]
    take_over(last.outputs[0], result)
    remove_unread([node] if bias is None else [node, bias[0]])


def _bias(node: ir.Node, columns: list[int]) -> tuple[ir.Node, ir.Value] | None:
    """The addition of a trained tensor with the axes that the weight gives, and that tensor."""
    addition = only_use(node.outputs[0])
    if addition is None or addition.op_type != "Add" or addition.domain != "":
        return None
    for value in addition.inputs:
        if value is not None and is_trained(value) and static_shape(value) == tuple(columns):
            return addition, value
    return None
