"""Operands that must be scalars, and that files give as tensors of one element."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from bridge.hub.graph import add_constant, all_nodes, rank


def give_range_scalars(model: ir.Model) -> ir.Model:
    """Reshape what Range takes to scalars where it is not known to be one.

    Runtimes take any tensor of one element; the body that the standard gives AffineGrid relies on it.
    Where the operand turns out to be a scalar the Reshape has no effect, and is dropped.
    """
    for node in list(all_nodes(model)):
        if node.op_type != "Range" or node.domain != "" or not isinstance(node.graph, ir.Graph):
            continue
        for index, operand in enumerate(node.inputs):
            if operand is None or rank(operand) == 0:
                continue
            shape = add_constant(model.graph, np.empty(0, np.int64), "scalar")
            reshape = ir.node("Reshape", [operand, shape])
            reshape.metadata_props.update(node.metadata_props)
            if operand.type is not None:
                reshape.outputs[0].type, reshape.outputs[0].shape = operand.type, ir.Shape(())
            node.graph.insert_before(node, reshape)
            node.replace_input_with(index, reshape.outputs[0])
    return model
