"""Expansions that broadcasting makes needless, and those that it does not."""

from __future__ import annotations

import pytest
from pass_graphs import apply, assert_equivalent, hub, ints, number, operators

from bridge.passes.broadcasts import drop_broadcasts
from bridge.passes.shapes import infer_shapes

CONSTANTS = {"three": number(3.0), "size": ints(4, 5), "longer": ints(2, 4, 5), "column": ints(4, 1)}


@pytest.mark.parametrize(
    "body",
    [
        "e = Expand(three, size) y = Min(x, e)",
        "e = Expand(c, size) y = Where(m, x, e)",
        "e = Expand(c, size) f = Less(e, x) g = Add(x, e) y = Where(f, g, x)",
        "e = Expand(x, size) y = Mul(e, e)",
        "e = Expand(c, column) y = Sub(x, e)",
        "e = Expand(m, longer) y = Where(e, z, x)",
    ],
)
def test_expansions_that_broadcasting_does_go(body: str) -> None:
    model = hub(
        f"(float[4,5] x, float[4,1] c, bool[4,5] m, float[2,4,5] z) => (float y) {{ {body} }}",
        constants=CONSTANTS,
    )
    found = apply(model, infer_shapes, drop_broadcasts)
    assert "Expand" not in operators(found)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "body",
    [
        "e = Expand(c, size) y = Mul(e, e)",
        "e = Expand(c, size) y = Add(e, three)",
        "e = Expand(x, longer) y = Mul(e, x)",
        "e = Expand(c, size) a = Add(x, e) b = Neg(e) y = Add(a, b)",
        "e = Expand(c, size) y = Add(x, e) w = Identity(e)",
        "e = Expand(c, size) y = MatMul(e, t)",
        "e = Expand(c, size) y = PRelu(x, e)",
    ],
)
def test_expansions_that_make_axes_or_are_read_otherwise_stay(body: str) -> None:
    more = ", float w" if "w =" in body else ""
    model = hub(
        f"(float[4,5] x, float[4,1] c, float[5,2] t) => (float y{more}) {{ {body} }}", constants=CONSTANTS
    )
    found = apply(model, infer_shapes, drop_broadcasts)
    assert operators(found).count("Expand") == 1
    assert_equivalent(model, found)


def test_axes_of_unknown_or_other_sizes_are_kept() -> None:
    model = hub(
        "(float[1,M] x, float[N,1] c, float[N,M] like) => (float y)"
        " { s = Shape(like) e = Expand(c, s) y = Add(x, e) z = Identity(y) }",
        constants=CONSTANTS,
    )
    found = apply(model, infer_shapes, drop_broadcasts)
    assert "Expand" not in operators(found)
    model = hub(
        "(float[1,M] x, float[1,1] c, float[N,M] like) => (float y)"
        " { s = Shape(like) e = Expand(c, s) y = Add(x, e) }",
        constants=CONSTANTS,
    )
    assert "Expand" in operators(apply(model, infer_shapes, drop_broadcasts))


IDS = ints(1, 0, 3, 2).reshape(1, 4)


def test_rows_that_are_added_to_a_batch_are_read_once() -> None:
    model = hub(
        "(float[3,4,5] x, float[6,5] table) => (float y)"
        " { e = Expand(ids, size) r = Gather(table, e) y = Add(x, r) }",
        constants={"ids": IDS, "size": ints(3, 4)},
    )
    found = apply(model, infer_shapes, drop_broadcasts)
    assert operators(found) == ["Gather", "Add"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "body",
    [
        "e = Expand(ids, size) y = Gather(table, e)",
        "e = Expand(ids, size) r = Gather(table, e) y = Mul(r, r)",
        "e = Expand(ids, size) r = Gather(table, e) z = Add(x, r) y = ReduceSum(r)",
        "e = Expand(ids, size) r = Gather <axis=1> (table, e) y = Relu(r)",
        "e = Expand(ids, size) r = Gather(e, pick) y = Neg(r)",
        "e = Expand(ids, size) r = Gather(table, e) s = Gather(other, e) y = Add(r, s)",
        "e = Expand(ids, deeper) r = Gather(table, e) y = Add(x, r)",
    ],
)
def test_rows_that_are_needed_for_each_of_a_batch_are_read_for_each(body: str) -> None:
    result = "int64" if "pick" in body else "float"
    model = hub(
        f"(float[3,4,5] x, float[6,5] table, float[6,5] other) => ({result} y) {{ {body} }}",
        constants={"ids": IDS, "size": ints(3, 4), "deeper": ints(1, 3, 4), "pick": ints(0, 2)},
    )
    found = apply(model, infer_shapes, drop_broadcasts)
    assert operators(found).count("Expand") == 1
    assert_equivalent(model, found)
