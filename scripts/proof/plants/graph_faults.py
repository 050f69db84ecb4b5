"""Faults of a conversion's graph: what a wrong pass or a wrong lowering would have made of a node.

They are planted in the canonical hub graph, before it is prepared for a target, so that the emitted source,
its weights, the weight map and the anchors are those of a conversion with one wrong thing in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata, recipe
from bridge.hub.graph import is_trained, producer, rank, static_shape
from bridge.passes.shapes import infer_shapes
from scripts.proof.plants.faults import Fault
from scripts.proof.plants.weights import Array, perturbed

Applies = Callable[[ir.Node], bool]
Apply = Callable[[ir.Node], None]


@dataclass(frozen=True)
class GraphFault:
    """How one kind is planted in a node: where it applies, and what it does there."""

    applies: Applies
    apply: Apply


def sites(model: ir.Model) -> list[Fault]:
    """Every fault that can be planted in the graph, in order; the node is its first output."""
    return [
        Fault(kind, node.outputs[0].name or "")
        for node in model.graph
        for kind, fault in GRAPH_FAULTS.items()
        if fault.applies(node)
    ]


def plant(model: ir.Model, fault: Fault) -> None:
    """Plant a fault of `sites`. Raises KeyError if the graph has no such node."""
    for node in model.graph:
        if node.outputs[0].name == fault.node and GRAPH_FAULTS[fault.kind].applies(node):
            GRAPH_FAULTS[fault.kind].apply(node)
            return
    raise KeyError(fault)


def shaped(model: ir.Model) -> ir.Model:
    """The model with its shapes inferred anew, since a fault may change them."""
    for node in model.graph:
        for value in node.outputs:
            if value not in model.graph.outputs:
                value.shape = None
    return infer_shapes(model)


def _is(*op_types: str) -> Applies:
    return lambda node: node.domain == "" and node.op_type in op_types


def _attribute(node: ir.Node, name: str, default: Any) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _set(node: ir.Node, name: str, value: Any) -> None:
    kinds: dict[type, Callable[[str, Any], ir.Attr]] = {
        int: ir.AttrInt64,
        float: ir.AttrFloat32,
        str: ir.AttrString,
        list: ir.AttrInt64s,
    }
    node.attributes[name] = kinds[type(value)](name, value)


def _pads(node: ir.Node) -> tuple[int, ...]:
    return tuple(_attribute(node, "pads", ()))


def _weight(node: ir.Node) -> ir.Value | None:
    """The trained kernel of a convolution, matrix product or table."""
    if node.op_type in ("Conv", "Gemm", "MatMul", "ConvTranspose") and is_trained(node.inputs[1]):
        return node.inputs[1]
    if node.op_type == "Gather" and is_trained(node.inputs[0]):
        return node.inputs[0]
    return None


def _array(value: ir.Value | None) -> Array:
    if value is None or value.const_value is None:
        raise ValueError("not an initializer")
    return np.asarray(value.const_value.numpy())


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    return () if value is None else tuple(static_shape(value) or ())


def _replaced(value: ir.Value, array: Array) -> ir.Value:
    """A further initializer with the metadata of `value` and other numbers."""
    graph = value.graph
    if graph is None:
        raise ValueError("not an initializer of a graph")
    name = f"{value.name}.planted"
    tensor = ir.Tensor(np.ascontiguousarray(array), name=name)
    other = ir.Value(name=name, shape=ir.Shape(array.shape), type=value.type, const_value=tensor)
    other.metadata_props.update(value.metadata_props)
    graph.initializers[name] = other
    return other


def _use(node: ir.Node, old: ir.Value, new: ir.Value) -> None:
    for index, each in enumerate(node.inputs):
        if each is old:
            node.replace_input_with(index, new)


def _renumber(change: Callable[[Array], Array]) -> Apply:
    """Other numbers for the node's kernel under an honest weight map."""

    def apply(node: ir.Node) -> None:
        weight = _weight(node)
        if weight is not None:
            _use(node, weight, _replaced(weight, change(_array(weight))))

    return apply


def _move(position: Callable[[ir.Node], tuple[str, dict[str, Any]]]) -> Apply:
    """A wrong move of the node's kernel, of which the weight map says that it is right."""

    def apply(node: ir.Node) -> None:
        weight = _weight(node)
        if weight is None:
            return
        op, attributes = position(node)
        step = recipe.step(op, recipe.Source("it"), **attributes)
        moved = _replaced(weight, recipe.run(step, {"it": _array(weight)}))
        record = metadata.recipe_record(weight)
        if record is not None:
            metadata.set_recipe_record(
                moved, recipe.to_json(recipe.step(op, recipe.from_json(record), **attributes))
            )
        _use(node, weight, moved)

    return apply


def _after(node: ir.Node, op_type: str, *more: ir.Value, **attributes: Any) -> ir.Node:
    """Put a node behind another one; its result takes the other's name and place."""
    value = node.outputs[0]
    graph = node.graph
    if graph is None:
        raise ValueError("not a node of a graph")
    made = ir.node(op_type, [value, *more], attributes=attributes)
    result = made.outputs[0]
    for user, index in list(value.uses()):
        if user is not made:
            user.replace_input_with(index, result)
    for index, output in enumerate(graph.outputs):
        if output is value:
            graph.outputs[index] = result
    result.shape, result.type = value.shape, value.type
    result.metadata_props.update(value.metadata_props)
    name = value.name
    value.name = f"{name}.before_{op_type}_{len(graph)}"
    result.name = name
    value.metadata_props.clear()
    metadata.set_scope(made, metadata.scope_of(node))
    metadata.set_location(made, metadata.location_of(node))
    graph.insert_after(node, made)
    return made


def _constant(node: ir.Node, name: str, array: Any) -> ir.Value:
    graph = node.graph
    if graph is None:
        raise ValueError("not a node of a graph")
    tensor = ir.Tensor(np.asarray(array), name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.initializers[name] = value
    return value


def _is_float(value: ir.Value | None) -> bool:
    return value is not None and value.dtype == ir.DataType.FLOAT


def _epsilon(node: ir.Node) -> None:
    _set(node, "epsilon", 1e-5 if _attribute(node, "epsilon", 1e-5) > 1e-4 else 1e-3)


def _shifted(node: ir.Node) -> bool:
    pads = _pads(node)
    return _is("Conv", "AveragePool")(node) and len(pads) == 4 and all(each > 0 for each in pads[:2])


def _shift(node: ir.Node) -> None:
    top, left, bottom, right = _pads(node)
    _set(node, "pads", [top - 1, left - 1, bottom + 1, right + 1])


def _square(node: ir.Node) -> bool:
    shape = _shape(_weight(node))
    return node.op_type == "Conv" and len(shape) == 4 and shape[2] == shape[3] > 1


def _group_roll(node: ir.Node) -> tuple[str, dict[str, Any]]:
    rows = _shape(_weight(node))[0]
    step = rows // _attribute(node, "group", 1)
    return "take", {"axis": 0, "indices": np.roll(np.arange(rows), step).tolist()}


def _channel_swap(node: ir.Node) -> tuple[str, dict[str, Any]]:
    order = list(range(_shape(_weight(node))[1]))
    order[0], order[-1] = order[-1], order[0]
    return "take", {"axis": 1, "indices": order}


def _table_shift(node: ir.Node) -> tuple[str, dict[str, Any]]:
    rows = _shape(_weight(node))[0]
    return "take", {"axis": 0, "indices": np.roll(np.arange(rows), 1).tolist()}


def _swap_dilations(node: ir.Node) -> None:
    for name in ("dilations", "pads"):
        values = tuple(_attribute(node, name, ()))
        pairs = [values[index : index + 2][::-1] for index in range(0, len(values), 2)]
        _set(node, name, [each for pair in pairs for each in pair])


def _has_bias(node: ir.Node) -> bool:
    return node.op_type in ("Conv", "Gemm") and len(node.inputs) > 2 and is_trained(node.inputs[2])


def _adds_bias(node: ir.Node) -> bool:
    product = producer(node.inputs[0], "MatMul") if node.op_type == "Add" else None
    return product is not None and is_trained(product.inputs[1]) and is_trained(node.inputs[1])


def _drop_bias(node: ir.Node) -> None:
    if node.op_type == "Add":
        node.op_type = "Identity"
        node.resize_inputs(1)
    else:
        node.resize_inputs(2)


def _statistics(node: ir.Node) -> None:
    for index, fill in ((3, 0.0), (4, 1.0)):
        value = node.inputs[index]
        if value is not None:
            node.replace_input_with(index, _replaced(value, np.full_like(_array(value), fill)))


def _slope(node: ir.Node) -> None:
    _set(node, "alpha", 2 * _attribute(node, "alpha", 0.01))


def _coordinate_mode(node: ir.Node) -> None:
    mode = _attribute(node, "coordinate_transformation_mode", "half_pixel")
    _set(node, "coordinate_transformation_mode", "asymmetric" if mode == "half_pixel" else "half_pixel")


def _upper_bound(node: ir.Node) -> None:
    bound = _array(node.inputs[2])
    node.replace_input_with(
        2, _constant(node, f"{node.outputs[0].name}.planted", bound * bound.dtype.type(1.02))
    )


def _has_bounds(node: ir.Node) -> bool:
    return (
        node.op_type == "Clip"
        and len(node.inputs) > 2
        and node.inputs[2] is not None
        and node.inputs[2].const_value is not None
        and _is_float(node.inputs[0])
    )


def _upper_clip(node: ir.Node) -> None:
    name = node.outputs[0].name
    low = _constant(node, f"{name}.low", np.float32(0))
    _after(node, "Clip", low, _constant(node, f"{name}.high", np.float32(6)))


def _half(node: ir.Node) -> None:
    there = _after(node, "Cast", to=ir.DataType.FLOAT16.value)
    back = _after(there, "Cast", to=ir.DataType.FLOAT.value)
    there.outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    back.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)


_NAN_TEST = ".nan"


def inserted(fault: Fault) -> tuple[str, ...]:
    """The names of values that a fault adds to the graph and that a report may name for it."""
    return (f"{fault.node}{_NAN_TEST}",) if fault.kind == "lost_nan" else ()


def _zero_nan(node: ir.Node) -> None:
    name = node.outputs[0].name
    where = _after(node, "Where", node.outputs[0], node.outputs[0])
    test = ir.node("IsNaN", [node.outputs[0]])
    test.outputs[0].name = f"{name}{_NAN_TEST}"
    test.outputs[0].type = ir.TensorType(ir.DataType.BOOL)
    test.outputs[0].shape = node.outputs[0].shape
    metadata.set_scope(test, metadata.scope_of(node))
    if node.graph is None:
        raise ValueError("not a node of a graph")
    node.graph.insert_before(where, test)
    where.replace_input_with(0, test.outputs[0])
    where.replace_input_with(1, _constant(node, f"{name}.zero", np.float32(0)))


def _splits_last(node: ir.Node) -> bool:
    """A reshape that splits the last axis in two."""
    before, after = rank(node.inputs[0]), rank(node.outputs[0])
    if node.op_type != "Reshape" or before is None or after != before + 1:
        return False
    split = _last_two(node.outputs[0])
    return split is not None and min(split) > 1 and node.inputs[0] is not None


def _last_two(value: ir.Value) -> tuple[int, int] | None:
    sizes = [] if value.shape is None else list(value.shape)[-2:]
    match sizes:
        case [int(first), int(second)]:
            return first, second
    return None


def _split_wrong(node: ir.Node) -> None:
    """Split into (b, a) and transpose, where it should split into (a, b)."""
    target = _array(node.inputs[1]).copy()
    shape = node.outputs[0].shape
    axes = [*range(len(target) - 2), len(target) - 1, len(target) - 2]
    made = _after(node, "Transpose", perm=axes)
    target[[-1, -2]] = target[[-2, -1]]
    node.replace_input_with(1, _constant(node, f"{made.outputs[0].name}.shape", target))
    if shape is not None:
        node.outputs[0].shape = ir.Shape([shape[axis] for axis in axes])


def _flattens(node: ir.Node) -> bool:
    shape = _shape_tail(node.inputs[0])
    return node.op_type == "Flatten" and sum(size > 1 for size in shape) > 1


def _shape_tail(value: ir.Value | None) -> tuple[int, ...]:
    """The sizes but for axis 0; empty where one is not known."""
    if value is None or value.shape is None:
        return ()
    sizes = [each for each in list(value.shape)[1:] if isinstance(each, int)]
    return tuple(sizes) if len(sizes) == len(value.shape) - 1 else ()


def _flatten_wrong(node: ir.Node) -> None:
    """Flatten the channels last where they are first, or the other way round."""
    data = node.inputs[0]
    if data is None or data.shape is None or node.graph is None:
        raise ValueError("not a node of a graph")
    axes = [0, *range(2, len(data.shape)), 1]
    moved = ir.node("Transpose", [data], attributes={"perm": axes})
    moved.outputs[0].name = f"{node.outputs[0].name}.planted"
    moved.outputs[0].type = data.type
    moved.outputs[0].shape = ir.Shape([data.shape[axis] for axis in axes])
    metadata.set_scope(moved, metadata.scope_of(node))
    node.graph.insert_before(node, moved)
    node.replace_input_with(0, moved.outputs[0])


def _constant_operand(node: ir.Node) -> bool:
    return (
        node.op_type in ("Div", "Mul")
        and _is_float(node.inputs[0])
        and node.inputs[1] is not None
        and node.inputs[1].const_value is not None
        and node.inputs[1].const_value.size == 1
        and (rank(node.inputs[0]) or 0) >= 3
    )


def _scale(node: ir.Node) -> None:
    value = _array(node.inputs[1])
    node.replace_input_with(
        1, _constant(node, f"{node.outputs[0].name}.planted", value * value.dtype.type(2**0.5))
    )


def _reverse_inputs(node: ir.Node) -> None:
    inputs = list(node.inputs)
    for index, value in enumerate(reversed(inputs)):
        node.replace_input_with(index, value)


def _concatenates_alike(node: ir.Node) -> bool:
    return node.op_type == "Concat" and len(node.inputs) == 2 and all(_is_float(each) for each in node.inputs)


def _toggle(name: str, default: int) -> Apply:
    return lambda node: _set(node, name, 1 - _attribute(node, name, default))


def _pads_something(node: ir.Node) -> bool:
    return node.op_type == "AveragePool" and any(_pads(node))


_NORMALISATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "InstanceNormalization")
_ACTIVATIONS = ("Relu", "Gelu", "LeakyRelu", "Sigmoid", "HardSwish", "Clip", "Softmax")


def _trained(*op_types: str) -> Applies:
    return lambda node: node.op_type in op_types and _weight(node) is not None


def _both(*tests: Applies) -> Applies:
    return lambda node: all(test(node) for test in tests)


def _pool_size_would_change(node: ir.Node) -> bool:
    """Whether rounding up and down give different sizes."""
    sizes = _shape_tail(node.inputs[0])[1:]
    pads = _pads(node) or (0,) * (2 * len(sizes))
    kernel = _attribute(node, "kernel_shape", ())
    strides = _attribute(node, "strides", (1,) * len(sizes))
    return bool(sizes) and any(
        (size + pads[axis] + pads[axis + len(sizes)] - kernel[axis]) % strides[axis]
        for axis, size in enumerate(sizes)
    )


GRAPH_FAULTS: Mapping[str, GraphFault] = {
    "activation_half": GraphFault(_both(_is(*_ACTIVATIONS), lambda node: _is_float(node.outputs[0])), _half),
    "activation_slope": GraphFault(_is("LeakyRelu", "Elu"), _slope),
    "attention_scale": GraphFault(_constant_operand, _scale),
    "batch_norm_momentum": GraphFault(_is("BatchNormalization"), lambda node: _set(node, "momentum", 0.95)),
    "ceil_mode": GraphFault(
        _both(_is("MaxPool", "AveragePool"), _pool_size_would_change), _toggle("ceil_mode", 0)
    ),
    "clipped_range": GraphFault(
        lambda node: _has_bounds(node) or node.op_type == "Relu",
        lambda node: _upper_bound(node) if node.op_type == "Clip" else _upper_clip(node),
    ),
    "concat_order": GraphFault(_concatenates_alike, _reverse_inputs),
    "count_include_pad": GraphFault(_pads_something, _toggle("count_include_pad", 0)),
    "dilations_swapped": GraphFault(
        lambda node: node.op_type == "Conv" and len(set(_attribute(node, "dilations", ()))) > 1,
        _swap_dilations,
    ),
    "embedding_shift": GraphFault(_trained("Gather"), _move(_table_shift)),
    "epsilon": GraphFault(_is(*_NORMALISATIONS), _epsilon),
    "float16_weight": GraphFault(
        _trained("Conv", "Gemm", "MatMul", "Gather"),
        _renumber(lambda array: array.astype(np.float16).astype(array.dtype)),
    ),
    "gelu_tanh": GraphFault(
        lambda node: node.op_type == "Gelu" and _attribute(node, "approximate", "none") == "none",
        lambda node: _set(node, "approximate", "tanh"),
    ),
    "group_order": GraphFault(
        lambda node: (
            node.op_type == "Conv" and _attribute(node, "group", 1) > 1 and _weight(node) is not None
        ),
        _move(_group_roll),
    ),
    "lost_nan": GraphFault(
        _both(_is("Clip", "Log", "Relu"), lambda node: _is_float(node.outputs[0])), _zero_nan
    ),
    "missing_bias": GraphFault(
        lambda node: _has_bias(node) or _adds_bias(node),
        _drop_bias,
    ),
    "padding_shift": GraphFault(_shifted, _shift),
    "perturbed_weight": GraphFault(_trained("Conv", "Gemm", "MatMul", "Gather"), _renumber(perturbed)),
    "reshape_order": GraphFault(
        lambda node: _splits_last(node) or _flattens(node),
        lambda node: _flatten_wrong(node) if node.op_type == "Flatten" else _split_wrong(node),
    ),
    "resize_mode": GraphFault(_is("Resize"), _coordinate_mode),
    "rounding": GraphFault(_is("Round"), lambda node: _round_away(node)),
    "softmax_axis": GraphFault(
        lambda node: node.op_type == "Softmax" and (rank(node.inputs[0]) or 0) > 2,
        lambda node: _set(node, "axis", -2),
    ),
    "stale_statistics": GraphFault(_is("BatchNormalization"), _statistics),
    "swapped_channels": GraphFault(
        lambda node: (
            node.op_type == "Conv" and len(_shape(_weight(node))) == 4 and _shape(_weight(node))[1] > 2
        ),
        _move(_channel_swap),
    ),
    "transposed_dense": GraphFault(
        lambda node: node.op_type in ("Gemm", "MatMul") and len(set(_shape(_weight(node)))) == 1,
        _move(lambda node: ("transpose", {"perm": [1, 0]})),
    ),
    "transposed_kernel": GraphFault(_square, _move(lambda node: ("transpose", {"perm": [0, 1, 3, 2]}))),
}
"""The kinds that are planted in the graph; those without an ONNX form are planted in the emitted source."""


def _round_away(node: ir.Node) -> None:
    """Halves away from zero: floor(x + 0.5) for every x."""
    name = node.outputs[0].name
    data = node.inputs[0]
    if data is None or node.graph is None:
        raise ValueError("not a node of a graph")
    shifted = ir.node("Add", [data, _constant(node, f"{name}.half", np.float32(0.5))])
    shifted.outputs[0].name = f"{name}.planted"
    shifted.outputs[0].type, shifted.outputs[0].shape = data.type, data.shape
    metadata.set_scope(shifted, metadata.scope_of(node))
    node.graph.insert_before(node, shifted)
    node.replace_input_with(0, shifted.outputs[0])
    node.op_type = "Floor"
