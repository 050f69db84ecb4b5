"""Identities that stop gradients on purpose, as `detach` and `stop_gradient` do."""

from __future__ import annotations

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.graph import all_nodes, bodies, fuse
from bridge.passes.linear import DOMAIN


def drop_idle_stops(model: ir.Model) -> ir.Model:
    """Unmark the Identities of the main graph that no gradient would reach or leave.

    A gradient ends at floating-point inputs and trained parameters, and starts at what is computed in
    floating-point numbers. Where a type is not known, it may have one. Needs inferred types.
    """
    reached = {value for value in model.graph.inputs if _may_have_gradient(value)}
    reached |= {value for value in model.graph.initializers.values() if _is_trained_on(value)}
    for node in model.graph:
        stops = _stops(node)
        if stops and not (reached.intersection(node.inputs) and _is_differentiated(node.outputs[0])):
            metadata.set_stops_gradient(node, False)
        elif not stops and _reads(node, reached):
            reached.update(value for value in node.outputs if _may_have_gradient(value))
    return model


def stop_gradients(model: ir.Model) -> ir.Model:
    """Write an Identity that stops gradients as `bridge::StopGradient`: the graph is no valid ONNX then."""
    for node in list(all_nodes(model)):
        if _stops(node):
            props = dict(node.metadata_props)
            fuse([node], "StopGradient", node.inputs, domain=DOMAIN).metadata_props.update(props)
    return model


def _stops(node: ir.Node) -> bool:
    return node.op_type == "Identity" and node.domain == "" and metadata.stops_gradient(node)


def _is_trained_on(value: ir.Value) -> bool:
    info = metadata.weight_info(value)
    return info is not None and info.trainable and _may_have_gradient(value)


def _may_have_gradient(value: ir.Value) -> bool:
    return value.dtype is None or not (
        value.dtype.is_integer() or value.dtype in (ir.DataType.BOOL, ir.DataType.STRING)
    )


def _is_differentiated(value: ir.Value) -> bool:
    """Whether a user, or a node that gives floating-point numbers, reads a value."""
    return value.is_graph_output() or any(
        _may_have_gradient(made) for use in value.uses() for made in use.node.outputs
    )


def _reads(node: ir.Node, values: set[ir.Value]) -> bool:
    """Whether a node reads one of the values, if only in a body."""
    return not values.isdisjoint(node.inputs) or any(
        not values.isdisjoint(body.outputs) or any(_reads(inner, values) for inner in body)
        for body in bodies(node)
    )
