"""Gathers of elements that are gathers from a vector, and those that are not."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_graphs import apply, assert_equivalent, hub, ints, operators

from bridge.passes.gathers import recognise_gathers
from bridge.passes.shapes import infer_shapes

INDICES = np.asarray([2, -1, 0, 2])


@pytest.mark.parametrize(
    ("shape", "axis"), [((1, 5), 1), ((1, 5), -1), ((5, 1), 0), ((1, 5, 1), -2), ((5,), 0), ((1, 1, 5), 2)]
)
def test_elements_along_the_only_long_axis_are_those_of_a_vector(shape: tuple[int, ...], axis: int) -> None:
    places = [1] * len(shape)
    places[axis] = len(INDICES)
    model = hub(
        f"(float[{','.join(map(str, shape))}] x) => (float y) {{ y = GatherElements <axis={axis}> (x, at) }}",
        constants={"at": INDICES.reshape(places)},
    )
    found = apply(model, infer_shapes, recognise_gathers)
    assert "GatherElements" not in operators(found)
    assert_equivalent(model, found)


def test_expanded_data_is_read_before() -> None:
    model = hub(
        "(float[1,5] x) => (float y) { e = Expand(x, size) y = GatherElements <axis=1> (e, at) }",
        constants={"at": ints(0, 4, -2, 2, 2, 1).reshape(3, 2), "size": ints(3, 1)},
    )
    found = apply(model, infer_shapes, recognise_gathers)
    assert operators(found) == ["Squeeze", "Gather"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("shape", "size", "indices", "axis"),
    [
        ((2, 5), (2, 5), ints(2, 1, 0).reshape(1, 3), 1),
        ((2, 5), (2, 5), ints(2, 1, 0, 4).reshape(2, 2), 1),
        ((1, 5), (1, 5), ints(0, 0, 0).reshape(1, 3), 0),
        ((1, 5), (3, 5), ints(0, 2, 1).reshape(1, 3), 0),
        ((5,), (3, 5), ints(4, 3, 1).reshape(3, 1), 1),
    ],
)
def test_elements_of_other_rows_stay(
    shape: tuple[int, ...], size: tuple[int, ...], indices: np.ndarray, axis: int
) -> None:
    model = hub(
        f"(float[{','.join(map(str, shape))}] x) => (float y)"
        f" {{ e = Expand(x, size) y = GatherElements <axis={axis}> (e, at) }}",
        constants={"at": indices, "size": ints(*size)},
    )
    found = apply(model, infer_shapes, recognise_gathers)
    assert operators(found)[-1] == "GatherElements"


def test_axes_whose_sizes_are_not_known_stay() -> None:
    model = hub("(float[N,5] x, int64[N,3] at) => (float y) { y = GatherElements <axis=1> (x, at) }")
    assert operators(apply(model, infer_shapes, recognise_gathers)) == ["GatherElements"]


def test_an_expansion_that_may_make_the_axis_stays() -> None:
    model = hub(
        "(float[1,N] x, int64[2] size, int64[3,2] at) => (float y)"
        " { e = Expand(x, size) y = GatherElements <axis=1> (e, at) }"
    )
    expanded = model.graph[0].outputs[0]
    for value in (model.graph.inputs[0], expanded):
        value.shape = ir.Shape([1, None])
    assert operators(recognise_gathers(model)) == ["Expand", "GatherElements"]


@pytest.mark.parametrize("body", ["i = Unsqueeze(at, last) y = GatherND(x, i)", "y = GatherND(x, one)"])
def test_rows_by_one_number_are_gathered(body: str) -> None:
    model = hub(
        f"(float[5,3] x) => (float y) {{ {body} }}",
        constants={
            "at": INDICES.reshape(2, 2),
            "one": INDICES.reshape(2, 2, 1),
            "last": ints(-1),
        },
    )
    found = apply(model, infer_shapes, recognise_gathers)
    assert "GatherND" not in operators(found)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("options", "indices"),
    [("", ints(0, 1, 2, 2).reshape(2, 2)), ("<batch_dims=1>", ints(0, 1, 2, 2, 0).reshape(5, 1))],
)
def test_elements_by_several_numbers_or_of_a_batch_stay(options: str, indices: np.ndarray) -> None:
    model = hub(
        f"(float[5,3] x) => (float y) {{ y = GatherND {options} (x, at) }}", constants={"at": indices}
    )
    assert operators(apply(model, infer_shapes, recognise_gathers)) == ["GatherND"]
