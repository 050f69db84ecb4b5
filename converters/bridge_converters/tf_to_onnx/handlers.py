"""How tf2onnx turns operators into ONNX that it does not know: markers and a few of TensorFlow's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import helper
from tf2onnx.graph import Graph, Node

from bridge.errors import UnsupportedOp, UnsupportedOps
from bridge_converters.tf_to_onnx import markers
from bridge_converters.tf_to_onnx.stopped import STOPS

Handler = tuple[Callable[[Graph, Node, str, list[Any]], None], list[Any]]


def _marker(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    record = markers.parse(node.get_attr_value("token"))
    if record is None:
        raise UnsupportedOps(
            [
                UnsupportedOp(
                    "PyFunc", "tensorflow", "it runs Python code that no other framework has", 1, (name,)
                )
            ],
            target="the ONNX hub",
            hint="write the function with TensorFlow operators",
        )
    op_type, attributes, absent = record
    if op_type == "Gelu":
        _gelu(graph, node, approximate=attributes["approximate"] == "tanh")
        return
    inputs, outputs = list(node.input), list(node.output)
    shapes = [graph.get_shape(each) for each in outputs]
    dtypes = [graph.get_dtype(each) for each in outputs]
    for index in absent:
        inputs.insert(index, "")
    graph.remove_node(name)
    graph.make_node(
        op_type, inputs, attr=attributes, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes
    )


def _stop_gradient(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """Leave the node as it is where there is a gradient; tf2onnx would drop it. `hub` writes it as ONNX."""
    dtype = graph.get_dtype(node.output[0])
    if dtype is not None and helper.tensor_dtype_to_np_dtype(dtype).kind in "biuO":
        node.type = "Identity"


def _gelu(graph: Graph, node: Node, *, approximate: bool) -> None:
    """`Gelu` exists from opset 20 only: write the formula of its specification."""
    (x,), (result,) = node.input, node.output
    shape, dtype, name = graph.get_shape(result), graph.get_dtype(result), node.name
    number = helper.tensor_dtype_to_np_dtype(dtype).type

    def constant(value: float) -> str:
        return str(graph.make_const(f"{name}/{value:g}", np.array(value, number)).output[0])

    def step(op_type: str, *inputs: str) -> str:
        made = graph.make_node(
            op_type, list(inputs), name=f"{name}/{op_type}{len(made_names)}", shapes=[shape], dtypes=[dtype]
        )
        made_names.append(made.name)
        return str(made.output[0])

    made_names: list[str] = []
    graph.remove_node(name)
    if approximate:
        cube = step("Mul", step("Mul", x, x), x)
        inner = step("Add", x, step("Mul", cube, constant(0.044715)))
        bell = step("Tanh", step("Mul", inner, constant(math.sqrt(2 / math.pi))))
    else:
        bell = step("Erf", step("Div", x, constant(math.sqrt(2))))
    half = step("Mul", x, constant(0.5))
    graph.make_node(
        "Mul",
        [half, step("Add", bell, constant(1.0))],
        name=name,
        outputs=[result],
        shapes=[shape],
        dtypes=[dtype],
    )


def _erfc(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """erfc(x) = 1 - erf(x)."""
    (x,), (result,) = node.input, node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    erf = graph.make_node("Erf", [x], name=f"{name}/Erf", shapes=[shape], dtypes=[dtype])
    one = graph.make_const(f"{name}/one", np.array(1, helper.tensor_dtype_to_np_dtype(dtype)))
    graph.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=[result], shapes=[shape], dtypes=[dtype]
    )


def _floor_div(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """floor(x / y); for integers, whose division truncates in ONNX, (x - mod(x, y)) / y."""
    x, y = node.input
    (result,) = node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    whole = {"name": name, "outputs": [result], "shapes": [shape], "dtypes": [dtype]}
    part = {"shapes": [shape], "dtypes": [dtype]}
    if helper.tensor_dtype_to_np_dtype(dtype).kind == "f":
        quotient = graph.make_node("Div", [x, y], name=f"{name}/Div", **part)
        graph.make_node("Floor", [quotient.output[0]], **whole)
        return
    rest = graph.make_node("Mod", [x, y], name=f"{name}/Mod", **part)
    multiple = graph.make_node("Sub", [x, rest.output[0]], name=f"{name}/Sub", **part)
    graph.make_node("Div", [multiple.output[0], y], **whole)


def _floor_mod(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """x - floor(x / y) * y; for integers `Mod`, whose result has the sign of the divisor too."""
    x, y = node.input
    (result,) = node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    whole = {"name": name, "outputs": [result], "shapes": [shape], "dtypes": [dtype]}
    part = {"shapes": [shape], "dtypes": [dtype]}
    if helper.tensor_dtype_to_np_dtype(dtype).kind != "f":
        graph.make_node("Mod", [x, y], **whole)
        return
    quotient = graph.make_node("Div", [x, y], name=f"{name}/Div", **part)
    floor = graph.make_node("Floor", [quotient.output[0]], name=f"{name}/Floor", **part)
    multiple = graph.make_node("Mul", [floor.output[0], y], name=f"{name}/Mul", **part)
    graph.make_node("Sub", [x, multiple.output[0]], **whole)


def _truncate_mod(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """The remainder with the sign of the dividend, as C's fmod."""
    inputs, (result,) = list(node.input), node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    graph.make_node(
        "Mod", inputs, attr={"fmod": 1}, name=name, outputs=[result], shapes=[shape], dtypes=[dtype]
    )


def _select(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """Where, which keeps what is not selected out of the result; a product with zero lets infinity in."""
    inputs, (result,) = list(node.input), node.output
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(name)
    graph.make_node("Where", inputs, name=name, outputs=[result], shapes=[shape], dtypes=[dtype])


def _reverse(graph: Graph, node: Node, name: str, _: list[Any]) -> None:
    """A slice with steps of -1 along the axes."""
    x, (result,) = node.input[0], node.output
    axes = np.asarray(node.inputs[1].get_tensor_value(as_list=False), np.int64).reshape(-1)
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    bounds = {"starts": -1, "ends": np.iinfo(np.int64).min, "axes": axes, "steps": -1}
    inputs = [
        graph.make_const(f"{name}/{key}", np.full_like(axes, value)).output[0]
        for key, value in bounds.items()
    ]
    graph.remove_node(name)
    graph.make_node("Slice", [x, *inputs], name=name, outputs=[result], shapes=[shape], dtypes=[dtype])


def custom_handlers() -> dict[str, Handler]:
    """The handlers by TensorFlow operator, in the form that tf2onnx takes."""
    return {
        markers.OP_TYPE: (_marker, []),
        "Erfc": (_erfc, []),
        "FloorDiv": (_floor_div, []),
        "FloorMod": (_floor_mod, []),
        "ReverseV2": (_reverse, []),
        "SelectV2": (_select, []),
        STOPS: (_stop_gradient, []),
        "TruncateMod": (_truncate_mod, []),
    }
