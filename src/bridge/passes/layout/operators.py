"""Which relation each ONNX operator has: the only place of this pass that knows operators by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.metadata import Layout
from bridge.hub.recipe import Array
from bridge.passes.layout import axes
from bridge.passes.layout.relations import (
    Dense,
    Fixed,
    Joined,
    Label,
    Mapped,
    MappedParameters,
    Observing,
    Parameters,
    Relation,
    Rewriter,
    Tied,
)
from bridge.passes.layout.storage import Dims, Storage, native, plain, stored_dims


class Facts(Protocol):
    """What is known of the values of a graph."""

    def dims(self, value: ir.Value) -> Dims | None:
        """The hub's dimensions; None if the rank is unknown."""

    def constant(self, value: ir.Value) -> Array | None:
        """The values of an initializer or Constant; None for anything computed."""

    def is_constant(self, value: ir.Value) -> bool:
        """Whether a value is an initializer or a Constant."""

    def use_count(self, value: ir.Value) -> int:
        """How many node inputs, graph outputs and subgraphs use a value."""


_SENSITIVE: dict[str, tuple[int, ...]] = {
    "AveragePool": (0,),
    "BatchNormalization": (0,),
    "Conv": (0,),
    "ConvInteger": (0,),
    "ConvTranspose": (0,),
    "DeformConv": (0, 2, 4),
    "DepthToSpace": (0,),
    "GlobalAveragePool": (0,),
    "GlobalLpPool": (0,),
    "GlobalMaxPool": (0,),
    "GridSample": (0,),
    "GroupNormalization": (0,),
    "InstanceNormalization": (0,),
    "LRN": (0,),
    "LpPool": (0,),
    "MaxPool": (0,),
    "MaxRoiPool": (0,),
    "MaxUnpool": (0, 1),
    "QLinearConv": (0,),
    "Resize": (0,),
    "RoiAlign": (0,),
    "SpaceToDepth": (0,),
    "Upsample": (0,),
}
"""Operators whose definition says which axis is the channel, and their operands `[N, C, *spatial]`."""

_OF_ANY_RANK = frozenset({"Resize"})
"""Those of them that take tensors without spatial axes, which are stored as ONNX has them in any layout."""

_UNARY = frozenset(
    [
        "Abs",
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "BitwiseNot",
        "Cast",
        "Ceil",
        "Celu",
        "Clip",
        "Cos",
        "Cosh",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Floor",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "IsInf",
        "IsNaN",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Not",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Shrink",
        "Sigmoid",
        "Sign",
        "Sin",
        "Sinh",
        "Softplus",
        "Softsign",
        "Sqrt",
        "Swish",
        "Tan",
        "Tanh",
        "ThresholdedRelu",
    ]
)
"""Elementwise on input 0; further inputs are scalars."""

_BROADCASTING = frozenset(
    [
        "Add",
        "And",
        "BitShift",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "Div",
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "Max",
        "Mean",
        "Min",
        "Mod",
        "Mul",
        "Or",
        "PRelu",
        "Pow",
        "Sub",
        "Sum",
        "Where",
        "Xor",
    ]
)
"""Elementwise on all inputs, with broadcasting."""

_REDUCTIONS = frozenset(
    [
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
        "ReduceMin",
        "ReduceProd",
        "ReduceSum",
        "ReduceSumSquare",
    ]
)

_AXIS_ATTRIBUTE: dict[str, tuple[int, tuple[int, ...]]] = {
    "GatherElements": (0, (0, 1)),
    "Hardmax": (-1, (0,)),
    "LogSoftmax": (-1, (0,)),
    "LpNormalization": (-1, (0,)),
    "ScatterElements": (0, (0, 1, 2)),
    "Softmax": (-1, (0,)),
    "Split": (0, (0,)),
    "TopK": (-1, (0,)),
}
"""Operators along one axis: the attribute's default and the inputs that have the axes of the result."""


def relation_of(
    node: ir.Node, facts: Facts, *, layout: Layout, sensitive: Callable[[ir.Node], bool] | None
) -> Relation:
    """The relation of a node; one that cannot be followed must compute exactly as the hub says."""
    relation: Relation | None = None
    if not any(attribute.type in _GRAPHS for attribute in node.attributes.values()):
        chosen = sensitive(node) if sensitive is not None else is_sensitive(node)
        if chosen:
            relation = _sensitive(node, facts, layout)
        if relation is None and node.domain == "":
            builder = _BUILDERS.get(node.op_type)
            relation = builder(node, facts, layout) if builder is not None else None
    return relation if relation is not None else strict(node, facts)


_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def is_sensitive(node: ir.Node) -> bool:
    """Whether ONNX defines the operator for channels-first tensors only."""
    return node.domain == "" and node.op_type in _SENSITIVE


def strict(node: ir.Node, facts: Facts) -> Fixed:
    """The relation of a node that needs every operand as the hub says."""
    operands = _computed(node, facts)
    return Fixed(
        operands,
        Label(
            tuple(plain(_rank(node, index, facts)) for index in operands),
            tuple(plain(len(facts.dims(output) or ())) for output in node.outputs),
        ),
    )


def _computed(node: ir.Node, facts: Facts) -> tuple[int, ...]:
    return tuple(
        index for index, value in enumerate(node.inputs) if value is not None and not facts.is_constant(value)
    )


def _rank(node: ir.Node, index: int, facts: Facts) -> int:
    value = node.inputs[index]
    assert value is not None
    return len(facts.dims(value) or ())


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _input_dims(node: ir.Node, index: int, facts: Facts) -> Dims | None:
    value = _input(node, index)
    return None if value is None else facts.dims(value)


def _integers(node: ir.Node, index: int, facts: Facts) -> list[int] | None:
    """The elements of an integer parameter input; None if it is absent or computed."""
    value = _input(node, index)
    array = None if value is None else facts.constant(value)
    return None if array is None else [int(each) for each in array.reshape(-1)]


def _attribute(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _ranks(node: ir.Node, operands: Sequence[int], facts: Facts) -> tuple[int, ...]:
    return tuple(_rank(node, index, facts) for index in operands)


def _result_ranks(node: ir.Node, facts: Facts) -> tuple[int, ...]:
    return tuple(len(facts.dims(output) or ()) for output in node.outputs)


def _sensitive(node: ir.Node, facts: Facts, layout: Layout) -> Fixed | None:
    """The relation of an operator on `[N, C, *spatial]`; None if it lacks spatial axes."""
    spatial = _SENSITIVE.get(node.op_type, (0,))
    data = _input_dims(node, 0, facts)
    if data is None or facts.dims(node.outputs[0]) is None:
        return None
    if len(data) < 3 and node.op_type not in _OF_ANY_RANK:
        return None

    def storage(value: ir.Value | None, follows: bool) -> Storage:
        rank = len((facts.dims(value) if value is not None else None) or ())
        return native(layout, rank) if follows else plain(rank)

    operands = _computed(node, facts)
    constants = tuple(
        (index, storage(node.inputs[index], True))
        for index in spatial
        if index not in operands and _input(node, index) is not None
    )
    return Fixed(
        operands,
        Label(
            tuple(storage(node.inputs[index], index in spatial) for index in operands),
            tuple(storage(output, True) for output in node.outputs),
        ),
        layout,
        constants if layout == "channels_last" else (),
    )


def _tied(
    node: ir.Node,
    facts: Facts,
    inputs: Sequence[int],
    *,
    parameters: Parameters | None = None,
    foldable: bool = False,
    whole: bool = False,
    permutable: bool = True,
) -> Tied | None:
    """The relation of a node whose `inputs` and results share their axes; None if a rank is unknown."""
    outputs = [facts.dims(output) for output in node.outputs]
    shapes = {index: _input_dims(node, index, facts) for index in inputs}
    rank = len(outputs[0] or ())
    if any(dims is None for dims in [*outputs, *shapes.values()]):
        return None
    known = {index: dims for index, dims in shapes.items() if dims is not None}
    full = {index for index, dims in known.items() if len(dims) == rank}
    if any(len(dims) > rank for dims in known.values()) or (whole and len(full) < len(known)):
        return None
    computed = _computed(node, facts)
    dims_of_all = [dims for dims in outputs if dims is not None] + [known[index] for index in full]
    lower = frozenset(
        index
        for index in known
        if index in computed and index not in full and math.prod(_sizes(known[index])) != 1
    )
    folds = frozenset(
        axis
        for axis in range(rank)
        if foldable and not lower and _is_static([dims[axis] for dims in dims_of_all if len(dims) == rank])
    )
    return Tied(
        operands=computed,
        ranks=_ranks(node, computed, facts),
        result_ranks=_result_ranks(node, facts),
        rank=rank,
        tied=frozenset(full),
        lower=lower,
        constants=tuple(index for index in inputs if index not in computed),
        foldable=folds,
        whole=whole,
        permutable=permutable,
        **({} if parameters is None else {"parameters": parameters}),
    )


def _sizes(dims: Dims) -> tuple[int, ...]:
    """The sizes with 0 for what is dynamic."""
    return tuple(dim if isinstance(dim, int) else 0 for dim in dims)


def _is_static(dims: Sequence[int | str]) -> bool:
    """Whether an axis has one size everywhere, or is broadcast from size 1."""
    return all(isinstance(dim, int) for dim in dims) and len(set(dims) - {1}) <= 1


Builder = Callable[[ir.Node, Facts, Layout], Relation | None]


def _elementwise(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    return _tied(node, facts, (0,), foldable=True)


def _broadcasting(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    return _tied(node, facts, range(len(node.inputs)), foldable=True)


def _stored_axis(axis: int, storage: Storage) -> int:
    rank = len(storage.order)
    return storage.order.index(axis + rank if axis < 0 else axis)


def _move_attribute(name: str, default: int) -> Parameters:
    """Renumber an attribute that names an axis."""

    def move(node: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
        node.attributes[name] = ir.AttrInt64(name, _stored_axis(_attribute(node, name, default), storage))

    return move


def _along_axis(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    default, inputs = _AXIS_ATTRIBUTE[node.op_type]
    return _tied(node, facts, inputs, parameters=_move_attribute("axis", default), whole=True)


def _concat(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    tied = _tied(node, facts, range(len(node.inputs)), parameters=_move_attribute("axis", 0), whole=True)
    if tied is None:
        return None
    axis = _attribute(node, "axis", 0) % tied.rank
    widths = tuple((_input_dims(node, index, facts) or ())[axis] for index in range(len(node.inputs)))
    sizes = tuple(width for width in widths if isinstance(width, int))
    return Joined(tied, axis, sizes) if len(sizes) == len(widths) else tied


def _quantization(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    scale = _input_dims(node, 1, facts)
    if scale is None or len(scale) > 1:
        return None
    parameters = _move_attribute("axis", 1) if scale and scale != (1,) else None
    return _tied(node, facts, (0,), parameters=parameters, whole=True)


def _move_axes_input(index: int) -> Parameters:
    """Renumber a constant input that lists axes; an absent one lists them all in order."""

    def move(node: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
        value = _input(node, index)
        array = None if value is None else rewriter.constant(value)
        listed = range(len(storage.order)) if array is None else array.reshape(-1).tolist()
        stored = np.asarray([_stored_axis(axis, storage) for axis in listed])
        shape, dtype = (stored.shape, np.dtype(np.int64)) if array is None else (array.shape, array.dtype)
        rewriter.set_constant(node, index, stored.astype(dtype).reshape(shape), "axes")

    return move


def _has_computed(node: ir.Node, index: int, facts: Facts) -> bool:
    value = _input(node, index)
    return value is not None and not facts.is_constant(value)


def _cumulative(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    if _has_computed(node, 1, facts):
        return None
    return _tied(node, facts, (0,), parameters=_move_axes_input(1), whole=True)


def _slice(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    if _has_computed(node, 3, facts):
        return None
    if _input(node, 3) is None:
        starts = _input_dims(node, 1, facts)
        data = _input_dims(node, 0, facts)
        if starts is None or data is None or starts != (len(data),):
            return None
    return _tied(node, facts, (0,), parameters=_move_axes_input(3), whole=True)


def _pad(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    if _has_computed(node, 3, facts):
        return None

    def move(target: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
        pads = _input(target, 1)
        array = None if pads is None else rewriter.constant(pads)
        if _input(target, 3) is not None or array is None:
            _move_axes_input(3)(target, storage, rewriter)
            return
        both = array.reshape(2, -1)[:, list(storage.order)]
        rewriter.set_constant(target, 1, both.reshape(-1), "pads")

    return _tied(node, facts, (0,), parameters=move, whole=True)


def _sized(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    """Expand and Tile: the second input has one number an axis."""
    if _integers(node, 1, facts) is None:
        return None

    def move(target: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
        value = target.inputs[1]
        array = None if value is None else rewriter.constant(value)
        assert array is not None
        rank = len(storage.order)
        whole = np.concatenate([np.ones(rank - array.size, array.dtype), array.reshape(-1)])
        rewriter.set_constant(target, 1, whole[list(storage.order)], "sizes")

    return _tied(node, facts, (0,), parameters=move)


def _reverse_sequence(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    def move(target: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
        _move_attribute("batch_axis", 1)(target, storage, rewriter)
        _move_attribute("time_axis", 0)(target, storage, rewriter)

    return _tied(node, facts, (0,), parameters=move, whole=True)


def _batch_normalization(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    """On `[N, features]` only: the statistics follow a folded feature axis."""
    data = _input_dims(node, 0, facts)
    if data is None or len(data) != 2 or len(node.outputs) > 1:
        return None
    if any(_has_computed(node, index, facts) for index in range(1, 5)):
        return None
    return _tied(node, facts, range(len(node.inputs)), foldable=True, permutable=False)


def _reduced_axes(node: ir.Node, facts: Facts, rank: int) -> list[int] | None:
    """The axes a reduction runs over; None if they are computed."""
    if _has_computed(node, 1, facts):
        return None
    listed = _integers(node, 1, facts)
    if not listed:
        return [] if _attribute(node, "noop_with_empty_axes", 0) else list(range(rank))
    return [axis + rank if axis < 0 else axis for axis in listed]


def _reduction(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    data = _input_dims(node, 0, facts)
    reduced = None if data is None else _reduced_axes(node, facts, len(data))
    if data is None or reduced is None:
        return None
    named = bool(_integers(node, 1, facts))
    if _attribute(node, "keepdims", 1):
        return _tied(node, facts, (0,), parameters=_move_axes_input(1) if named else None, whole=True)

    def move(target: ir.Node, source: Storage, result: Storage, rewriter: Rewriter) -> None:
        if named:
            _move_axes_input(1)(target, source, rewriter)

    return _mapped(node, facts, layout, axes.dropping(len(data), reduced), move)


def _arg_reduction(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    data = _input_dims(node, 0, facts)
    if data is None:
        return None
    parameters = _move_attribute("axis", 0)
    if _attribute(node, "keepdims", 1):
        return _tied(node, facts, (0,), parameters=parameters, whole=True)
    axis = _attribute(node, "axis", 0) % len(data)

    def move(target: ir.Node, source: Storage, result: Storage, rewriter: Rewriter) -> None:
        parameters(target, source, rewriter)

    return _mapped(node, facts, layout, axes.dropping(len(data), [axis]), move)


def _mapped(
    node: ir.Node,
    facts: Facts,
    layout: Layout,
    groups: axes.Groups,
    parameters: MappedParameters,
    feasible: Callable[[Storage, Storage], bool] = lambda source, target: source.fold is target.fold is None,
) -> Mapped | None:
    operands = _computed(node, facts)
    before, after = _input_dims(node, 0, facts), facts.dims(node.outputs[0])
    if before is None or after is None or 0 not in operands:
        return None
    if {axis for group in groups for axis in group.after} != set(range(len(after))):
        return None
    return Mapped(
        operands,
        _ranks(node, operands, facts),
        _result_ranks(node, facts),
        before,
        after,
        groups,
        layout,
        parameters,
        feasible,
    )


def _gather(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    data, indices = _input_dims(node, 0, facts), _input_dims(node, 1, facts)
    if data is None or indices is None:
        return None
    axis, width = _attribute(node, "axis", 0) % len(data), len(indices)
    groups = tuple(
        axes.Group((each,), tuple(range(axis, axis + width)))
        if each == axis
        else axes.Group((each,), (each if each < axis else each + width - 1,))
        for each in range(len(data))
    )

    def move(target: ir.Node, source: Storage, result: Storage, rewriter: Rewriter) -> None:
        _move_attribute("axis", 0)(target, source, rewriter)

    return _mapped(node, facts, layout, groups, move)


def _squeeze(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    data = _input_dims(node, 0, facts)
    if data is None or _has_computed(node, 1, facts):
        return None
    listed = _integers(node, 1, facts)
    if listed is None:
        if not all(isinstance(dim, int) for dim in data):
            return None
        dropped = [axis for axis, dim in enumerate(data) if dim == 1]
    else:
        dropped = [axis % len(data) for axis in listed]

    def move(target: ir.Node, source: Storage, result: Storage, rewriter: Rewriter) -> None:
        if listed is not None:
            _move_axes_input(1)(target, source, rewriter)

    return _mapped(node, facts, layout, axes.dropping(len(data), dropped), move)


def _unsqueeze(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    result, listed = facts.dims(node.outputs[0]), _integers(node, 1, facts)
    if result is None or listed is None:
        return None
    added = [axis % len(result) for axis in listed]

    def move(target: ir.Node, source: Storage, storage: Storage, rewriter: Rewriter) -> None:
        stored = np.asarray(sorted(_stored_axis(axis, storage) for axis in added), dtype=np.int64)
        rewriter.set_constant(target, 1, stored, "axes")

    return _mapped(node, facts, layout, axes.inverse(axes.dropping(len(result), added)), move)


def _stored_shape(
    groups: axes.Groups, before: Dims, after: Dims, source: Storage, target: Storage
) -> Array | None:
    """The shape argument of a reshape between stored tensors; None if -1 and 0 cannot say it."""
    wanted, given = stored_dims(after, target), stored_dims(before, source)
    if 0 in wanted:
        return None
    carried = {
        group.after[0]: group.before[0] for group in groups if len(group.before) == len(group.after) == 1
    }
    free = [index for index, dim in enumerate(wanted) if not isinstance(dim, int)]
    shape = [dim if isinstance(dim, int) else -1 for dim in wanted]
    if len(free) > 1:
        for index in free[:]:
            if index < len(given) and carried.get(target.order[index]) == source.order[index]:
                shape[index] = 0
                free.remove(index)
    return np.asarray(shape, dtype=np.int64) if len(free) <= 1 else None


def _reshape(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    before, after = _input_dims(node, 0, facts), facts.dims(node.outputs[0])
    if before is None or after is None:
        return None
    groups = axes.matching(before, after)
    if groups is None:
        return None
    found = groups

    def feasible(source: Storage, target: Storage) -> bool:
        return _stored_shape(found, before, after, source, target) is not None

    def move(target: ir.Node, source: Storage, result: Storage, rewriter: Rewriter) -> None:
        if target.op_type == "Flatten" and _attribute(target, "axis", 1) == 1 and source.order[0] == 0:
            return
        shape = _stored_shape(found, before, after, source, result)
        assert shape is not None
        rewriter.set_reshape(target, shape)

    return _mapped(node, facts, layout, groups, move, feasible)


def _observing(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    operands = _computed(node, facts)
    if not operands or _input_dims(node, 0, facts) is None:
        return None
    return Observing(operands, _rank(node, 0, facts), 1 if node.op_type == "Shape" else 0)


def _may_permute(value: ir.Value | None, facts: Facts) -> bool:
    """Whether a matrix may be permuted for one user: a trained tensor only if it has no other."""
    if value is None or not facts.is_constant(value):
        return False
    return metadata.recipe_record(value) is None or facts.use_count(value) == 1


def _matmul(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    weight, data = _input_dims(node, 1, facts), _input_dims(node, 0, facts)
    if weight is None or data is None or len(weight) != 2 or len(data) < 2:
        return None
    operands = _computed(node, facts)
    if operands != (0,) or not _may_permute(node.inputs[1], facts):
        return None
    return Dense(operands, (len(data),), len(data), contracted=0)


def _gemm(node: ir.Node, facts: Facts, layout: Layout) -> Relation | None:
    operands = _computed(node, facts)
    if operands != (0,) or _attribute(node, "transA", 0) or not _may_permute(node.inputs[1], facts):
        return None
    contracted = 1 if _attribute(node, "transB", 0) else 0
    bias = 2 if _input(node, 2) is not None else None
    return Dense(operands, (2,), 2, contracted, bias)


_BUILDERS: Mapping[str, Builder] = {
    **dict.fromkeys(_UNARY, _elementwise),
    **dict.fromkeys(_BROADCASTING, _broadcasting),
    **dict.fromkeys(_REDUCTIONS, _reduction),
    **dict.fromkeys(_AXIS_ATTRIBUTE, _along_axis),
    "ArgMax": _arg_reduction,
    "ArgMin": _arg_reduction,
    "BatchNormalization": _batch_normalization,
    "Concat": _concat,
    "CumSum": _cumulative,
    "DequantizeLinear": _quantization,
    "Expand": _sized,
    "Flatten": _reshape,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Pad": _pad,
    "QuantizeLinear": _quantization,
    "Reshape": _reshape,
    "ReverseSequence": _reverse_sequence,
    "Shape": _observing,
    "Size": _observing,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _sized,
    "Unsqueeze": _unsqueeze,
}
