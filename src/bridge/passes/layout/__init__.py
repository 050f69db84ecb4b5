"""The whole-graph layout pass: storages are chosen for the graph and not operator by operator.

Every value gets a *storage*, an order of the hub's axes in memory. A Transpose is then only another view
of its input; layout-sensitive operators compute in the target's native layout; all others follow what
their neighbours use, with axes, pads, shapes and constants renumbered. Data moves only where a value
is needed in two storages, which in a convolutional network is at the graph's boundary.

After the pass a node whose `layout_of` is `channels_last` computes as ONNX says between two implied
transposes: its spatial operands and results are stored `[N, *spatial, C]`, while its attributes and
parameter inputs (weights, scales, sizes) stay as ONNX defines them for channels-first data.
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from bridge.hub.metadata import Layout
from bridge.passes.layout.choose import choose
from bridge.passes.layout.graph import IoLayout, build
from bridge.passes.layout.names import ValueNames
from bridge.passes.layout.operators import is_sensitive
from bridge.passes.layout.rewrite import rewrite

__all__ = ["assign_layout"]


def assign_layout(
    model: ir.Model,
    *,
    layout: Layout,
    sensitive: Callable[[ir.Node], bool] | None = None,
    io_layout: IoLayout = "source",
) -> ir.Model:
    """Bring a canonical hub graph into a target's native layout; the model is changed in place and returned.

    `sensitive` says which nodes must compute in `layout`; by default those that ONNX defines for
    channels-first data. With `io_layout="native"` the graph's inputs and outputs are kept as the
    inside needs them instead of as the source has them. Subgraphs are laid out one by one, each with
    the hub's interface.

    Raises BridgeError if a value must be moved whose shape is not known well enough.
    """
    names = ValueNames(model.graph)
    for subgraph in list(model.graph.subgraphs()):
        _lay_out(subgraph, names, layout=layout, sensitive=sensitive, io_layout="source")
    _lay_out(model.graph, names, layout=layout, sensitive=sensitive, io_layout=io_layout)
    return model


def _lay_out(
    graph: ir.Graph,
    names: ValueNames,
    *,
    layout: Layout,
    sensitive: Callable[[ir.Node], bool] | None,
    io_layout: IoLayout,
) -> None:
    if not any(map(sensitive or is_sensitive, graph)):
        return
    sites = build(graph, layout=layout, sensitive=sensitive, io_layout=io_layout)
    if sites.has_sensitive_nodes:
        choose(sites)
        rewrite(sites, layout=layout, names=names)
