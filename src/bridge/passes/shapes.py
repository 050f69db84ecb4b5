"""Symbolic shape inference: every value gets a type and, as far as it can be known, a shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

import onnx
import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.hub.graph import all_nodes, bodies, light_proto
from bridge.passes.contrib_shapes import infer_contrib_shapes
from bridge.passes.dims import Contents, Dim, contents, dim_of, known_contents
from bridge.passes.whole_slices import reversed_axis

_ROUNDS = 8
"""Inference and refinement alternate; deep chains of computed shapes need a few rounds."""


def infer_shapes(model: ir.Model) -> ir.Model:
    """Infer types and shapes of all values from the inputs, with symbolic axes.

    Shapes that the source recorded count as far as they are numbers or symbols of the inputs. ONNX's
    inference does the operators; Reshape is refined here, where symbols cancel (`[N,2,3]` to `[N,-1]`).
    Raises BridgeError where the graph contradicts itself.
    """
    _forget_foreign_symbols(model)
    for _ in range(_ROUNDS):
        infer_contrib_shapes(model)
        _infer_with_onnx(model)
        if not _refine_reshapes(model):
            break
    return model


def _forget_foreign_symbols(model: ir.Model) -> None:
    """Names of axes that no input has are made up by a converter, often anew for each value."""
    own = {_symbol(axis) for value in model.graph.inputs if value.shape is not None for axis in value.shape}
    for graph in model.graphs():
        values = [*(output for node in graph for output in node.outputs)]
        if graph is not model.graph:
            values.extend(graph.inputs)
        for value in values:
            if value.shape is not None:
                value.shape = ir.Shape(
                    [axis if isinstance(axis, int) or _symbol(axis) in own else None for axis in value.shape]
                )


def _symbol(axis: int | ir.SymbolicDim) -> str | None:
    return None if isinstance(axis, int) else axis.value


def _infer_with_onnx(model: ir.Model) -> None:
    light = light_proto(model)
    try:
        proto = _infer(light, data_prop=True)
    except onnx.shape_inference.InferenceError:
        try:
            proto = _infer(light, data_prop=False)
        except onnx.shape_inference.InferenceError as error:
            raise BridgeError(f"the shapes of the graph contradict each other: {error}") from error
    merge_inferred(model.graph, proto.graph)


def _infer(proto: onnx.ModelProto, *, data_prop: bool) -> onnx.ModelProto:
    """ONNX's inference; its propagation of data fails on some valid graphs (integer tables of rank 2)."""
    return onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=data_prop)


def merge_inferred(graph: ir.Graph, proto: onnx.GraphProto, *, is_body: bool = False) -> None:
    """Take the types and shapes of values from the protobuf of the same graph after inference."""
    infos = {info.name: info for info in (*proto.value_info, *proto.output)}
    if is_body:
        infos.update((info.name, info) for info in proto.input)
        for value in graph.inputs:
            _update(value, infos.get(str(value.name)))
    for node, node_proto in zip(graph, proto.node, strict=True):
        for output in node.outputs:
            _update(output, infos.get(str(output.name)))
        if next(bodies(node), None) is not None:
            protos = {each.name: each for each in node_proto.attribute}
            for each in node.attributes.values():
                if each.type == ir.AttributeType.GRAPH:
                    merge_inferred(each.as_graph(), protos[each.name].g, is_body=True)


def _update(value: ir.Value, info: onnx.ValueInfoProto | None) -> None:
    if info is None:
        return
    typed = ir.serde.deserialize_value_info_proto(info, None)
    if typed.type is not None:
        value.type = typed.type
    if typed.shape is not None:
        value.shape = typed.shape


def _refine_reshapes(model: ir.Model) -> bool:
    """Give outputs of Reshape the axes that follow from counting elements, and Range its length.

    Returns whether any became known.
    """
    known = known_contents(model)
    changed = False
    for node in all_nodes(model):
        if node.op_type == "Range" and node.domain == "":
            changed |= _refine_range(node, known)
        if node.op_type == "Slice" and node.domain == "":
            changed |= _refine_reversed(node)
        if node.op_type != "Reshape" or node.domain != "":
            continue
        output = node.outputs[0]
        target = contents(node.inputs[1], known)
        data = node.inputs[0]
        if data is None or data.shape is None or target is None:
            continue
        dims = reshaped(
            [dim_of(axis) for axis in data.shape], target, bool(node.attributes.get_int("allowzero", 0))
        )
        present = [None] * len(dims) if output.shape is None else [dim_of(axis) for axis in output.shape]
        merged = [new if _is_better(new, old) else old for new, old in zip(dims, present, strict=True)]
        if merged != present or output.shape is None:
            output.shape = ir.Shape(merged)
            changed = True
    return changed


def _refine_range(node: ir.Node, known: Mapping[ir.Value, Contents]) -> bool:
    """`0, 1, ...` up to the size of an axis is as long as the axis."""
    start, limit, step = (contents(value, known) for value in node.inputs)
    output = node.outputs[0]
    if start != (0,) or step != (1,) or limit is None or not isinstance(limit[0], str):
        return False
    present = None if output.shape is None else dim_of(output.shape[0])
    if not _is_better(limit[0], present):
        return False
    output.shape = ir.Shape([limit[0]])
    return True


def _refine_reversed(node: ir.Node) -> bool:
    """An axis that is read backwards from its end to its start stays as long as it is."""
    data, output, axis = node.inputs[0], node.outputs[0], reversed_axis(node)
    if axis is None or data is None or data.shape is None or output.shape is None:
        return False
    old, new = dim_of(output.shape[axis]), dim_of(data.shape[axis])
    if not _is_better(new, old):
        return False
    dims = [dim_of(each) for each in output.shape]
    dims[axis] = new
    output.shape = ir.Shape(dims)
    return True


def _is_better(new: Dim, old: Dim) -> bool:
    """Whether an axis is known better: a number over a symbol, a symbol over nothing or a made-up symbol."""
    if new is None or new == old or isinstance(old, int):
        return False
    return isinstance(new, int) or old is None or old.startswith("unk__")


def reshaped(source: list[Dim], target: tuple[Dim, ...], allowzero: bool) -> list[Dim]:
    """The axes of a Reshape's result, from the axes of its data and the contents of its target."""
    dims: list[Dim] = [
        source[axis] if entry == 0 and not allowzero and axis < len(source) else entry
        for axis, entry in enumerate(target)
    ]
    if -1 not in dims:
        return dims
    free = dims.index(-1)
    rest = dims[:free] + dims[free + 1 :]
    dims[free] = _quotient(source, rest)
    return dims


def _quotient(source: list[Dim], rest: list[Dim]) -> Dim:
    """The product of `source` over the product of `rest`, if equal symbols cancel to one axis."""
    if None in source or None in rest:
        return None
    symbols = Counter(axis for axis in source if isinstance(axis, str))
    removed = Counter(axis for axis in rest if isinstance(axis, str))
    if removed - symbols:
        return None
    left = list((symbols - removed).elements())
    above = prod(axis for axis in source if isinstance(axis, int))
    below = prod(axis for axis in rest if isinstance(axis, int))
    if below == 0 or above % below:
        return None
    if not left:
        return above // below
    return left[0] if len(left) == 1 and above == below else None
