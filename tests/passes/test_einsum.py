"""Sums of products with trained tensors become matrix products, and only where they are that."""

from __future__ import annotations

import pytest
from pass_graphs import apply, assert_equivalent, floats, hub, operators

from bridge.passes.einsum import write_projections_as_products
from bridge.passes.fold_trained import fold_moves

SIZES = {"a": 2, "b": 3, "c": 4, "d": 5, "e": 6}


def sizes(letters: str) -> tuple[int, ...]:
    return tuple(SIZES[letter] for letter in letters)


def projection(equation: str, bias: str) -> str:
    data, output = equation.split(",")[0], equation.split("->")[1]
    shape, result = (",".join(map(str, sizes(each))) for each in (data, output))
    return (
        f"(float[{shape}] x) => (float[{result}] y) "
        + ("{ z = Einsum" if bias else "{ y = Einsum")
        + f'<equation = "{equation}">(x, w) '
        + {"": "}", "right": "y = Add(z, b) }", "left": "y = Add(b, z) }"}[bias]
    )


@pytest.mark.parametrize("bias", ["", "right", "left"])
@pytest.mark.parametrize(
    "equation",
    [
        "abc,cd->abd",
        "abc,cde->abde",
        "abc,ecd->abde",
        "abcd,cde->abe",
        "abcd,dce->abe",
        "ab,bcde->acde",
        "abc,dec->abde",
    ],
)
def test_a_projection_is_a_matrix_product(equation: str, bias: str) -> None:
    _, _, weight = equation.partition("->")[0].partition(",")
    free = [letter for letter in equation.split("->")[1] if letter in weight]
    model = hub(
        projection(equation, bias),
        trained={"w": floats(*sizes(weight)), **({"b": floats(*sizes("".join(free)))} if bias else {})},
    )
    found = apply(model, write_projections_as_products, fold_moves)
    assert_equivalent(model, found)
    assert set(operators(found)) <= {"Reshape", "MatMul", "Add"}
    if bias:
        order = operators(found)
        assert order.index("Add") == order.index("MatMul") + 1


@pytest.mark.parametrize(
    "equation",
    [
        "abc,acd->abd",
        "abc,bd->abcd",
        "abc,bcd->acd",
        "abc,cd->bad",
        "abc,cde->abd",
        "abc,cd->abdc",
        "aac,cd->ad",
    ],
)
def test_other_sums_stay(equation: str) -> None:
    data, _, weight = equation.partition("->")[0].partition(",")
    x, y = (",".join(map(str, sizes(each))) for each in (data, equation.split("->")[1]))
    text = f'(float[{x}] x) => (float[{y}] y) {{ y = Einsum<equation = "{equation}">(x, w) }}'
    model = apply(hub(text, trained={"w": floats(*sizes(weight))}))
    assert operators(write_projections_as_products(model)) == ["Einsum"]


def test_a_sum_with_computed_tensors_stays() -> None:
    text = '(float[2,3,4] x, float[4,5] w) => (float[2,3,5] y) { y = Einsum<equation = "abc,cd->abd">(x, w) }'
    assert operators(apply(hub(text), write_projections_as_products)) == ["Einsum"]


@pytest.mark.parametrize("shape", [(6,), (1, 6), (3, 5, 6), (1, 5, 6)])
def test_a_bias_of_other_axes_is_added_afterwards(shape: tuple[int, ...]) -> None:
    model = hub(projection("abc,cde->abde", "right"), trained={"w": floats(4, 5, 6), "b": floats(*shape)})
    found = apply(model, write_projections_as_products, fold_moves)
    assert_equivalent(model, found)
    assert operators(found) == ["MatMul", "Reshape", "Add"]


def test_products_that_are_read_without_their_bias_keep_their_place() -> None:
    text = (
        "(float[2,3,4] x) => (float[2,3,5,6] y, float[2,3,5,6] u) { "
        'z = Einsum<equation = "abc,cde->abde">(x, w) y = Add(z, b) u = Relu(z) }'
    )
    model = hub(text, trained={"w": floats(4, 5, 6), "b": floats(5, 6)})
    found = apply(model, write_projections_as_products, fold_moves)
    assert_equivalent(model, found)
