"""Matrix products with a bias as Gemm, and operands in one order."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, fuse, is_trained, only_use, producer, rank, static_shape


def recognise_gemm(model: ir.Model) -> ir.Model:
    """`MatMul` of matrices, then `Add` of a constant or trained vector: one Gemm.

    A matrix that is transposed at run time, as a tied weight is, becomes `transB`. Products of higher
    rank stay `MatMul`, `Add`: Gemm takes matrices only. Needs inferred shapes.
    """
    for node in list(model.graph):
        if node.graph is None or node.domain != "":
            continue
        if node.op_type == "Add":
            _with_bias(node, model.graph)
        elif node.op_type == "MatMul":
            _with_transposed(node)
    return model


def _with_bias(add: ir.Node, graph: ir.Graph) -> None:
    for data, bias in (add.inputs, reversed(add.inputs)):
        reshape = producer(data, "Reshape")
        product = producer(reshape.inputs[0] if reshape else data, "MatMul", "Gemm")
        if product is None or data is None or bias is None or only_use(data) is not add:
            continue
        if reshape is not None and not _keeps_last_axis(reshape, product):
            continue
        if bias.const_value is None or bias.is_graph_input() or bias.dtype != data.dtype:
            continue
        weight = product.inputs[1]
        if rank(product.inputs[0]) != 2 or rank(weight) != 2 or weight is None or weight.shape is None:
            continue
        attributes = {name: each.value for name, each in product.attributes.items()}
        if product.op_type == "Gemm" and (len(product.inputs) > 2 or attributes.get("alpha", 1.0) != 1.0):
            continue
        width = weight.shape[0 if attributes.get("transB", 0) else 1]
        shape = static_shape(bias)
        if shape not in ((width,), (1, width)):
            continue
        flat = bias if len(shape) == 1 else _flat(bias, shape, product, graph)
        inputs = [*product.inputs[:2], flat]
        if reshape is None:
            fuse([product, add], "Gemm", inputs, attributes)
        else:
            _under_reshape(add, reshape, product, inputs, attributes, graph)
        return


def _keeps_last_axis(reshape: ir.Node, product: ir.Node) -> bool:
    """Whether a reshape of a product leaves its columns alone."""
    before, after = product.outputs[0], reshape.outputs[0]
    if before.shape is None or after.shape is None or only_use(before) is not reshape:
        return False
    return isinstance(before.shape[-1], int) and before.shape[-1] == after.shape[-1]


def _under_reshape(
    add: ir.Node,
    reshape: ir.Node,
    product: ir.Node,
    inputs: list[ir.Value | None],
    attributes: dict[str, object],
    graph: ir.Graph,
) -> None:
    gemm = ir.node("Gemm", inputs, attributes)  # type: ignore[arg-type]
    gemm.metadata_props.update(product.metadata_props)
    result = gemm.outputs[0]
    result.type, result.shape = product.outputs[0].type, product.outputs[0].shape
    graph.insert_before(add, gemm)
    fuse([product, reshape, add], "Reshape", [result, reshape.inputs[1]])


def _flat(bias: ir.Value, shape: tuple[int, ...], before: ir.Node, graph: ir.Graph) -> ir.Value:
    target = add_constant(graph, np.asarray(shape[1:], np.int64), f"{bias.name}_shape")
    node = ir.node("Reshape", [bias, target])
    node.outputs[0].type, node.outputs[0].shape = bias.type, ir.Shape(shape[1:])
    graph.insert_before(before, node)
    return node.outputs[0]


def _with_transposed(product: ir.Node) -> None:
    transpose = producer(product.inputs[1], "Transpose")
    if transpose is None or not is_trained(transpose.inputs[0]):
        return
    if rank(product.inputs[0]) == 2 and rank(transpose.inputs[0]) == 2:
        fuse([transpose, product], "Gemm", [product.inputs[0], transpose.inputs[0]], {"transB": 1})


def order_operands(model: ir.Model) -> ir.Model:
    """Put the constant or trained operand of a commutative operator second: `x * 0.5`, `x + bias`."""
    for node in model.graph:
        if node.domain == "" and node.op_type in ("Add", "And", "Mul", "Or") and len(node.inputs) == 2:
            first, second = node.inputs
            if _is_tensor(first) and not _is_tensor(second):
                node.replace_input_with(0, second)
                node.replace_input_with(1, first)
    return model


def _is_tensor(value: ir.Value | None) -> bool:
    return value is not None and value.const_value is not None
