"""Operators one by one, where random graphs do not reach: parameters, sharing, subgraphs, names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from building import Builder
from interpret import (
    assert_recipes_hold,
    internal_transposes,
    operators,
    run,
    run_laid_out,
    sources,
)
from onnx import TensorProto, helper

from bridge.hub import metadata, recipe
from bridge.passes.layout import assign_layout


def laid_out(
    builder: Builder, outputs: Sequence[str], layout: metadata.Layout = "channels_last", **options: Any
) -> ir.Model:
    """The graph after the pass, proved equivalent."""
    model = builder.model(outputs)
    expected, tensors = run(ir.to_proto(model), builder.feeds), sources(model)
    model = assign_layout(model, layout=layout, **options)
    found = run_laid_out(model, builder.feeds)
    assert list(found) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5)
    assert_recipes_hold(model, tensors)
    return model


def node(model: ir.Model, op_type: str) -> ir.Node:
    (found,) = [each for each in model.graph if each.op_type == op_type]
    return found


def attribute(node: ir.Node, name: str) -> Any:
    return node.attributes[name].value


def initializer(model: ir.Model, name: str) -> ir.Value:
    value = model.graph.initializers[name]
    assert value.const_value is not None
    return value


def conv(b: Builder, channels: int = 4, size: tuple[int, ...] = (4, 5)) -> str:
    return b.conv(b.spatial_input(3, *size), 3, channels, rank=2 + len(size))


def test_nodes_are_marked_and_values_described() -> None:
    b = Builder()
    x = conv(b)
    y = b.op("Relu", x)
    model = laid_out(b, [y])
    assert metadata.layout_of(node(model, "Conv")) == "channels_last"
    assert metadata.layout_of(node(model, "Relu")) == "channels_first"
    (stored,) = [each.outputs[0] for each in model.graph if each.op_type == "Conv"]
    assert stored.name == x
    assert metadata.permutation_of(stored) == (0, 2, 3, 1)
    assert [str(dim) for dim in stored.shape or ()] == ["N", "4", "5", "4"]
    moved = node(model, "Conv").inputs[0]
    assert moved is not None
    assert moved.name == "x0.channels_last"
    assert model.graph.outputs[0].name == y
    assert metadata.permutation_of(model.graph.outputs[0]) is None


def test_native_interface() -> None:
    b = Builder()
    model = laid_out(b, [b.op("Relu", conv(b))], io_layout="native")
    assert operators(model) == {"Conv": 1, "Relu": 1}
    for value in (model.graph.inputs[0], model.graph.outputs[0]):
        assert metadata.permutation_of(value) == (0, 2, 3, 1)
    assert [str(dim) for dim in model.graph.inputs[0].shape or ()] == ["N", "4", "5", "3"]


def test_graph_without_sensitive_nodes_is_untouched() -> None:
    b = Builder()
    x = b.op("Transpose", b.input((2, 3, 4)), perm=[0, 2, 1])
    x = b.op("Transpose", b.op("Relu", x), perm=[0, 2, 1])
    model = b.model([x])
    before = ir.to_proto(model).SerializeToString()
    assert ir.to_proto(assign_layout(model, layout="channels_last")).SerializeToString() == before


def test_attention_stays_as_it_is() -> None:
    b = Builder()
    x = b.conv(b.spatial_input(3, 8, 8), 3, 12, kernel=1)
    x = b.op("Transpose", b.op("Reshape", x, b.constant([0, 12, 64])), perm=[0, 2, 1])
    x = b.op("Add", x, b.weight(1, 64, 12))
    normed = b.op("LayerNormalization", x, b.weight(12), axis=-1)
    heads = b.op("Reshape", b.op("MatMul", normed, b.weight(12, 36)), b.constant([0, 64, 3, 2, 6]))
    heads = b.op("Transpose", heads, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.op("Gather", heads, b.constant(index), axis=0) for index in range(3))
    q = b.op("Mul", q, b.constant(6**-0.5, np.float32))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    mixed = b.op("MatMul", b.op("Softmax", scores, axis=-1), v)
    mixed = b.op("Reshape", b.op("Transpose", mixed, perm=[0, 2, 1, 3]), b.constant([0, 64, 12]))
    x = b.op("Add", x, b.op("MatMul", mixed, b.weight(12, 12)))
    model = laid_out(b, [x])
    perms = [attribute(each, "perm") for each in model.graph if each.op_type == "Transpose"]
    assert perms == [(0, 2, 3, 1), (2, 0, 3, 1, 4), (0, 1, 3, 2), (0, 2, 1, 3)]


@pytest.mark.parametrize("layout", ["channels_last", "channels_first"])
def test_a_hybrid_moves_once_between_its_regions(layout: metadata.Layout) -> None:
    b = Builder(nhwc=True)
    x = conv(b, 8)
    for _ in range(3):
        x = b.op("Add", x, b.op("Relu", b.conv(x, 8, 8)))
    for _ in range(3):
        y = b.op("MatMul", b.op("LayerNormalization", x, b.weight(8), axis=-1), b.weight(8, 8))
        x = b.op("Add", x, b.op("Gelu", y))
    model = laid_out(b, [x], layout)
    assert internal_transposes(model) == (1 if layout == "channels_first" else 0)


def test_axes_pads_and_sizes_are_renumbered() -> None:
    b = Builder()
    x = b.op("Pad", conv(b), b.constant([0, 1, 2, 0, 0, 0, 3, 4]))
    x = b.op("Pad", x, b.constant([1, 2]), "", b.constant([-3]))
    x = b.op("Tile", x, b.constant([1, 2, 1, 3]))
    x = b.op("Slice", x, b.constant([0, 1, 0, 2]), b.constant([9, 8, 7, 6]))
    model = laid_out(b, [b.conv(b.op("ReduceSum", x, b.constant([-3]), keepdims=1), 1, 2)])
    assert internal_transposes(model) == 0


def test_trained_scale_and_slope_move_by_recipe() -> None:
    b = Builder()
    scale, slope = b.weight(1, 4, 1, 1), b.weight(4, 1, 1)
    model = laid_out(b, [b.conv(b.op("PRelu", b.op("Mul", conv(b), scale), slope), 4, 1)])
    assert initializer(model, scale).shape == (1, 1, 1, 4)
    assert initializer(model, slope).shape == (4,)
    assert recipe.to_json(recipe.Source("path/" + slope))["source"] == "path/" + slope


def test_trained_constant_used_in_two_orders_is_not_copied() -> None:
    b = Builder()
    shared = b.weight(1, 4, 4, 5)
    first = b.op("Add", conv(b), shared)
    flat = b.op("LayerNormalization", b.input((2, 4, 4, 5)), b.weight(5), axis=-1)
    flat = b.op("LayerNormalization", b.op("Mul", flat, shared), b.weight(5), axis=-1)
    model = laid_out(b, [b.conv(first, 4, 2), flat])
    copies = [
        value
        for value in model.graph.initializers.values()
        if (info := metadata.weight_info(value)) is not None and info.path == f"path/{shared}"
    ]
    assert len(copies) == 1
    assert copies[0].shape == (1, 4, 4, 5)
    assert [each.name for each in model.graph if each.op_type == "Transpose"].count(
        f"{shared}.channels_last"
    ) == 1


def test_plain_constant_used_in_two_orders_is_copied() -> None:
    b = Builder()
    shared = b.weight(1, 4, 4, 5, trained=False)
    first = b.op("Add", conv(b), shared)
    other = b.op("LayerNormalization", b.op("Mul", b.input((2, 4, 4, 5)), shared), b.weight(5), axis=-1)
    model = laid_out(b, [b.conv(first, 4, 2), other])
    assert initializer(model, shared).shape == (1, 4, 4, 5)
    assert initializer(model, f"{shared}.channels_last").shape == (1, 4, 5, 4)


def test_shared_trained_dense_weight_is_not_permuted() -> None:
    b = Builder()
    weight = b.weight(80, 6)
    flat = b.op("Flatten", b.op("Relu", conv(b)), axis=1)
    other = b.op("MatMul", b.input((2, 80)), weight)
    model = laid_out(b, [b.op("MatMul", flat, weight), other])
    assert initializer(model, weight).shape == (80, 6)
    assert internal_transposes(model) == 1


def test_fold_passes_a_chain_of_dense_layers_only_once() -> None:
    b = Builder()
    x = b.op("Flatten", conv(b), axis=1)
    x = b.op("Relu", b.op("Gemm", x, b.weight(80, 9), b.weight(9)))
    weight = b.weight(9, 3)
    model = laid_out(b, [b.op("Gemm", x, weight, b.weight(3))])
    assert internal_transposes(model) == 0
    assert metadata.recipe_record(initializer(model, weight)) == {"source": f"path/{weight}"}


def test_dense_output_that_is_also_a_graph_output_keeps_its_features() -> None:
    b = Builder()
    flat = b.op("Relu", b.op("Flatten", conv(b), axis=1))
    model = laid_out(b, [flat, b.op("Gemm", flat, b.weight(80, 3), b.weight(3))])
    assert {value.name for value in model.graph.outputs} == {flat, "v3"}


def test_shape_readers_see_the_hub() -> None:
    b = Builder()
    x = conv(b)
    whole, tail = b.op("Shape", x), b.op("Shape", x, start=-3)
    height, nothing = b.op("Shape", x, start=2, end=3), b.op("Shape", x, start=3, end=1)
    model = laid_out(b, [b.conv(x, 4, 2), whole, tail, height, nothing, b.op("Size", x)])
    assert internal_transposes(model) == 0


def test_computed_operand_of_lower_rank() -> None:
    b = Builder()
    scale = b.op("Sigmoid", b.op("ReduceMean", b.input((4, 1, 1, 7)), b.constant([3]), keepdims=0))
    bias = b.op("ReduceMean", b.input((4, 4, 5, 7)), b.constant([3]), keepdims=0)
    scalar = b.op("ReduceMean", b.input((2, 7)), keepdims=0)
    b.dynamic = False
    x = b.op("Add", b.op("Mul", conv(b), scale), bias)
    model = laid_out(b, [b.conv(b.op("Mul", x, scalar), 4, 2)])
    assert internal_transposes(model) <= 1


def test_grid_sample_resize_and_pool_indices() -> None:
    b = Builder()
    x = conv(b, 4, (4, 4))
    pooled, indices = b.op("MaxPool", x, outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    x = b.op("Add", b.op("MaxUnpool", pooled, indices, kernel_shape=[2, 2], strides=[2, 2]), x)
    x = b.op("GridSample", x, b.op("Tanh", b.input((2, 3, 3, 2))))
    sizes = b.constant([2, 4, 6, 5])
    x = b.op("Resize", x, "", "", sizes, mode="linear")
    b.dynamic = False
    model = laid_out(b, [b.conv(x, 4, 1)])
    assert internal_transposes(model) == 0


def test_quantized_tensors_along_the_channel() -> None:
    b = Builder()
    scale, zero = b.weight(4, positive=True, trained=False), b.constant([0] * 4, np.int8)
    x = b.op("QuantizeLinear", conv(b), scale, zero, axis=1)
    model = laid_out(b, [b.conv(b.op("DequantizeLinear", x, scale, zero, axis=-3), 4, 2)])
    assert attribute(node(model, "QuantizeLinear"), "axis") == 3
    assert internal_transposes(model) == 0


def test_unknown_operator_is_fed_as_the_hub_says() -> None:
    b = Builder()
    x = conv(b, 4, (4, 4))
    x = b.op("Trilu", x)
    model = laid_out(b, [b.conv(x, 4, 2)])
    assert internal_transposes(model) == 2


def test_subgraph_reads_captured_values_as_the_hub_says() -> None:
    b = Builder()
    x = conv(b)
    view = b.op("Transpose", x, perm=[0, 2, 3, 1])
    condition = b.op("Greater", b.op("ReduceMax", x, keepdims=0), b.constant(0, np.float32))

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        inner = [
            helper.make_node("ReduceMean", [x, "last"], [f"{name}_a"], keepdims=0),
            helper.make_node("ReduceMean", [view, "last"], [f"{name}_b"], keepdims=0),
            helper.make_node("ReduceMean", [f"{name}_b", "last"], [f"{name}_c"], keepdims=1),
            helper.make_node(op_type, [f"{name}_a", f"{name}_a"], [name]),
            helper.make_node("Neg", [view], [f"{name}_d"]),
        ]
        outputs = [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, [None] * rank)
            for each, rank in ((name, 3), (f"{name}_c", 3), (f"{name}_d", 4))
        ]
        last = helper.make_tensor("last", TensorProto.INT64, [1], [-1])
        return helper.make_graph(inner, name, [], outputs, [last])

    taken = b.op(
        "If", condition, outputs=3, then_branch=branch("then", "Add"), else_branch=branch("else", "Mul")
    )
    model = laid_out(b, [b.conv(x, 4, 2), *taken])
    assert {value.name for value in model.graph.outputs} == {"v5", *taken}


def test_subgraphs_compute_in_the_native_layout_too() -> None:
    b = Builder()
    b.dynamic = False
    x = conv(b)
    condition = b.op("Greater", b.op("ReduceMax", x, keepdims=0), b.constant(0, np.float32))
    kernel, bias, scale = b.weight(4, 4, 3, 3), b.weight(4), b.weight(1, 4, 1, 1)

    def branch(name: str, op_type: str) -> onnx.GraphProto:
        inner = [
            helper.make_node("Conv", [x, kernel, bias], [f"{name}_conv"], pads=[1, 1, 1, 1]),
            helper.make_node("Mul", [f"{name}_conv", scale], [f"{name}_scaled"]),
            helper.make_node(op_type, [f"{name}_scaled"], [f"{name}_act"]),
            helper.make_node("Conv", [f"{name}_act", kernel], [name], pads=[1, 1, 1, 1]),
        ]
        output = helper.make_tensor_value_info(name, TensorProto.FLOAT, [2, 4, 4, 5])
        return helper.make_graph(inner, name, [], [output])

    branches = {"then_branch": branch("then", "Relu"), "else_branch": branch("else", "Tanh")}
    model = laid_out(b, [b.conv(b.op("If", condition, **branches), 4, 2)])
    for each in model.graph.all_nodes():
        if each.op_type == "Conv":
            assert metadata.layout_of(each) == "channels_last"
    for graph in model.graph.subgraphs():
        assert [each.op_type for each in graph if each.op_type == "Transpose"] == ["Transpose"] * 2
    assert initializer(model, scale).shape == (1, 4, 1, 1)


def test_channel_shuffle_moves_no_more_than_it_must() -> None:
    b = Builder()
    x = conv(b, 6)
    for _ in range(2):
        x = b.op("Reshape", x, b.constant([0, 2, 3, 4, 5]))
        x = b.op("Reshape", b.op("Transpose", x, perm=[0, 2, 1, 3, 4]), b.constant([0, 6, 4, 5]))
        x = b.op("Relu", b.conv(x, 6, 6, group=2))
    model = laid_out(b, [x])
    assert internal_transposes(model) == 2


def test_a_view_of_a_weight_is_folded_into_it() -> None:
    b = Builder()
    weight = b.weight(5, 3, 1, 4)
    moved = b.op("Transpose", weight, perm=[3, 1, 2, 0])
    x = b.op(
        "Mul", b.conv(b.spatial_input(3, 4, 5), 3, 4), b.op("Transpose", b.weight(1, 1, 4), perm=[2, 1, 0])
    )
    model = laid_out(b, [b.op("Conv", b.conv(x, 4, 3), moved)])
    assert initializer(model, weight).shape == (4, 3, 1, 5)
    assert operators(model)["Transpose"] == 2


def test_passing_input_through() -> None:
    for io_layout in ("source", "native"):
        b = Builder()
        x = b.spatial_input(3, 4, 5)
        turned = b.op("Transpose", x, perm=[0, 2, 3, 1])
        laid_out(b, [b.conv(x, 3, 4), turned, b.op("Identity", x)], io_layout=io_layout)


def test_sensitive_is_decided_by_the_caller() -> None:
    b = Builder()
    x = b.batch_norm(conv(b), 4)
    model = laid_out(b, [x], sensitive=lambda each: each.op_type == "Conv")
    assert metadata.layout_of(node(model, "BatchNormalization")) == "channels_first"
    assert operators(model)["Transpose"] == 2


def test_two_dynamic_spatial_axes() -> None:
    b = Builder()
    model = b.model([b.op("GlobalAveragePool", conv(b))])
    for value in (model.graph.inputs[0], *(each.outputs[0] for each in model.graph)):
        assert value.shape is not None
        if value.shape[2] != 1:
            value.shape = ir.Shape(["N", value.shape[1], "H", "W"])
    model = assign_layout(model, layout="channels_last")
    assert operators(model)["Transpose"] == 1
    run_laid_out(model, b.feeds)


def test_deterministic() -> None:
    def text() -> bytes:
        b = Builder()
        x = conv(b)
        x = b.op("Flatten", b.op("Add", x, b.op("Relu", b.conv(x, 4, 4))))
        model = laid_out(b, [b.op("MatMul", x, b.weight(80, 3))])
        return bytes(ir.to_proto(model).SerializeToString(deterministic=True))

    assert text() == text()


def test_unknown_rank_is_left_alone() -> None:
    b = Builder()
    model = b.model([b.op("Relu", conv(b))])
    for each in model.graph:
        each.outputs[0].shape = None
    model = assign_layout(model, layout="channels_last")
    assert operators(model) == {"Conv": 1, "Relu": 1}
    assert metadata.layout_of(node(model, "Conv")) == "channels_first"
