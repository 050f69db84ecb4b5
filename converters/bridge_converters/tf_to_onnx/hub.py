"""From tf2onnx's model to the hub: weights, names, order, scopes and the interface that users see."""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping

import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.metadata import Scope, SourceInfo, WeightInfo
from bridge.passes.dims import dim_of
from bridge.passes.loop_shapes import find_loop_shapes
from bridge.passes.opset import to_hub_opset
from bridge.passes.shapes import infer_shapes
from bridge_converters.tf_to_onnx import attention_hooks
from bridge_converters.tf_to_onnx.bundle import Bundle, Port
from bridge_converters.tf_to_onnx.exporter import Exported
from bridge_converters.tf_to_onnx.stopped import STOPS

_COUNTER = re.compile(r"__\d+")
BATCH = "batch"


class _SourceGraph:
    """What is known about the traced graph by name: order of nodes, tensors' shapes, scopes."""

    def __init__(self, bundle: Bundle) -> None:
        names = [node.name for node in bundle.graph.node]
        names += [node.name for each in bundle.graph.library.function for node in each.node_def]
        self.order = {name: position for position, name in reversed(list(enumerate(names)))}
        self._scopes = bundle.scopes

    def node(self, name: str) -> str | None:
        """The TensorFlow node that an ONNX node or value comes from."""
        base = name.split(":")[0]
        if base in self.order:
            return base
        base = _COUNTER.sub("", base)
        while base:
            if base in self.order:
                return base
            base = base.rpartition("/")[0]
        return None

    def scope(self, node: str) -> Scope:
        prefix = node
        while prefix:
            found = self._scopes.get(prefix)
            if found is not None:
                return found
            prefix = prefix.rpartition("/")[0]
        return ()


def build(exported: Exported, bundle: Bundle, *, seconds: float) -> ir.Model:
    """The hub model. `exported.model` is consumed; `seconds` is the exporter's time."""
    model = ir.from_proto(exported.model)
    graph = model.graph
    newer = _finish_newer(graph)
    source = _SourceGraph(bundle)
    _sort(graph, source)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        origin = source.node(node.name or "")
        if origin is not None:
            metadata.set_scope(node, source.scope(origin))
    values = {value.name: value for value in graph.inputs}
    unused = _bind_weights(graph, bundle, values)
    _rename_all(graph, exported, bundle, source)
    _set_interface(graph, bundle)
    _find_unknown_ranks(model)
    model.producer_name = "bridge"
    model.producer_version = None
    model.doc_string = None
    graph.name = "model"
    graph.doc_string = None
    model.opset_imports.pop("ai.onnx.ml", None)
    metadata.set_source_info(
        model,
        SourceInfo(
            framework="tf",
            format=bundle.format,
            root_type=bundle.root_type,
            inputs=tuple(port.name for port in bundle.inputs),
            outputs=tuple(port.name for port in bundle.outputs),
            notes=bundle.notes,
            exporter_seconds=seconds,
            unused_weights=tuple(unused),
        ),
    )
    return to_hub_opset(model) if newer else model


def _finish_newer(graph: ir.Graph) -> bool:
    """Say of which opset the nodes are that are newer than tf2onnx's, and whether there are any.

    And what attention drops, and where gradients stop.
    """
    found = False
    for node in ir.traversal.RecursiveGraphIterator(graph):
        if node.op_type in ("Attention", "RMSNormalization") and node.domain == "":
            node.version = attention_hooks.VERSION
            found = True
        if node.op_type == STOPS and node.domain == "":
            node.op_type = "Identity"
            node.attributes.clear()
            metadata.set_stops_gradient(node, True)
        if node.op_type == "Attention" and node.domain == "":
            ratio = node.attributes.pop(attention_hooks.DROPOUT, None)
            if ratio is not None:
                metadata.set_attention_dropout(node, ratio.as_float())
    return found


def _sort(graph: ir.Graph, source: _SourceGraph) -> None:
    """Put the nodes into the one topological order that follows the traced program most closely."""
    nodes = list(graph)
    positions = {node: position for position, node in enumerate(nodes)}
    rank = {}
    for node, position in positions.items():
        origin = source.node(node.name or "")
        rank[node] = (source.order[origin] if origin is not None else len(source.order), position)
    waiting = {
        node: {each for each in _producers(node) if each in positions and each is not node} for node in nodes
    }
    readers: dict[ir.Node, list[ir.Node]] = {}
    for node, needed in waiting.items():
        for each in needed:
            readers.setdefault(each, []).append(node)
    ready = [(rank[node], node) for node in nodes if not waiting[node]]
    heapq.heapify(ready)
    ordered = []
    while ready:
        _, node = heapq.heappop(ready)
        ordered.append(node)
        for reader in readers.get(node, ()):
            waiting[reader].discard(node)
            if not waiting[reader]:
                heapq.heappush(ready, (rank[reader], reader))
    graph.remove(nodes)
    graph.extend(ordered)
    for node in ordered:
        for body in _bodies(node):
            _sort(body, source)


def _bodies(node: ir.Node) -> list[ir.Graph]:
    bodies = []
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies.append(attribute.as_graph())
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies.extend(attribute.as_graphs())
    return bodies


def _producers(node: ir.Node) -> Iterable[ir.Node]:
    """The nodes whose values a node reads, from inside its bodies too."""
    read = list(node.inputs)
    for body in _bodies(node):
        for inner in ir.traversal.RecursiveGraphIterator(body):
            read.extend(inner.inputs)
        read.extend(body.outputs)
    return [value.producer() for value in read if value is not None and value.producer() is not None]  # type: ignore[misc]


def _bind_weights(graph: ir.Graph, bundle: Bundle, values: Mapping[str | None, ir.Value]) -> list[str]:
    """Turn the inputs that stand for weights into initializers; the answer is the paths nothing reads."""
    unused = [weight.path for weight in bundle.unused]
    stands_for = {f"{weight.node}:0": weight for weight in bundle.weights}
    bound = {}
    for name, weight in stands_for.items():
        value = values.get(name)
        if value is not None and (value.uses() or value.is_graph_output()):
            bound[name] = (value, weight)
        else:
            unused.append(weight.path)
    kept = [value for value in graph.inputs if value.name not in stands_for]
    graph.inputs.clear()
    graph.inputs.extend(kept)
    constants = list(graph.initializers.values())
    graph.initializers.clear()
    for value, weight in bound.values():
        value.const_value = ir.tensor(bundle.values[weight.node], name=value.name)
        metadata.set_weight_info(
            value, WeightInfo(weight.path, weight.kind, weight.trainable, weight.aliases)
        )
        graph.register_initializer(value)
    for value in constants:
        graph.register_initializer(value)
    return unused


def _rename_all(graph: ir.Graph, exported: Exported, bundle: Bundle, source: _SourceGraph) -> None:
    """Name everything after the source: no name keeps a counter of tf2onnx.

    Inputs and outputs take the names users see, weights their paths, values of TensorFlow tensors the
    tensor's name, and everything else the TensorFlow node it comes from.
    """
    names, nodes = _Names(), _Names()
    ports = {port.tensor: port for port in bundle.inputs}
    chosen: dict[ir.Value, str] = {}
    for value in graph.inputs:
        port = ports[value.name or ""]
        chosen[value] = names.exactly(port.name)
        metadata.set_source_value(value, port.tensor)
    for value, port in zip(graph.outputs, bundle.outputs, strict=True):
        chosen[value] = names.exactly(port.name)
        metadata.set_source_value(value, port.tensor)
    for value in graph.initializers.values():
        info = metadata.weight_info(value)
        if info is not None:
            chosen[value] = names.unique(info.path)
    _choose(graph, exported, source, names, nodes, chosen)
    for position, value in enumerate(chosen):
        value.name = f"\0{position}"
    for value, name in chosen.items():
        value.name = name


def _choose(
    graph: ir.Graph,
    exported: Exported,
    source: _SourceGraph,
    names: _Names,
    nodes: _Names,
    chosen: dict[ir.Value, str],
) -> None:
    constants = [value for value in graph.initializers.values() if value not in chosen]
    for value in graph.inputs:
        if value not in chosen:
            chosen[value] = names.unique(_base(value.name, source))
    for node in graph:
        origin = source.node(node.name or "")
        base = origin or node.op_type
        node.name = nodes.unique(base, node.op_type)
        for index, read in enumerate(node.inputs):
            if read is not None and read in constants and read not in chosen:
                known = source.node(read.name or "")
                chosen[read] = names.unique(known or f"{base}/constant_{index}")
        for body in _bodies(node):
            _choose(body, exported, source, names, nodes, chosen)
        for value in node.outputs:
            if value in chosen:
                continue
            tensor = value.name or ""
            permutation = _permutation(tensor, exported)
            if permutation is not None:
                metadata.set_source_value(value, tensor)
                metadata.set_source_permutation(value, permutation)
            chosen[value] = names.unique(tensor.replace(":0", "") if permutation is not None else node.name)
    for value in constants:
        if value not in chosen:
            chosen[value] = names.unique(_base(value.name, source))


def _base(name: str | None, source: _SourceGraph) -> str:
    return source.node(name or "") or _COUNTER.sub("", (name or "value").split(":")[0])


def _permutation(tensor: str, exported: Exported) -> tuple[int, ...] | None:
    """How a value's axes correspond to those of the TensorFlow tensor of the same name.

    Axis i of the value is axis `permutation[i]` of the tensor. tf2onnx changes layouts between channels
    last and channels first under the same name, so the answer is None unless the shapes leave one
    possibility only.
    """
    before, after = exported.source_shapes.get(tensor), exported.shapes.get(tensor)
    if before is None or after is None or len(before) != len(after):
        return None
    rank = len(before)
    candidates = [tuple(range(rank))]
    if rank >= 3:
        candidates += [(0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)]
    fitting = [each for each in dict.fromkeys(candidates) if tuple(before[axis] for axis in each) == after]
    return fitting[0] if len(fitting) == 1 else None


def _set_interface(graph: ir.Graph, bundle: Bundle) -> None:
    """Give inputs and outputs the shapes of the source, with names for the axes that stay dynamic."""
    for value, port in zip(graph.inputs, bundle.inputs, strict=True):
        value.shape = _shape(port, bundle.batched)
    for value, port in zip(graph.outputs, bundle.outputs, strict=True):
        value.shape = _shape(port, bundle.batched, named=False)
    for node in ir.traversal.RecursiveGraphIterator(graph):
        for output in node.outputs:
            if not output.is_graph_output():
                output.shape = None


def _find_unknown_ranks(model: ir.Model) -> None:
    """Give outputs of which TensorFlow does not know the rank the shapes that follow from the graph."""
    outputs = model.graph.outputs
    if all(value.shape is not None for value in outputs):
        return
    inferred = infer_shapes(find_loop_shapes(infer_shapes(model.clone(deep_copy=True))))
    named = {dim_of(size) for value in model.graph.inputs if value.shape is not None for size in value.shape}
    for value, found in zip(outputs, inferred.graph.outputs, strict=True):
        if value.shape is None and found.shape is not None:
            sizes = [dim_of(size) for size in found.shape]
            value.shape = ir.Shape(
                [size if isinstance(size, int) or size in named else None for size in sizes]
            )


def _shape(port: Port, batched: bool, *, named: bool = True) -> ir.Shape | None:
    if port.shape is None:
        return None
    axes: list[int | str | None] = []
    for axis, size in enumerate(port.shape):
        if size is not None:
            axes.append(size)
        elif axis == 0 and batched:
            axes.append(BATCH)
        else:
            axes.append(f"{re.sub(r'[^0-9A-Za-z_]', '_', port.name)}_{axis}" if named else None)
    return ir.Shape(axes)


class _Names:
    """Names that are taken."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def exactly(self, name: str) -> str:
        self._taken.add(name)
        return name

    def unique(self, name: str, suffix: str | None = None) -> str:
        candidate, number = name, 0
        if candidate in self._taken and suffix is not None:
            name = candidate = f"{name}/{suffix}"
        while candidate in self._taken:
            number += 1
            candidate = f"{name}_{number}"
        self._taken.add(candidate)
        return candidate
