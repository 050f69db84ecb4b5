"""Nodes with trained weights, and the native layers that the rules of each target must answer."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

from bridge.emit.layer import Layer, NodeView
from bridge.emit.lowering import LoweringTable
from bridge.emit.plan import node_view
from bridge.hub import metadata, recipe
from bridge.hub.metadata import Layout
from operator_cases.case import OPSET, Array, Case, case, draw, ints, scalar


@dataclass(frozen=True)
class LayerCase:
    """A case of which the inputs `trained` are trained tensors and `constants` plain ones.

    `torch` and `tf` are the layers' constructor calls as they are emitted; None where the functional
    lowering must be used.
    """

    case: Case
    torch: str | None
    tf: str | None
    trained: tuple[int, ...] = ()
    constants: tuple[int, ...] = ()
    batch: bool = True

    @property
    def name(self) -> str:
        return f"{self.case.op}-{self.torch}-{self.tf}"


def view_of(each: LayerCase, layout: Layout) -> NodeView:
    """The node as rules see it, with a dynamic batch."""
    proto = each.case.model(frozenset((*each.trained, *each.constants)))
    graph = ir.from_proto(proto).graph
    (node,) = graph
    for index in each.trained:
        value = node.inputs[index]
        assert value is not None
        metadata.set_recipe_record(value, recipe.to_json(recipe.Source(f"layer.{index}")))
    for value in (*(v for v in node.inputs if v is not None and not v.is_initializer()), *node.outputs):
        if value.shape is None:
            continue
        dims: list[Any] = list(value.shape)
        if each.batch and len(dims) > 1:
            dims[0] = "batch"
        if layout == "channels_last" and len(dims) > 2:
            dims = [dims[0], *dims[2:], dims[1]]
        value.shape = ir.Shape(dims)
    if layout == "channels_last":
        metadata.set_layout(node, layout)
    return node_view(node, {"": OPSET})


def layer_of(table: LoweringTable, view: NodeView) -> Layer | None:
    answers = (rule(view) for rule in table.rules(view.op_type))
    return next((each for each in answers if each is not None), None)


def written(layer: Layer) -> str:
    """The constructor call as it is emitted."""
    arguments = [*map(repr, layer.args), *(f"{key}={value!r}" for key, value in layer.kwargs.items())]
    text = f"{layer.constructor}({', '.join(arguments)})"
    ast.parse(text)
    return text


def tensors_of(each: LayerCase, view: NodeView, layer: Layer) -> dict[str, Array]:
    """The values of the layer's own tensors: the case's inputs after the moves."""
    position = {value: i for i, value in enumerate(view.node.inputs) if value is not None}
    result = {}
    for slot, tensor in layer.tensors.items():
        moved: recipe.Recipe = recipe.Source("x")
        for op, attributes in tensor.moves:
            moved = recipe.step(op, moved, **attributes)
        value = each.case.inputs[position[tensor.value]]
        assert value is not None
        assert recipe.only_moves(moved)
        result[slot] = recipe.run(moved, {"x": value})
    return result


def call_inputs(each: LayerCase, layer: Layer) -> list[Array]:
    return [value for i in layer.inputs if (value := each.case.inputs[i]) is not None]


Convert = Callable[[Array], Any]


def _conv(
    *weights: int, x: tuple[int, ...], torch: str | None, tf: str | None, bias: bool = True, **attributes: Any
):
    w = draw(*weights, low=-1, high=1)
    b = (draw(weights[0]),) if bias else ()
    return LayerCase(case("Conv", draw(*x), w, *b, **attributes), torch, tf, trained=(1, 2)[: 1 + bias])


def _transposed(
    *weights: int, x: tuple[int, ...], torch: str | None, tf: str | None, group: int = 1, **attributes: Any
):
    w = draw(*weights, low=-1, high=1)
    b = draw(weights[1] * group)
    return LayerCase(
        case("ConvTranspose", draw(*x), w, b, group=group, **attributes), torch, tf, trained=(1, 2)
    )


def _batch_norm(shape, torch, tf, trained=(1, 2, 3, 4), constants=(), **attributes):
    c = shape[1]
    scale = np.ones(c, np.float32) if 1 in constants else draw(c, seed=1)
    bias = np.zeros(c, np.float32) if 2 in constants else draw(c, seed=2)
    node = case(
        "BatchNormalization",
        draw(*shape), scale, bias, draw(c, seed=3), draw(c, seed=4, low=0.1, high=3),
        **attributes,
    )  # fmt: skip
    return LayerCase(node, torch, tf, trained, constants)


CONVOLUTIONS = [
    _conv(6, 4, 3, x=(2, 4, 9), torch="nn.Conv1d(4, 6, 3)", tf="keras.layers.Conv1D(6, 3)"),
    _conv(6, 4, 3, 3, x=(2, 4, 9, 9), torch="nn.Conv2d(4, 6, 3)", tf="keras.layers.Conv2D(6, 3)"),
    _conv(
        6, 4, 3, 3, 3, x=(2, 4, 5, 5, 5), torch="nn.Conv3d(4, 6, 3)", tf="keras.layers.Conv3D(6, 3)"
    ),
    _conv(
        6, 4, 3, 5, x=(2, 4, 9, 9), bias=False,
        torch="nn.Conv2d(4, 6, (3, 5), bias=False)", tf="keras.layers.Conv2D(6, (3, 5), use_bias=False)",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 9, 9), pads=(1, 1, 1, 1),
        torch="nn.Conv2d(4, 6, 3, padding=1)", tf="keras.layers.Conv2D(6, 3, padding='same')",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 9, 9), pads=(1, 1, 1, 1), strides=(2, 2),
        torch="nn.Conv2d(4, 6, 3, stride=2, padding=1)",
        tf="keras.layers.Conv2D(6, 3, strides=2, padding='same')",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 8, 8), pads=(1, 1, 1, 1), strides=(2, 2),
        torch="nn.Conv2d(4, 6, 3, stride=2, padding=1)", tf=None,
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 8, 8), pads=(0, 0, 1, 1), strides=(2, 2),
        torch=None, tf="keras.layers.Conv2D(6, 3, strides=2, padding='same')",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 8, 8), auto_pad="SAME_UPPER", strides=(2, 2),
        torch=None, tf="keras.layers.Conv2D(6, 3, strides=2, padding='same')",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 9, 9), dilations=(2, 2),
        torch="nn.Conv2d(4, 6, 3, dilation=2)", tf="keras.layers.Conv2D(6, 3, dilation_rate=2)",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 9, 9), dilations=(2, 1), pads=(2, 1, 2, 1),
        torch="nn.Conv2d(4, 6, 3, padding=(2, 1), dilation=(2, 1))",
        tf="keras.layers.Conv2D(6, 3, padding='same', dilation_rate=(2, 1))",
    ),
    _conv(
        6, 4, 3, 3, x=(2, 4, 9, 9), dilations=(2, 2), strides=(2, 2),
        torch="nn.Conv2d(4, 6, 3, stride=2, dilation=2)", tf=None,
    ),
    _conv(
        6, 2, 3, 3, x=(2, 4, 9, 9), group=2,
        torch="nn.Conv2d(4, 6, 3, groups=2)", tf="keras.layers.Conv2D(6, 3, groups=2)",
    ),
    _conv(
        6, 2, 3, x=(2, 4, 9), group=2,
        torch="nn.Conv1d(4, 6, 3, groups=2)", tf="keras.layers.Conv1D(6, 3, groups=2)",
    ),
    _conv(
        6, 2, 3, 3, 3, x=(2, 4, 5, 5, 5), group=2,
        torch="nn.Conv3d(4, 6, 3, groups=2)", tf="keras.layers.Conv3D(6, 3, groups=2)",
    ),
    _conv(
        4, 1, 3, 3, x=(2, 4, 9, 9), group=4, pads=(1, 1, 1, 1),
        torch="nn.Conv2d(4, 4, 3, padding=1, groups=4)",
        tf="keras.layers.DepthwiseConv2D(3, padding='same')",
    ),
    _conv(
        8, 1, 3, 3, x=(2, 4, 9, 9), group=4, strides=(2, 2), bias=False,
        torch="nn.Conv2d(4, 8, 3, stride=2, groups=4, bias=False)",
        tf="keras.layers.DepthwiseConv2D(3, strides=2, use_bias=False, depth_multiplier=2)",
    ),
    _conv(
        8, 1, 3, x=(2, 4, 9), group=4, strides=(2,),
        torch="nn.Conv1d(4, 8, 3, stride=2, groups=4)",
        tf="keras.layers.DepthwiseConv1D(3, strides=2, depth_multiplier=2)",
    ),
    _conv(
        4, 1, 3, 3, x=(2, 4, 9, 9), group=4, dilations=(2, 2), pads=(2, 2, 2, 2),
        torch="nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4)",
        tf="keras.layers.DepthwiseConv2D(3, padding='same', dilation_rate=2)",
    ),
    _conv(
        4, 1, 3, 3, x=(2, 4, 9, 9), group=4, strides=(2, 1),
        torch="nn.Conv2d(4, 4, 3, stride=(2, 1), groups=4)", tf=None,
    ),
    _conv(4, 1, 1, 1, x=(2, 1, 5, 5), torch="nn.Conv2d(1, 4, 1)", tf="keras.layers.Conv2D(4, 1)"),
    _transposed(
        4, 6, 3, 3, x=(2, 4, 5, 5), strides=(1, 1),
        torch="nn.ConvTranspose2d(4, 6, 3)", tf="keras.layers.Conv2DTranspose(6, 3)",
    ),
    _transposed(
        4, 6, 3, x=(2, 4, 5), strides=(2,),
        torch="nn.ConvTranspose1d(4, 6, 3, stride=2)", tf="keras.layers.Conv1DTranspose(6, 3, strides=2)",
    ),
    _transposed(
        4, 6, 3, 3, 3, x=(2, 4, 3, 3, 3), strides=(2, 2, 2),
        torch="nn.ConvTranspose3d(4, 6, 3, stride=2)", tf="keras.layers.Conv3DTranspose(6, 3, strides=2)",
    ),
    _transposed(
        4, 6, 4, 4, x=(2, 4, 5, 5), strides=(2, 2), pads=(1, 1, 1, 1),
        torch="nn.ConvTranspose2d(4, 6, 4, stride=2, padding=1)",
        tf="keras.layers.Conv2DTranspose(6, 4, strides=2, padding='same')",
    ),
    _transposed(
        4, 6, 3, 3, x=(2, 4, 5, 5), strides=(2, 2), pads=(0, 0, 1, 1),
        torch=None, tf="keras.layers.Conv2DTranspose(6, 3, strides=2, padding='same')",
    ),
    _transposed(
        4, 6, 3, 3, x=(2, 4, 5, 5), strides=(2, 2), pads=(1, 1, 1, 1), output_padding=(1, 1),
        torch="nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1)", tf=None,
    ),
    _transposed(
        4, 6, 3, 3, x=(2, 4, 5, 5), strides=(2, 2), output_padding=(1, 1),
        torch="nn.ConvTranspose2d(4, 6, 3, stride=2, output_padding=1)",
        tf="keras.layers.Conv2DTranspose(6, 3, strides=2, output_padding=1)",
    ),
    _transposed(
        4, 6, 2, 2, x=(2, 4, 5, 5), strides=(3, 3),
        torch="nn.ConvTranspose2d(4, 6, 2, stride=3)",
        tf="keras.layers.Conv2DTranspose(6, 2, strides=3, output_padding=0)",
    ),
    _transposed(
        4, 6, 2, 2, x=(2, 4, 5, 5), strides=(3, 3), output_padding=(1, 1),
        torch="nn.ConvTranspose2d(4, 6, 2, stride=3, output_padding=1)",
        tf="keras.layers.Conv2DTranspose(6, 2, strides=3)",
    ),
    _transposed(
        4, 6, 3, 3, x=(2, 4, 5, 5), dilations=(2, 2),
        torch="nn.ConvTranspose2d(4, 6, 3, dilation=2)",
        tf="keras.layers.Conv2DTranspose(6, 3, dilation_rate=2)",
    ),
    _transposed(
        4, 3, 3, 3, x=(2, 4, 5, 5), group=2,
        torch="nn.ConvTranspose2d(4, 6, 3, groups=2)", tf=None,
    ),
]  # fmt: skip

NORMALISATIONS = [
    _batch_norm((2, 3), "nn.BatchNorm1d(3)", "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-05)"),
    _batch_norm(
        (2, 3, 5), "nn.BatchNorm1d(3)", "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-05)"
    ),
    _batch_norm(
        (2, 3, 5, 4),
        "nn.BatchNorm2d(3, eps=0.001, momentum=0.01)",
        "keras.layers.BatchNormalization()",
        epsilon=1e-3,
        momentum=0.99,
    ),
    _batch_norm(
        (2, 3, 2, 2, 2), "nn.BatchNorm3d(3)", "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-05)"
    ),
    _batch_norm(
        (2, 3, 5, 4),
        "nn.BatchNorm2d(3, affine=False)",
        "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-05, center=False, scale=False)",
        trained=(3, 4),
        constants=(1, 2),
    ),
    _batch_norm(
        (2, 3, 5, 4),
        "nn.BatchNorm2d(3)",
        "keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-05, scale=False)",
        trained=(2, 3, 4),
        constants=(1,),
    ),
    LayerCase(
        case("LayerNormalization", draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)),
        "nn.LayerNorm(8)",
        "keras.layers.LayerNormalization(epsilon=1e-05)",
        trained=(1, 2),
    ),
    LayerCase(
        case("LayerNormalization", draw(2, 3, 8), draw(3, 8, seed=1), axis=1, epsilon=1e-3),
        "nn.LayerNorm((3, 8), eps=0.001, bias=False)",
        "keras.layers.LayerNormalization(axis=(-2, -1), center=False)",
        trained=(1,),
    ),
    LayerCase(
        case("LayerNormalization", draw(2, 8), np.ones(8, np.float32), label="plain"),
        "nn.LayerNorm(8, elementwise_affine=False)",
        "keras.layers.LayerNormalization(epsilon=1e-05, center=False, scale=False)",
        constants=(1,),
    ),
    LayerCase(
        case("RMSNormalization", draw(2, 3, 8), draw(8, seed=1), epsilon=1e-6),
        "nn.RMSNorm(8, eps=1e-06)",
        "keras.layers.RMSNormalization()",
        trained=(1,),
    ),
    LayerCase(
        case("RMSNormalization", draw(2, 3, 8), draw(3, 8, seed=1), axis=1),
        "nn.RMSNorm((3, 8), eps=1e-05)",
        "keras.layers.RMSNormalization(axis=(-2, -1), epsilon=1e-05)",
        trained=(1,),
    ),
    LayerCase(
        case("RMSNormalization", draw(2, 8), np.ones(8, np.float32), label="plain"),
        "nn.RMSNorm(8, eps=1e-05, elementwise_affine=False)",
        None,
        constants=(1,),
    ),
    LayerCase(case("Swish", draw(2, 3), opset=24), "nn.SiLU()", "keras.layers.Activation('silu')"),
    LayerCase(case("Swish", draw(2, 3), opset=24, alpha=0.5), None, None),
    LayerCase(
        case("GroupNormalization", draw(2, 6, 4, 5), draw(6, seed=1), draw(6, seed=2), num_groups=2),
        "nn.GroupNorm(2, 6)",
        "keras.layers.GroupNormalization(groups=2, epsilon=1e-05)",
        trained=(1, 2),
    ),
    LayerCase(
        case("InstanceNormalization", draw(2, 6, 4, 5), draw(6, seed=1), draw(6, seed=2)),
        "nn.InstanceNorm2d(6, affine=True)",
        "keras.layers.GroupNormalization(groups=-1, epsilon=1e-05)",
        trained=(1, 2),
    ),
]

PRODUCTS = [
    LayerCase(
        case(
            "GroupNormalization",
            draw(2, 6, 4, 5),
            np.ones(6, np.float32),
            np.zeros(6, np.float32),
            num_groups=3,
            label="plain",
        ),
        "nn.GroupNorm(3, 6, affine=False)",
        "keras.layers.GroupNormalization(groups=3, epsilon=1e-05, center=False, scale=False)",
        constants=(1, 2),
    ),
    LayerCase(
        case(
            "InstanceNormalization",
            draw(2, 6, 4, 5),
            np.ones(6, np.float32),
            np.zeros(6, np.float32),
            label="plain",
        ),
        "nn.InstanceNorm2d(6)",
        "keras.layers.GroupNormalization(groups=-1, epsilon=1e-05, center=False, scale=False)",
        constants=(1, 2),
    ),
    LayerCase(
        case("Gemm", draw(2, 3), draw(4, 3), draw(4), transB=1),
        "nn.Linear(3, 4)",
        "keras.layers.Dense(4)",
        trained=(1, 2),
    ),
    LayerCase(
        case("Gemm", draw(2, 3), draw(3, 4), draw(1, 4)),
        "nn.Linear(3, 4)",
        "keras.layers.Dense(4)",
        trained=(1, 2),
    ),
    LayerCase(
        case("Gemm", draw(2, 3), draw(3, 4)),
        "nn.Linear(3, 4, bias=False)",
        "keras.layers.Dense(4, use_bias=False)",
        trained=(1,),
    ),
    LayerCase(case("Gemm", draw(2, 3), draw(3, 4), draw(4), alpha=2.0), None, None, trained=(1, 2)),
    LayerCase(case("Gemm", draw(2, 3), draw(3, 4), draw(4)), None, None, trained=(1,)),
    LayerCase(
        case("MatMul", draw(2, 5, 3), draw(3, 4)),
        "nn.Linear(3, 4, bias=False)",
        "keras.layers.Dense(4, use_bias=False)",
        trained=(1,),
    ),
    LayerCase(case("MatMul", draw(2, 5, 3), draw(2, 3, 4)), None, None, trained=(1,)),
    LayerCase(
        case("Gather", draw(9, 4), np.array([[0, 3], [8, 1]])),
        "nn.Embedding(9, 4)",
        "keras.layers.Embedding(9, 4)",
        trained=(0,),
    ),
    LayerCase(case("Gather", draw(9, 4), ints(0, 3), axis=1), None, None, trained=(0,)),
    LayerCase(case("Gather", draw(9, 4), ints(0, 3)), None, None, trained=(0,), constants=(1,)),
]


def _stateless(
    op: str, torch: str | None, tf: str | None, *inputs: Array | None, x=(2, 3, 8, 8), **attributes: Any
):
    constants = tuple(i for i, value in enumerate(inputs, start=1) if value is not None)
    return LayerCase(
        case(op, draw(*x, low=-8, high=8), *inputs, **attributes), torch, tf, constants=constants
    )


STATELESS = [
    _stateless(
        "MaxPool", "nn.MaxPool2d(2)", "keras.layers.MaxPooling2D(2)", kernel_shape=(2, 2), strides=(2, 2)
    ),
    _stateless(
        "MaxPool", "nn.MaxPool2d(3, stride=1)", "keras.layers.MaxPooling2D(3, strides=1)", kernel_shape=(3, 3)
    ),
    _stateless(
        "MaxPool",
        "nn.MaxPool2d(3, stride=2, padding=1)",
        None,
        kernel_shape=(3, 3),
        strides=(2, 2),
        pads=(1,) * 4,
    ),
    _stateless(
        "MaxPool",
        None,
        "keras.layers.MaxPooling2D(3, strides=2, padding='same')",
        kernel_shape=(3, 3),
        strides=(2, 2),
        pads=(0, 0, 1, 1),
    ),
    _stateless(
        "MaxPool", "nn.MaxPool2d(3, ceil_mode=True)", None, kernel_shape=(3, 3), strides=(3, 3), ceil_mode=1
    ),
    _stateless(
        "MaxPool",
        "nn.MaxPool2d(2, ceil_mode=True)",
        "keras.layers.MaxPooling2D(2)",
        kernel_shape=(2, 2),
        strides=(2, 2),
        ceil_mode=1,
    ),
    _stateless(
        "MaxPool", "nn.MaxPool2d(2, stride=1, dilation=2)", None, kernel_shape=(2, 2), dilations=(2, 2)
    ),
    _stateless(
        "MaxPool",
        "nn.MaxPool1d(2)",
        "keras.layers.MaxPooling1D(2)",
        x=(2, 3, 8),
        kernel_shape=(2,),
        strides=(2,),
    ),
    _stateless(
        "MaxPool",
        "nn.MaxPool3d((1, 2, 2))",
        "keras.layers.MaxPooling3D((1, 2, 2))",
        x=(2, 3, 4, 4, 4),
        kernel_shape=(1, 2, 2),
        strides=(1, 2, 2),
    ),
    _stateless(
        "AveragePool",
        "nn.AvgPool2d(2)",
        "keras.layers.AveragePooling2D(2)",
        kernel_shape=(2, 2),
        strides=(2, 2),
    ),
    _stateless(
        "AveragePool",
        "nn.AvgPool2d(3, stride=1, padding=1, count_include_pad=False)",
        "keras.layers.AveragePooling2D(3, strides=1, padding='same')",
        kernel_shape=(3, 3),
        pads=(1,) * 4,
    ),
    _stateless(
        "AveragePool",
        "nn.AvgPool2d(3, stride=1, padding=1)",
        None,
        kernel_shape=(3, 3),
        pads=(1,) * 4,
        count_include_pad=1,
    ),
    _stateless("AveragePool", None, None, kernel_shape=(2, 2), dilations=(2, 2)),
    _stateless(
        "GlobalAveragePool", "nn.AdaptiveAvgPool2d(1)", "keras.layers.GlobalAveragePooling2D(keepdims=True)"
    ),
    _stateless(
        "GlobalAveragePool",
        "nn.AdaptiveAvgPool1d(1)",
        "keras.layers.GlobalAveragePooling1D(keepdims=True)",
        x=(2, 3, 8),
    ),
    _stateless(
        "GlobalMaxPool",
        "nn.AdaptiveMaxPool3d(1)",
        "keras.layers.GlobalMaxPooling3D(keepdims=True)",
        x=(2, 3, 2, 3, 4),
    ),
    _stateless("Relu", "nn.ReLU()", "keras.layers.ReLU()"),
    _stateless("Clip", "nn.ReLU6()", "keras.layers.ReLU(max_value=6.0)", scalar(0), scalar(6)),
    _stateless("Clip", None, "keras.layers.ReLU(max_value=4.5)", scalar(0), scalar(4.5)),
    _stateless("Clip", None, None, scalar(-1), scalar(1)),
    _stateless("LeakyRelu", "nn.LeakyReLU()", "keras.layers.LeakyReLU(negative_slope=0.01)"),
    _stateless("LeakyRelu", "nn.LeakyReLU(negative_slope=0.3)", "keras.layers.LeakyReLU()", alpha=0.3),
    _stateless("Elu", "nn.ELU(alpha=0.5)", "keras.layers.ELU(alpha=0.5)", alpha=0.5),
    _stateless("Celu", "nn.CELU(alpha=0.5)", None, alpha=0.5),
    _stateless("Selu", "nn.SELU()", "keras.layers.Activation('selu')"),
    _stateless("Selu", None, None, alpha=1.0),
    _stateless("Gelu", "nn.GELU()", "keras.layers.Activation('gelu')"),
    _stateless("Gelu", "nn.GELU(approximate='tanh')", None, approximate="tanh"),
    _stateless("Sigmoid", "nn.Sigmoid()", "keras.layers.Activation('sigmoid')"),
    _stateless("HardSigmoid", "nn.Hardsigmoid()", "keras.layers.Activation('hard_sigmoid')", alpha=1 / 6),
    _stateless("HardSigmoid", None, None),
    _stateless("HardSwish", "nn.Hardswish()", "keras.layers.Activation('hard_swish')"),
    _stateless("Tanh", "nn.Tanh()", "keras.layers.Activation('tanh')"),
    _stateless("Mish", "nn.Mish()", "keras.layers.Activation('mish')"),
    _stateless("Softplus", "nn.Softplus()", "keras.layers.Activation('softplus')"),
    _stateless("Softsign", "nn.Softsign()", "keras.layers.Activation('softsign')"),
    _stateless("ThresholdedRelu", "nn.Threshold(0.5, 0.0)", None, alpha=0.5),
    _stateless("Softmax", "nn.Softmax(dim=1)", "keras.layers.Softmax(axis=1)", x=(2, 5), axis=1),
    _stateless("LogSoftmax", "nn.LogSoftmax(dim=-1)", None, x=(2, 5)),
    _stateless("Dropout", "nn.Dropout(0.3)", "keras.layers.Dropout(0.3)", scalar(0.3)),
    _stateless("Dropout", "nn.Dropout(0.5)", "keras.layers.Dropout(0.5)"),
    _stateless("Flatten", "nn.Flatten()", "keras.layers.Flatten()", x=(2, 3, 4)),
    _stateless("Flatten", None, None, x=(2, 3, 4), axis=2),
    _stateless(
        "Resize",
        "nn.Upsample(scale_factor=2.0)",
        "keras.layers.UpSampling2D(2)",
        None,
        np.array([1, 1, 2, 2], np.float32),
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    _stateless(
        "Resize",
        "nn.Upsample(scale_factor=(2.0, 1.5), mode='bilinear')",
        None,
        None,
        np.array([2, 1.5], np.float32),
        axes=(2, 3),
        mode="linear",
    ),
    _stateless("Identity", "nn.Identity()", "keras.layers.Identity()"),
    LayerCase(
        case("PRelu", draw(2, 5), draw(5, seed=1)),
        "nn.PReLU(num_parameters=5)",
        "keras.layers.PReLU()",
        trained=(1,),
    ),
    LayerCase(
        case("PRelu", draw(2, 5), draw(1, seed=1)),
        "nn.PReLU()",
        "keras.layers.PReLU(shared_axes=(1,))",
        trained=(1,),
    ),
]

LAYER_CASES: list[LayerCase] = [*CONVOLUTIONS, *NORMALISATIONS, *PRODUCTS, *STATELESS]
