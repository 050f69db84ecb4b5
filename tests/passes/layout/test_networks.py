"""Plain convolutional networks of both sources come out without a transpose inside."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from building import Builder
from interpret import assert_recipes_hold, internal_transposes, operators, run, run_laid_out, sources

from bridge.hub import metadata
from bridge.passes.layout import assign_layout


def chain(b: Builder) -> list[str]:
    x = b.spatial_input(3, 8, 8)
    x = b.op("Mul", x, b.constant(1 / 255, np.float32))
    x = b.op("Relu", b.batch_norm(b.conv(x, 3, 4), 4))
    x = b.spatially("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    return [b.conv(x, 4, 5, kernel=1)]


def residual(b: Builder) -> list[str]:
    x = b.conv(b.spatial_input(3, 8, 8), 3, 4)
    for _ in range(2):
        y = b.op("Relu", b.batch_norm(b.conv(x, 4, 4), 4))
        x = b.op("Relu", b.op("Add", b.batch_norm(b.conv(y, 4, 4), 4), x))
    short = b.conv(x, 4, 6, kernel=1, strides=[2, 2])
    x = b.op("Add", b.conv(x, 4, 6, strides=[2, 2]), short)
    return [b.spatially("AveragePool", x, kernel_shape=[2, 2])]


def squeeze_excite(b: Builder) -> list[str]:
    x = b.conv(b.spatial_input(3, 8, 8), 3, 8)
    s = b.op("ReduceMean", x, b.constant(b.spatial_axes()), keepdims=1)
    s = b.op("HardSigmoid", b.conv(b.op("Relu", b.conv(s, 8, 2, kernel=1)), 2, 8, kernel=1))
    x = b.op("Mul", x, s)
    pooled = b.op("ReduceMean", x, b.constant(b.spatial_axes()), keepdims=0)
    s = b.op("Sigmoid", b.op("Gemm", pooled, b.weight(8, 8), b.weight(8), transB=1))
    s = b.op("Reshape", s, b.constant([-1, *b.per_channel(8)[1:]]))
    return [b.conv(b.op("Mul", x, s), 8, 3)]


def branches(b: Builder) -> list[str]:
    x = b.conv(b.spatial_input(3, 8, 8), 3, 4)
    left, right = b.op("Split", x, outputs=2, axis=b.channel_axis(), num_outputs=2)
    left = b.conv(left, 2, 3)
    pads = np.zeros((2, 4), np.int64)
    pads[:, b.spatial_axes()] = 1
    right = b.op("Pad", right, b.constant(pads.reshape(-1)))
    right = b.spatially("MaxPool", right, kernel_shape=[3, 3])
    x = b.op("Concat", left, right, x, axis=b.channel_axis())
    scale = b.weight(*b.per_channel(9))
    x = b.op("Softmax", b.op("Mul", x, scale), axis=b.channel_axis())
    x = b.op("Slice", x, b.constant([1]), b.constant([7]), b.constant([b.spatial_axes()[0] - 4]))
    return [b.conv(x, 9, 2)]


def flatten_dense(b: Builder) -> list[str]:
    x = b.op("Relu", b.conv(b.spatial_input(3, 4, 5), 3, 6))
    x = b.op("Flatten", x, axis=1)
    x = b.op("Relu", b.batch_norm(b.op("Mul", x, b.weight(120)), 120, rank=2))
    x = b.op("Dropout", x)
    x = b.op("Add", b.op("MatMul", x, b.weight(120, 7)), b.weight(7))
    return [b.op("Gemm", x, b.weight(4, 7), b.weight(4), transB=1)]


def joined_dense(b: Builder) -> list[str]:
    left = b.op("Flatten", b.op("Relu", b.conv(b.spatial_input(3, 4, 5), 3, 6)), axis=1)
    right = b.op("Reshape", b.conv(b.spatial_input(2, 3, 3), 2, 4), b.constant([0, -1]))
    right = b.op("Sigmoid", b.op("Gemm", right, b.weight(5, 36), b.weight(5), transB=1))
    middle = b.op("Flatten", b.conv(b.spatial_input(2, 2, 2), 2, 3), axis=1)
    x = b.op("Concat", left, right, b.weight(2, 2, trained=False), middle, axis=-1)
    x = b.batch_norm(b.op("Relu", x), 139, rank=2)
    return [b.op("Gemm", x, b.weight(4, 139), b.weight(4), transB=1)]


def pooled_dense(b: Builder) -> list[str]:
    x = b.spatially("GlobalAveragePool", b.conv(b.spatial_input(3, 4, 5), 3, 6))
    x = b.op("Reshape", x, b.constant([-1, 6]))
    return [b.op("Gemm", x, b.weight(6, 4), b.weight(4))]


def generator(b: Builder) -> list[str]:
    x = b.op("Gemm", b.input((2, 5)), b.weight(5, 4 * 3 * 3), b.weight(36))
    x = b.op("LeakyRelu", b.batch_norm(x, 36, rank=2))
    x = b.op("Reshape", x, b.constant([-1, 3, 3, 4] if b.nhwc else [-1, 4, 3, 3]))
    weight = b.weight(4, 3, 2, 2)
    x = b.op(
        "PRelu", b.spatially("ConvTranspose", x, weight, strides=[2, 2]), b.weight(*b.per_channel(3)[1:])
    )
    x = b.spatially("Resize", x, "", b.constant([1, 1, 2, 2], np.float32), mode="nearest")
    return [b.op("Tanh", b.conv(x, 3, 3))]


def pixel_shuffle(b: Builder) -> list[str]:
    x = b.spatially("DepthToSpace", b.conv(b.spatial_input(3, 4, 4), 3, 8), blocksize=2)
    return [b.spatially("InstanceNormalization", x, b.weight(2), b.weight(2))]


def sequence(b: Builder) -> list[str]:
    x = b.op("Relu", b.conv(b.spatial_input(3, 9), 3, 4, rank=3))
    x = b.spatially("MaxPool", x, rank=3, kernel_shape=[2], strides=[2])
    x = b.op("ReduceMax", x, b.constant(b.spatial_axes(3)), keepdims=0)
    return [b.op("Gemm", x, b.weight(4, 2), b.weight(2))]


def volume(b: Builder) -> list[str]:
    x = b.op("Relu", b.batch_norm(b.conv(b.spatial_input(2, 4, 4, 4), 2, 3, rank=5), 3, rank=5))
    x = b.op("Add", x, b.conv(x, 3, 3, rank=5))
    x = b.op("Flatten", x, axis=1)
    return [b.op("Gemm", x, b.weight(192, 2), b.weight(2))]


NETWORKS = [
    *[chain, residual, squeeze_excite, branches, flatten_dense, joined_dense],
    *[pooled_dense, generator, pixel_shuffle, sequence, volume],
]


def rank_of(value: ir.Value) -> int:
    assert value.shape is not None
    return len(value.shape)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("nhwc", [False, True], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
@pytest.mark.parametrize("io_layout", ["source", "native"])
def test_network(
    network: Callable[[Builder], list[str]], nhwc: bool, layout: metadata.Layout, io_layout: str
) -> None:
    builder = Builder(nhwc=nhwc)
    model = builder.model(network(builder))
    expected = run(ir.to_proto(model), builder.feeds)
    tensors = sources(model)
    spatial = sum(rank_of(value) > 2 for value in (*model.graph.inputs, *model.graph.outputs))

    model = assign_layout(model, layout=layout, io_layout=io_layout)  # type: ignore[arg-type]

    crossing = nhwc == (layout == "channels_first") and io_layout == "source"
    assert operators(model)["Transpose"] == (spatial if crossing else 0)
    assert internal_transposes(model) == 0
    found = run_laid_out(model, builder.feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert_recipes_hold(model, tensors)
    assert set(tensors) == {
        info.path for value in model.graph.initializers.values() if (info := metadata.weight_info(value))
    }
