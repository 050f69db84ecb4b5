"""Rows of tables that are read but not trained, such as that of padding."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import fuse, take_over
from bridge.passes.linear import DOMAIN


def hold_rows(model: ir.Model, target: str) -> ir.Model:
    """Say how a Gather that passes no gradient to one row of its table does so.

    PyTorch has an embedding for that: `bridge::Embedding(table, indices)` with `padding_idx`. In TensorFlow
    `bridge::HoldRow(rows, indices)` follows, which stops the gradient of what was read at index `row`. Does
    not keep the graph valid ONNX.
    """
    for node in list(model.graph):
        row = metadata.held_row(node)
        if row is None or node.op_type != "Gather" or node.domain != "":
            continue
        if node.attributes.get_int("axis", 0) != 0:
            continue
        table, indices = node.inputs
        if target == "torch":
            fuse([node], "Embedding", [table, indices], {"padding_idx": row}, domain=DOMAIN)
            continue
        rows = node.outputs[0]
        hold = ir.node("HoldRow", [None, indices], {"row": row}, domain=DOMAIN)
        hold.metadata_props.update(node.metadata_props)
        name = rows.name
        take_over(rows, hold.outputs[0])
        rows.name = f"{name}_rows"
        rows.metadata_props.clear()
        hold.replace_input_with(0, rows)
        model.graph.insert_after(node, hold)
    return model
