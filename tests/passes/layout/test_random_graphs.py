"""Any graph means the same after the layout pass, whatever it mixes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
from building import Builder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from interpret import assert_recipes_hold, run, run_laid_out, sources

from bridge.passes.layout import assign_layout

Draw = Callable[[Any], Any]


class Growing:
    """A graph under construction: `values` are what a next node may read."""

    def __init__(self, builder: Builder, draw: Draw) -> None:
        self.b = builder
        self.draw = draw
        self.values: list[str] = []
        self._weights: dict[tuple[int, ...], str] = {}

    def weight(self, *shape: int) -> str:
        """A new weight, or one of this shape that is in use already."""
        if shape not in self._weights or self.draw(st.booleans()):
            self._weights[shape] = self.b.weight(*shape, trained=self.draw(st.booleans()))
        return self._weights[shape]

    def add(self, name: str, shape: tuple[int, ...]) -> None:
        if 0 < int(np.prod(shape)) <= 4096:
            self.b.shapes[name] = shape
            self.values.append(name)

    def pick(self, *ranks: int) -> tuple[str, tuple[int, ...]] | None:
        names = [name for name in self.values if not ranks or len(self.b.shapes[name]) in ranks]
        if not names:
            return None
        name = names[-1 - self.draw(st.integers(0, min(len(names), 4) - 1))]
        return name, self.b.shapes[name]

    def among(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))


def unary(g: Growing) -> None:
    if (picked := g.pick()) is not None:
        op = g.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "HardSwish", "Identity", "Dropout", "Neg"]))
        g.add(g.b.op(op, picked[0]), picked[1])


def clip(g: Growing) -> None:
    if (picked := g.pick()) is not None:
        g.add(g.b.op("Clip", picked[0], g.b.constant(-1, np.float32)), picked[1])


def convolution(g: Growing) -> None:
    if (picked := g.pick(3, 4, 5)) is None:
        return
    name, shape = picked
    rank, axis = len(shape), g.b.channel_axis(len(shape))
    channels, out = shape[axis], g.among(1, 4)
    if channels > 16:
        return
    result = g.b.conv(name, channels, out, kernel=1 + 2 * g.among(0, 1), rank=rank)
    g.add(result, tuple(out if i == axis else size for i, size in enumerate(shape)))


def pooling(g: Growing) -> None:
    if (picked := g.pick(3, 4, 5)) is None:
        return
    name, shape = picked
    rank, axes = len(shape), g.b.spatial_axes(len(shape))
    kind = g.draw(st.sampled_from(["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LRN"]))
    if kind.startswith("Global"):
        g.add(
            g.b.spatially(kind, name, rank=rank),
            tuple(1 if i in axes else size for i, size in enumerate(shape)),
        )
    elif kind == "LRN" and rank != 4:
        g.add(g.b.spatially("InstanceNormalization", name, *_affine(g, shape), rank=rank), shape)
    elif kind == "LRN":
        g.add(g.b.spatially(kind, name, rank=rank, size=3), shape)
    elif all(shape[i] >= 2 for i in axes):
        result = g.b.spatially(kind, name, rank=rank, kernel_shape=[2] * len(axes), strides=[2] * len(axes))
        g.add(result, tuple(size // 2 if i in axes else size for i, size in enumerate(shape)))


def _affine(g: Growing, shape: tuple[int, ...]) -> tuple[str, str]:
    channels = shape[g.b.channel_axis(len(shape))]
    return g.b.weight(channels), g.b.weight(channels)


def normalization(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is not None:
        name, shape = picked
        rank = len(shape)
        channels = shape[1] if rank == 2 else shape[g.b.channel_axis(rank)]
        g.add(g.b.batch_norm(name, channels, rank=rank), shape)


def layer_normalization(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is not None:
        name, shape = picked
        g.add(g.b.op("LayerNormalization", name, g.b.weight(shape[-1]), axis=-1), shape)


def binary(g: Growing) -> None:
    if (picked := g.pick()) is None:
        return
    name, shape = picked
    twins = [each for each in g.values if _broadcasts(g.b.shapes[each], shape)]
    other = twins[g.among(0, len(twins) - 1)]
    op = g.draw(st.sampled_from(["Add", "Mul", "Max", "Sub"]))
    result = np.broadcast_shapes(shape, g.b.shapes[other])
    g.add(g.b.op(op, *g.draw(st.permutations([name, other]))), result)


def _broadcasts(left: tuple[int, ...], right: tuple[int, ...]) -> bool:
    return len(left) <= len(right) and all(a in (1, b) for a, b in zip(left[::-1], right[::-1], strict=False))


def with_constant(g: Growing) -> None:
    if (picked := g.pick()) is None:
        return
    name, shape = picked
    kept = shape[g.among(0, len(shape)) :]
    kept = tuple(
        size if g.draw(st.booleans()) and (i or len(kept) < len(shape)) else 1 for i, size in enumerate(kept)
    )
    op = g.draw(st.sampled_from(["Add", "Mul", "PRelu", "Greater"]))
    weight = g.weight(*kept)
    result = g.b.op(op, name, weight)
    if op == "Greater":
        result = g.b.op("Where", result, name, weight)
    g.add(result, shape)


def concat(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4, 5)) is None:
        return
    name, shape = picked
    axis = g.among(1, len(shape) - 1)
    rest = shape[:axis] + shape[axis + 1 :]
    twins = [
        each
        for each in g.values
        if len(g.b.shapes[each]) == len(shape)
        and g.b.shapes[each][:axis] + g.b.shapes[each][axis + 1 :] == rest
    ]
    other = twins[g.among(0, len(twins) - 1)]
    width = shape[axis] + g.b.shapes[other][axis]
    g.add(
        g.b.op("Concat", name, other, axis=axis - len(shape) * g.among(0, 1)),
        (*shape[:axis], width, *shape[axis + 1 :]),
    )


def pad(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is not None:
        name, shape = picked
        low = [0, *(g.among(0, 1) for _ in shape[1:])]
        mode = g.draw(st.sampled_from(["constant", "edge"]))
        result = g.b.op("Pad", name, g.b.constant([*low, *low]), mode=mode)
        g.add(result, tuple(size + 2 * each for size, each in zip(shape, low, strict=True)))


def reduction(g: Growing) -> None:
    if (picked := g.pick(3, 4, 5)) is None:
        return
    name, shape = picked
    axes = sorted(g.draw(st.sets(st.integers(1, len(shape) - 1), min_size=1)))
    keep = g.among(0, 1)
    op = g.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceL2", "ArgMax"]))
    if op == "ArgMax":
        result = g.b.op("Cast", g.b.op(op, name, axis=axes[0], keepdims=keep), to=1)
        axes = axes[:1]
    else:
        result = g.b.op(op, name, g.b.constant(axes), keepdims=keep)
    g.add(
        result,
        tuple(1 if i in axes else size for i, size in enumerate(shape) if keep or i not in axes),
    )


def along_axis(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is None:
        return
    name, shape = picked
    axis = g.among(1, len(shape) - 1)
    op = g.draw(st.sampled_from(["Softmax", "LogSoftmax", "CumSum", "TopK", "LpNormalization"]))
    if op == "CumSum":
        result = g.b.op(op, name, g.b.constant(axis))
    elif op == "TopK":
        result, _ = g.b.op(op, name, g.b.constant([shape[axis]]), outputs=2, axis=axis)
    else:
        result = g.b.op(op, name, axis=axis)
    g.add(result, shape)


def slicing(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is None:
        return
    name, shape = picked
    axis = g.among(1, len(shape) - 1)
    if shape[axis] < 2:
        return
    kind = g.among(0, 3)
    rest = shape[:axis], shape[axis + 1 :]
    if kind == 0:
        parts = g.b.op("Split", name, g.b.constant([1, shape[axis] - 1]), outputs=2, axis=axis)
        g.add(parts[0], (*rest[0], 1, *rest[1]))
        g.add(parts[1], (*rest[0], shape[axis] - 1, *rest[1]))
    elif kind == 1:
        arguments = [g.b.constant(each) for each in ([1], [100], [axis])]
        g.add(g.b.op("Slice", name, *arguments), (*rest[0], shape[axis] - 1, *rest[1]))
    elif kind == 2:
        g.add(g.b.op("Gather", name, g.b.constant(1), axis=axis), (*rest[0], *rest[1]))
    else:
        g.add(g.b.op("Gather", name, g.b.constant([1, 0, 1]), axis=axis), (*rest[0], 3, *rest[1]))


def transpose(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4, 5)) is not None:
        name, shape = picked
        perm = [0, *g.draw(st.permutations(range(1, len(shape))))]
        g.add(g.b.op("Transpose", name, perm=perm), tuple(shape[axis] for axis in perm))


def reshape(g: Growing) -> None:
    """Merge two neighbouring axes, or split one."""
    if (picked := g.pick(2, 3, 4)) is None:
        return
    name, shape = picked
    if len(shape) > 2 and g.draw(st.booleans()):
        axis = g.among(1, len(shape) - 2)
        target = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    else:
        axis = g.among(1, len(shape) - 1)
        factor = next((f for f in (2, 3) if shape[axis] % f == 0), 1)
        target = (*shape[:axis], shape[axis] // factor, factor, *shape[axis + 1 :])
    g.add(g.b.op("Reshape", name, g.b.constant([g.draw(st.sampled_from([0, -1])), *target[1:]])), target)


def squeezing(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is None:
        return
    name, shape = picked
    ones = [axis for axis, size in enumerate(shape) if axis and size == 1]
    if ones and g.draw(st.booleans()):
        g.add(
            g.b.op("Squeeze", name, g.b.constant(ones)),
            tuple(size for axis, size in enumerate(shape) if axis not in ones),
        )
    else:
        axis = g.among(1, len(shape))
        g.add(g.b.op("Unsqueeze", name, g.b.constant([axis])), (*shape[:axis], 1, *shape[axis:]))


def dense(g: Growing) -> None:
    if (picked := g.pick(2, 3, 4)) is None:
        return
    name, shape = picked
    if len(shape) > 2 and g.draw(st.booleans()):
        name, shape = g.b.op("Flatten", name, axis=1), (shape[0], int(np.prod(shape[1:])))
    out = g.draw(st.sampled_from([4, 6, 12]))
    if len(shape) == 2 and g.draw(st.booleans()):
        result = g.b.op("Gemm", name, g.weight(out, shape[-1]), g.weight(out), transB=1)
    else:
        result = g.b.op("MatMul", name, g.weight(shape[-1], out))
    g.add(result, (*shape[:-1], out))


def joined_dense(g: Growing) -> None:
    """Flattened maps side by side, as models with several branches have them."""
    names: list[str] = []
    for _ in range(2):
        if (picked := g.pick(3, 4)) is not None and np.prod(picked[1]) < 200:
            names.append(g.b.op("Flatten", picked[0], axis=1))
            g.add(names[-1], (picked[1][0], int(np.prod(picked[1][1:]))))
    if names:
        width = sum(g.b.shapes[name][1] for name in names)
        x = g.b.op("Tanh", g.b.op("Concat", *names, axis=1))
        g.add(x, (2, width))
        g.add(g.b.op("MatMul", x, g.weight(width, 6)), (2, 6))


def sizing(g: Growing) -> None:
    if (picked := g.pick(3, 4)) is None:
        return
    name, shape = picked
    kind = g.among(0, 2)
    if kind == 0:
        repeats = [1, *(g.among(1, 2) for _ in shape[1:])]
        g.add(
            g.b.op("Tile", name, g.b.constant(repeats)),
            tuple(size * each for size, each in zip(shape, repeats, strict=True)),
        )
    elif kind == 1:
        target = tuple(size if size > 1 or not axis else g.among(1, 3) for axis, size in enumerate(shape))
        g.add(g.b.op("Expand", name, g.b.constant([1, *target[1:]])), target)
    else:
        axis = g.among(0, len(shape) - 1)
        whole = g.b.op("Shape", name)
        part = g.b.op("Shape", name, start=axis, end=axis + 1)
        size = g.b.op("Add", g.b.op("Gather", whole, g.b.constant([axis])), part)
        g.add(g.b.op("Mul", name, g.b.op("Cast", size, to=1)), shape)


def product(g: Growing) -> None:
    """A product of computed tensors: it needs the hub's own order."""
    if (picked := g.pick(3, 4)) is not None:
        name, shape = picked
        turned = g.b.op("Transpose", name, perm=[*range(len(shape) - 2), len(shape) - 1, len(shape) - 2])
        g.add(g.b.op("MatMul", name, turned), (*shape[:-1], shape[-2]))


STEPS = [
    *[
        unary,
        clip,
        convolution,
        convolution,
        convolution,
        pooling,
        normalization,
        layer_normalization,
        binary,
    ],
    *[binary, with_constant, with_constant, concat, pad, reduction, along_axis, slicing, transpose, reshape],
    *[squeezing, dense, joined_dense, sizing, product],
]


@st.composite
def graphs(draw: Draw) -> tuple[ir.Model, Builder]:
    builder = Builder(seed=draw(st.integers(0, 1000)), dynamic=draw(st.booleans()), nhwc=draw(st.booleans()))
    growing = Growing(builder, draw)
    sizes = draw(st.sampled_from([(4, 4), (4, 6), (5,), (2, 2, 3), (3, 1)]))
    channels = draw(st.sampled_from([1, 3, 4]))
    name = builder.spatial_input(channels, *sizes)
    growing.values.append(name)
    if draw(st.booleans()):
        growing.values.append(builder.input(builder.shapes[name]))
    convolution(growing)
    for step in draw(st.lists(st.sampled_from(STEPS), min_size=2, max_size=12)):
        step(growing)
    extra = draw(st.sets(st.sampled_from(growing.values), max_size=2))
    outputs = [growing.values[-1], *sorted(extra - {growing.values[-1]})]
    return builder.model(each for each in outputs if each not in builder.feeds or each == outputs[0]), builder


@settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    derandomize=True,
)
@given(graphs())
def test_equivalent(graph: tuple[ir.Model, Builder]) -> None:
    model, builder = graph
    expected = run(ir.to_proto(model), builder.feeds)
    tensors = sources(model)
    for layout in ("channels_last", "channels_first"):
        for io_layout in ("source", "native"):
            laid_out = assign_layout(
                model.clone(deep_copy=True),
                layout=layout,  # type: ignore[arg-type]
                io_layout=io_layout,  # type: ignore[arg-type]
            )
            found = run_laid_out(laid_out, builder.feeds)
            assert list(found) == list(expected)
            for name, array in expected.items():
                assert found[name].shape == array.shape
                np.testing.assert_allclose(found[name], array, rtol=1e-3, atol=1e-4)
            assert_recipes_hold(laid_out, tensors)
