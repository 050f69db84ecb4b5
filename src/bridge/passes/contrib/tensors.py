"""Other operators that onnxruntime had before the standard, or has in another form."""

from __future__ import annotations

import math

import onnx_ir as ir

from bridge.passes.contrib.builder import Builder, InexpressibleError, expansion


@expansion("Pad")
def pad(op: Builder) -> None:
    """The standard's Pad."""
    op.give(op("Pad", op[0], op("Reshape", op[1], op.integers(-1)), op.input(2), mode=op.attribute("mode")))


@expansion("Trilu")
def trilu(op: Builder) -> None:
    """The standard's Trilu."""
    op.give(op("Trilu", op[0], op.input(1), upper=op.attribute("upper")))


@expansion("GatherND")
def gather_nd(op: Builder) -> None:
    """The standard's GatherND, whose indices are int64."""
    op.give(op("GatherND", op[0], op("Cast", op[1], to=ir.DataType.INT64)))


@expansion("Range")
def range_(op: Builder) -> None:
    """The standard's Range, with a step of 1 by default."""
    step = op.input(2)
    op.give(op("Range", op[0], op[1], op.number(1, "step") if step is None else step))


@expansion("ExpandDims")
def expand_dims(op: Builder) -> None:
    """An axis of size 1 at a place that is a number."""
    axis = op("Cast", op[1], to=ir.DataType.INT64)
    op.give(op("Unsqueeze", op[0], op("Reshape", axis, op.integers(1))))


@expansion("Unique")
def unique(op: Builder) -> None:
    """The values in the order in which they come first, the place of each element among them, and counts."""
    values, _, places, counts = op.several("Unique", 4, op[0], sorted=0)
    op.give(values, places, counts)


@expansion("TorchEmbedding")
def torch_embedding(op: Builder) -> None:
    """The rows of the weight at the indices."""
    op.give(op("Gather", op[0], op[1]))


@expansion("GridSample")
def grid_sample(op: Builder) -> None:
    """The standard's GridSample, by the names of opset 20."""
    mode = {"bilinear": "linear", "nearest": "nearest", "bicubic": "cubic"}[op.attribute("mode")]
    padding = op.attribute("padding_mode")
    align = op.attribute("align_corners")
    op.give(op("GridSample", op[0], op[1], mode=mode, padding_mode=padding, align_corners=align))


@expansion("BiasAdd")
def bias_add(op: Builder) -> None:
    """X + bias + skip."""
    op.give(op("Add", op("Add", op[0], op[1]), op[2]))


@expansion("BiasDropout")
def bias_dropout(op: Builder) -> None:
    """Dropout of data + bias, and residual added to it."""
    total = op("Add", op[0], op[1])
    outputs = op.several(
        "Dropout", 2 if op.reads(1) else 1, total, op.input(3), op.input(4), seed=op.attribute("seed")
    )
    residual = op.input(2)
    op.give(outputs[0] if residual is None else op("Add", outputs[0], residual), *outputs[1:])


@expansion("BiasSoftmax")
def bias_softmax(op: Builder) -> None:
    """Softmax of data + bias over all axes from `axis` on; a bias of fewer axes has the inner ones."""
    rank, axis = op.rank(op[0]), op.attribute("axis")
    axis = axis % rank
    if not op.attribute("is_inner_broadcast") and op.rank(op[1]) != rank:
        raise InexpressibleError("its bias is broadcast over outer axes, and has fewer axes than its data")
    total = op("Add", op[0], op[1])
    if axis == rank - 1:
        op.give(op("Softmax", total, axis=-1))
        return
    flat = op("Reshape", total, op.integers(*[0] * axis, -1, hint="shape"))
    op.give(op("Reshape", op("Softmax", flat, axis=-1), op("Shape", total)))


@expansion("IsAllFinite")
def is_all_finite(op: Builder) -> None:
    """Whether no element of any input is infinite (`isinf_only`), NaN (`isnan_only`), or either."""
    infinite, nan = op.attribute("isinf_only"), op.attribute("isnan_only")
    answers = []
    for value in op.node.inputs:
        faults = [] if nan else [op("IsInf", value)]
        faults += [] if infinite else [op("IsNaN", value)]
        fault = faults[0] if len(faults) == 1 else op("Or", *faults)
        number = op("ReduceMax", op("Cast", fault, to=ir.DataType.INT32), keepdims=0)
        answers.append(op("Not", op("Cast", number, to=ir.DataType.BOOL)))
    result = answers[0]
    for answer in answers[1:]:
        result = op("And", result, answer)
    op.give(result)


@expansion("CDist")
def cdist(op: Builder) -> None:
    """The distances of all rows of A from all rows of B."""
    rows = op("Unsqueeze", op[0], op.integers(1))
    difference = op("Sub", rows, op("Unsqueeze", op[1], op.integers(0)))
    squares = op("ReduceSumSquare", difference, op.integers(-1), keepdims=0)
    op.give(op("Sqrt", squares) if op.attribute("metric") == "euclidean" else squares)


@expansion("ComplexMul", "ComplexMulConj")
def complex_mul(op: Builder) -> None:
    """The product of complex numbers, which are pairs in the last axis; of A with conjugates of B."""
    (a, b), (c, d) = (op.several("Split", 2, op[i], axis=-1, num_outputs=2) for i in range(2))
    plus, minus = ("Sub", "Add") if op.node.op_type == "ComplexMul" else ("Add", "Sub")
    real = op(plus, op("Mul", a, c), op("Mul", b, d))
    imaginary = op(minus, *_ordered(op, op("Mul", a, d), op("Mul", b, c)))
    op.give(op("Concat", real, imaginary, axis=-1))


def _ordered(op: Builder, first: ir.Value, second: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The cross products so that a conjugate's difference is that of the second and the first."""
    return (first, second) if op.node.op_type == "ComplexMul" else (second, first)


@expansion("Rfft")
def rfft(op: Builder) -> None:
    """The transform of real numbers along the last axis; complex ones are pairs in a new last axis."""
    if op.attribute("signal_ndim") != 1 or op.attribute("normalized"):
        raise InexpressibleError("it transforms more than one axis, or scales by the root of the length")
    pairs = op("Unsqueeze", op[0], op.integers(-1))
    op.give(op("DFT", pairs, None, op.index(-2), onesided=op.attribute("onesided")))


@expansion("RelativePositionBias")
def relative_position_bias(op: Builder) -> None:
    """The bias of T5 for each distance of a key from a query, by buckets that grow with the distance.

    The buckets are those of Raffel et al., "Exploring the Limits of Transfer Learning" (arXiv 1910.10683).
    """
    table, longest = op[0], op.attribute("max_distance")
    both = bool(op.attribute("is_bidirectional"))
    buckets = op.size(table, 0) // (2 if both else 1)
    exact = buckets // 2
    queries, keys = (op.positions(op("Reshape", op[i], op.integers(1))) for i in (1, 2))
    distance = op("Sub", op("Unsqueeze", queries, op.integers(1)), op("Unsqueeze", keys, op.integers(0)))
    if both:
        ahead = op("Cast", op("Less", distance, op.index(0)), to=ir.DataType.INT64)
        offset: ir.Value | None = op("Mul", ahead, op.index(buckets))
        distance = op("Abs", distance)
    else:
        offset = None
        distance = op("Max", distance, op.index(0))
    single = op("Cast", distance, to=ir.DataType.FLOAT)
    ratio = op("Log", op("Div", op("Max", single, op.single(exact)), op.single(exact)))
    step = op("Mul", op("Div", ratio, op.single(math.log(longest / exact))), op.single(buckets - exact))
    large = op("Add", op("Cast", step, to=ir.DataType.INT64), op.index(exact))
    far = op("Min", large, op.index(buckets - 1))
    bucket = op("Where", op("Less", distance, op.index(exact)), distance, far)
    bucket = bucket if offset is None else op("Add", bucket, offset)
    bias = op("Transpose", op("Gather", table, bucket), perm=[2, 0, 1])
    op.give(op("Unsqueeze", bias, op.integers(0)))
