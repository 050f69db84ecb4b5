"""Shapes in terms of the sizes of axes: what is written means the same, and reads nothing else."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_graphs import assert_equivalent, hub, ints, node_of, operators

from bridge.hub.graph import add_constant, fuse
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes
from bridge.passes.sizes import write_sizes
from bridge.passes.static import fold_static
from bridge.passes.unused import drop_unused


def written(model: ir.Model) -> ir.Model:
    return drop_unused(write_sizes(infer_shapes(fold_static(attach_recipes(model.clone(deep_copy=True))))))


def in_onnx(model: ir.Model) -> ir.Model:
    """The same in the standard's operators."""
    for node in list(model.graph):
        if node.domain != "bridge":
            continue
        inputs = [value for value in node.inputs if value is not None]
        if node.op_type in ("Reshape", "Expand", "Full"):
            owners, sizes = node.attributes["owners"].as_ints(), node.attributes["sizes"].as_ints()
            parts = [
                add_constant(model.graph, np.asarray([size], np.int64), "size")
                if owner < 0
                else _size(node, inputs[owner], size)
                for owner, size in zip(owners, sizes, strict=True)
            ]
            concat = ir.node("Concat", parts, {"axis": 0})
            node.graph.insert_before(node, concat)  # type: ignore[union-attr]
            if node.op_type == "Full":
                dtype = ir.DataType(node.attributes["dtype"].as_int())
                fill = ir.tensor(np.asarray([node.attributes["value"].value]).astype(dtype.numpy()))
                fuse([node], "ConstantOfShape", [concat.outputs[0]], {"value": fill})
            else:
                fuse([node], node.op_type, [inputs[0], concat.outputs[0]])
        elif node.op_type == "Arange":
            size = _size(node, inputs[0], node.attributes["axis"].as_int())
            squeezed = ir.node("Squeeze", [size])
            node.graph.insert_before(node, squeezed)  # type: ignore[union-attr]
            dtype = node.outputs[0].dtype or ir.DataType.INT64
            cast = ir.node("Cast", squeezed.outputs, {"to": dtype})
            squeezed.graph.insert_after(squeezed, cast)  # type: ignore[union-attr]
            bounds = [
                np.asarray(n, ir.DataType(dtype).numpy()) for n in (0, node.attributes.get_int("step", 1))
            ]
            zero, step = (add_constant(model.graph, each, "n") for each in bounds)
            fuse([node], "Range", [zero, cast.outputs[0], step])
        else:
            size = _size(node, inputs[1], node.attributes["of"].as_int())
            start, axis = (node.attributes[name].as_int() for name in ("start", "axis"))
            bounds = [add_constant(model.graph, ints(n), "bound") for n in (start, axis)]
            fuse([node], "Slice", [inputs[0], bounds[0], size, bounds[1]])
    return model


def _size(node: ir.Node, value: ir.Value, axis: int) -> ir.Value:
    shape = ir.node("Shape", [value], {"start": axis, "end": axis + 1})
    node.graph.insert_before(node, shape)  # type: ignore[union-attr]
    return shape.outputs[0]


N_AND_S = "n = Shape <start=0, end=1> (x) s = Shape <start=1, end=2> (x)"


@pytest.mark.parametrize(
    ("body", "operator", "expected"),
    [
        (
            "t = Concat <axis=0> (n, s, four, two) y = Reshape <allowzero=1> (x, t)",
            "Reshape",
            {"owners": (-1, 0, -1, -1), "sizes": (-1, 1, 4, 2)},
        ),
        (
            "p = Transpose <perm=[1,0,2]> (x) m = Mul(n, four) t = Concat <axis=0> (s, m, two)"
            " r = Reshape(p, t) u = Concat <axis=0> (n, s, eight) y = Reshape(r, u)",
            None,
            None,
        ),
        ("e = Unsqueeze(x, one) t = Concat <axis=0> (n, four, s, eight) y = Expand(e, t)", None, None),
        (
            "t = Concat <axis=0> (s, n) y = ConstantOfShape(t)",
            "Full",
            {"owners": (0, 0), "sizes": (1, 0)},
        ),
        (
            "t = Concat <axis=0> (n, four, s) y = Expand(tenth, t)",
            "Full",
            {"owners": (0, -1, 0), "sizes": (0, 4, 1), "value": 0.1, "dtype": 1},
        ),
        ("k = Squeeze(s) y = Range(zero, k, step)", "Arange", {"axis": 1}),
        ("k = Squeeze(s) y = Range(zero, k, three)", "Arange", {"axis": 1, "step": 3}),
        (
            "c = Cast <to=6> (s) k = Squeeze(c) r = Range(zero32, k, step32) y = Cast <to=7> (r)",
            "Arange",
            {"axis": 1},
        ),
        ("y = Slice(table, first, s, one)", "Slice", {"start": 0, "axis": 1, "of": 1}),
        ("y = Slice(table, one, s, one)", "Slice", {"start": 1, "axis": 1, "of": 1}),
    ],
)
def test_what_is_written_means_the_same(
    body: str, operator: str | None, expected: dict[str, object] | None
) -> None:
    model = hub(
        f"(float[N,S,8] x) => (float y) {{ {N_AND_S} {body} }}",
        constants={
            "one": ints(1),
            "first": ints(0),
            "two": ints(2),
            "four": ints(4),
            "eight": ints(8),
            "zero": np.asarray(0, np.int64),
            "step": np.asarray(1, np.int64),
            "three": np.asarray(3, np.int64),
            "tenth": np.asarray(0.1, np.float32),
            "zero32": np.asarray(0, np.int32),
            "step32": np.asarray(1, np.int32),
            "table": np.arange(24, dtype=np.int64).reshape(2, 12),
        },
    )
    if operator in ("Arange", "Slice"):
        model.graph.outputs[0].dtype = ir.DataType.INT64
    found = written(model)
    assert not {"Shape", "Concat"} & set(operators(found))
    if operator is not None and expected is not None:
        node = node_of(found, operator)
        assert {name: node.attributes[name].value for name in expected} == expected
    assert_equivalent(model, in_onnx(found))


def test_sizes_that_are_not_known_are_left_alone() -> None:
    model = hub(
        "(float[N,S,8] x, int64[1] k) => (float y) { n = Shape <start=0, end=1> (x)"
        " t = Concat <axis=0> (n, k, k) y = Reshape(x, t) }"
    )
    assert operators(written(model)) == ["Shape", "Concat", "Reshape"]


def test_an_expansion_that_may_shorten_an_axis_is_left_alone() -> None:
    """A size of 1 keeps the axis of the data, which broadcasting to the shape alone would not."""
    model = hub(
        "(float[N,S] x, float[M] z) => (float y) { m = Shape(z) n = Shape <start=1, end=2> (x)"
        " t = Concat <axis=0> (m, n) y = Expand(x, t) }"
    )
    assert operators(written(model)) == ["Shape", "Shape", "Concat", "Expand"]


def test_zeros_that_mean_no_elements_are_left_alone() -> None:
    model = hub(
        "(float[N,0] x) => (float y) { n = Shape <start=0, end=1> (x)"
        " t = Concat <axis=0> (zero, n) y = Reshape <allowzero=1> (x, t) }",
        constants={"zero": ints(0)},
    )
    assert node_of(written(model), "Reshape").domain == ""


@pytest.mark.parametrize("fill", [np.asarray([b"text"], object), np.asarray([1j], np.complex64)])
def test_what_is_no_number_is_expanded(fill: np.ndarray) -> None:
    model = hub(
        "(float[N,S] x) => (float y) { n = Shape <start=0, end=1> (x) y = Expand(fill, n) }",
        constants={"fill": fill},
    )
    model.graph.outputs[0].dtype = ir.DataType.STRING if fill.dtype == object else ir.DataType.COMPLEX64
    assert operators(written(model)) == ["Expand"]


@pytest.mark.parametrize(
    ("fill", "value"),
    [
        (np.asarray(True), 1),
        (np.asarray(-7, np.int64), -7),
        (np.asarray(-np.inf, np.float16), -np.inf),
        (np.asarray(1 / 3, np.float64), 1 / 3),
    ],
)
def test_numbers_that_fill_keep_their_digits(fill: np.ndarray, value: float) -> None:
    model = hub(
        "(float[N,S] x) => (float y) { n = Shape <start=0, end=1> (x) y = Expand(fill, n) }",
        constants={"fill": fill},
    )
    model.graph.outputs[0].dtype = ir.DataType.from_numpy(fill.dtype)
    node = node_of(written(model), "Full")
    assert node.attributes["value"].value == value
    assert node.attributes["dtype"].value == ir.DataType.from_numpy(fill.dtype)
