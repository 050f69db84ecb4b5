"""Recurrence and loops of old opsets."""

from __future__ import annotations

import onnx_ir as ir

from bridge.passes.upgrades.registry import upgrade
from bridge.passes.upgrades.site import Site, pop_int, pop_ints, refusal, set_attributes, set_inputs


@upgrade("GRU", to=3)
def gru_spells_its_direction(node: ir.Node, site: Site) -> None:
    """The default of opset 1 is misspelt `foward`."""
    if node.attributes.get_string("direction") == "foward":
        set_attributes(node, direction="forward")


@upgrade("GRU", "LSTM", "RNN", to=7)
def outputs_are_optional(node: ir.Node, site: Site) -> None:
    """`output_sequence` said whether the first output is there, which its presence says as well."""
    pop_int(node, "output_sequence", 0)


@upgrade("Scan", to=9)
def scan_has_no_batch(node: ir.Node, site: Site) -> None:
    """Scan of opset 8 ran over axis 1, for each entry of the batch on axis 0.

    That is a scan over the batch, without state, of a scan over the sequence.
    """
    if node.inputs[0] is not None:
        raise refusal(node, "it has lengths of sequences")
    values = list(node.inputs[1:])
    count = node.attributes["num_scan_inputs"].as_int()
    directions = pop_ints(node, "directions")
    inside = [_entry(value, position, node, site) for position, value in enumerate(values)]
    inner = ir.Node("", "Scan", inside, node.attributes.values(), num_outputs=len(node.outputs))
    inner.version = node.version
    inner.metadata_props.update(node.metadata_props)
    if directions is not None and any(directions):
        set_attributes(inner, scan_input_directions=list(directions))
    for position, (entry, output) in enumerate(zip(inner.outputs, node.outputs, strict=True)):
        entry.name = f"{output.name or position}_entry"
        entry.type = output.type or (inside[position].type if position < len(values) - count else None)
    body = ir.Graph(inside, inner.outputs, nodes=[inner], name="entry_of_batch")
    node.attributes.clear()
    set_inputs(node, values)
    set_attributes(node, num_scan_inputs=len(values), body=body)


def _entry(value: ir.Value | None, position: int, node: ir.Node, site: Site) -> ir.Value:
    if value is None:
        raise refusal(node, "an input is missing")
    dtype, shape = site.dtype(value, node), value.shape
    return ir.Value(
        name=f"{value.name or position}_entry",
        type=ir.TensorType(dtype),
        shape=None if shape is None else ir.Shape(list(shape)[1:]),
    )
