"""Folding plain constants: what depends on no input and no trained tensor is computed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator

from bridge.hub.graph import attribute, bodies, constant, free_name, replace_by_initializer, static_shape
from bridge.hub.recipe import Array

_SMALL = 1 << 16
"""Elements a folded constant may have even if its inputs are smaller."""

_IMPURE = frozenset(
    {
        "Bernoulli",
        "Dropout",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
    }
)


def fold_constants(model: ir.Model) -> bool:
    """Compute what depends on plain constants only, with ONNX's reference implementation.

    Returns whether anything changed. Needs inferred shapes: they bound the size of a result.
    """
    changed = False
    for graph in model.graphs():
        for node in list(graph):
            if _is_constant(node):
                _evaluate(node)
                changed = True
    return changed


def _is_constant(node: ir.Node) -> bool:
    if node.domain != "" or node.op_type in _IMPURE or not node.inputs or any(bodies(node)):
        return False
    if node.op_type == "Identity" and node.outputs[0].is_graph_output():
        return False
    if any(
        value is not None and (value.const_value is None or constant(value) is None) for value in node.inputs
    ):
        return False
    if any(
        not isinstance(output.type, ir.TensorType) or output.dtype == ir.DataType.STRING
        for output in node.outputs
    ):
        return False
    shapes = [static_shape(output) for output in node.outputs]
    limit = max(_SMALL, sum(_size(static_shape(value)) for value in node.inputs if value is not None))
    return all(shape is not None and _size(shape) <= limit for shape in shapes)


def _size(shape: Iterable[int] | None) -> int:
    return 0 if shape is None else int(np.prod(list(shape), dtype=np.int64))


def _evaluate(node: ir.Node) -> None:
    arrays = [constant(value) for value in node.inputs]
    if node.op_type in ("Identity", "Transpose", "Reshape"):
        results = [_move(node, arrays)]
    else:
        results = _reference(node, arrays)
    for output, array in zip(node.outputs, results, strict=True):
        _replace(output, array)
    assert isinstance(node.graph, ir.Graph)
    node.graph.remove(node, safe=True)


def _replace(output: ir.Value, array: Array) -> None:
    node = output.producer()
    assert node is not None
    assert isinstance(node.graph, ir.Graph)
    name = free_name(node.graph, f"{output.name}_folded")
    value = ir.Value(
        name=name,
        const_value=ir.tensor(array, dtype=output.dtype, name=name),
        type=output.type,
        shape=ir.Shape(array.shape),
    )
    node.graph.register_initializer(value)
    replace_by_initializer(output, value)


def _move(node: ir.Node, arrays: Sequence[Array | None]) -> Array:
    """Views, without the copies the reference implementation makes."""
    data = arrays[0]
    assert data is not None
    if node.op_type == "Transpose":
        return np.transpose(data, attribute(node, "perm"))  # type: ignore[call-overload,no-any-return]
    if node.op_type == "Reshape":
        shape = static_shape(node.outputs[0])
        assert shape is not None
        return np.reshape(data, shape)
    return data


def _reference(node: ir.Node, arrays: Sequence[Array | None]) -> list[Array]:
    names = ["" if array is None else f"i{index}" for index, array in enumerate(arrays)]
    inputs = [
        onnx.helper.make_tensor_value_info(name, int(value.dtype), list(array.shape))
        for name, value, array in zip(names, node.inputs, arrays, strict=True)
        if array is not None and value is not None and value.dtype is not None
    ]
    results = [f"o{index}" for index in range(len(node.outputs))]
    proto = ir.serde.serialize_node(node)
    del proto.input[:], proto.output[:], proto.metadata_props[:]
    proto.input.extend(names)
    proto.output.extend(results)
    outputs = [onnx.helper.make_empty_tensor_value_info(name) for name in results]
    graph = onnx.helper.make_graph([proto], "fold", inputs, outputs)
    version = node.graph.opset_imports.get("", None) if isinstance(node.graph, ir.Graph) else None
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", version or onnx.defs.onnx_opset_version())]
    )
    feeds = {name: array for name, array in zip(names, arrays, strict=True) if array is not None}
    return [np.asarray(each) for each in ReferenceEvaluator(model).run(None, feeds)]
