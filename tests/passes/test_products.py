"""Matrix products: biases, ranks, tied matrices, the order of operands."""

from __future__ import annotations

import pytest
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, number, operators, recipes_of

from bridge.hub.recipe import Source
from bridge.passes.fold_trained import fold_moves
from bridge.passes.gemm import order_operands, recognise_gemm
from bridge.passes.global_pool import recognise_global_pool
from bridge.passes.matmul_rank import restore_matmul_rank


@pytest.mark.parametrize("text", ["p = MatMul(x, w) y = Add(p, b)", "p = MatMul(x, w) y = Add(b, p)"])
@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_bias_joins(text: str, shape: tuple[int, ...]) -> None:
    model = hub(
        f"(float[N,4] x) => (float[N,5] y) {{ {text} }}", trained={"w": floats(4, 5), "b": floats(*shape)}
    )
    found = apply(model, recognise_gemm, fold_moves)
    assert operators(found) == ["Gemm"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("signature", "text", "bias"),
    [
        ("(float[N,3,4] x) => (float[N,3,5] y)", "p = MatMul(x, w) y = Add(p, b)", floats(5)),
        ("(float[3,4] x) => (float[3,5] y)", "p = MatMul(x, w) y = Add(p, b)", floats(3, 5)),
        ("(float[3,4] x) => (float[3,5] y)", "p = MatMul(x, w) y = Add(p, b)", floats(1)),
        ("(float[3,4] x) => (float[3,5] y)", "p = MatMul(x, w) q = Add(p, b) y = Mul(p, q)", floats(5)),
        ("(float[3,4] x, float[3,5] z) => (float[3,5] y)", "p = MatMul(x, w) y = Add(p, z)", floats(5)),
    ],
)
def test_what_gemm_cannot_say_stays(signature: str, text: str, bias: object) -> None:
    model = hub(f"{signature} {{ {text} }}", trained={"w": floats(4, 5), "b": bias})  # type: ignore[dict-item]
    found = apply(model, recognise_gemm)
    assert "MatMul" in operators(found)
    assert_equivalent(model, found)


def test_tied_matrix_is_read_transposed() -> None:
    model = hub(
        "(int64[N] i, float[N,4] x) => (float[N,4] e, float[N,5] y)"
        " { e = Gather(w, i) t = Transpose(w) p = MatMul(x, t) y = Add(p, b) }",
        trained={"w": floats(5, 4), "b": floats(5)},
    )
    found = apply(model, fold_moves, recognise_gemm)
    assert operators(found) == ["Gather", "Gemm"]
    assert node_of(found, "Gemm").attributes.get_int("transB") == 1
    assert recipes_of(found) == {"w": Source("w"), "b": Source("b")}
    assert_equivalent(model, found)


def test_bias_joins_under_a_reshape_of_the_rows() -> None:
    model = hub(
        "(float[N,4] x) => (float[N,1,1,5] y) { p = MatMul(x, w) r = Reshape(p, s) y = Add(r, b) }",
        trained={"w": floats(4, 5), "b": floats(5)},
        constants={"s": ints(-1, 1, 1, 5)},
    )
    found = apply(model, recognise_gemm)
    assert operators(found) == ["Gemm", "Reshape"]
    assert_equivalent(model, found)
    columns = hub(
        "(float[N,4] x) => (float[N,5,2] y) { p = MatMul(x, w) r = Reshape(p, s) y = Add(r, b) }",
        trained={"w": floats(4, 10), "b": floats(2)},
        constants={"s": ints(-1, 5, 2)},
    )
    assert operators(apply(columns, recognise_gemm)) == ["MatMul", "Reshape", "Add"]


def test_rank_of_a_flattened_product_is_restored() -> None:
    model = hub(
        "(float[N,3,4] x) => (float[N,3,5] y) { a = Reshape(x, flat) p = MatMul(a, w) y = Reshape(p, back) }",
        trained={"w": floats(4, 5)},
        constants={"flat": ints(-1, 4), "back": ints(-1, 3, 5)},
    )
    found = apply(model, restore_matmul_rank)
    assert operators(found) == ["MatMul"]
    assert_equivalent(model, found)


@pytest.mark.parametrize("back", [ints(-1, 15), ints(3, -1, 5), ints(-1, 1, 5)])
def test_product_that_is_reshaped_otherwise_stays(back: object) -> None:
    model = hub(
        "(float[N,3,4] x) => (float y) { a = Reshape(x, flat) p = MatMul(a, w) y = Reshape(p, back) }",
        trained={"w": floats(4, 5)},
        constants={"flat": ints(-1, 4), "back": back},  # type: ignore[dict-item]
    )
    assert "Reshape" in operators(apply(model, restore_matmul_rank))


@pytest.mark.parametrize("bias", [5, 1])
def test_rank_of_a_flattened_gemm_comes_back(bias: int) -> None:
    model = hub(
        "(float[N,3,4] x) => (float[N,3,5] y)"
        " { a = Reshape(x, flat) p = Gemm(a, w, b) y = Reshape(p, back) }",
        trained={"w": floats(4, 5), "b": floats(bias)},
        constants={"flat": ints(-1, 4), "back": ints(-1, 3, 5)},
    )
    found = apply(model, restore_matmul_rank)
    assert operators(found) == ["MatMul", "Add"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("options", "bias", "back"),
    [
        ("<alpha=2.0>", (5,), (-1, 3, 5)),
        ("<beta=0.5>", (5,), (-1, 3, 5)),
        ("<transB=1>", (4,), (-1, 3, 4)),
        ("", (1, 5), (-1, 3, 5)),
        ("", (5,), (3, -1, 5)),
    ],
)
def test_gemm_of_more_or_other_rows_stays(options: str, bias: tuple[int, ...], back: tuple[int, ...]) -> None:
    model = hub(
        f"(float[N,3,4] x) => (float y) {{ a = Reshape(x, flat) p = Gemm {options} (a, w, b)"
        " y = Reshape(p, back) }",
        trained={"w": floats(4, 4 if "trans" in options else 5), "b": floats(*bias)},
        constants={"flat": ints(-1, 4), "back": ints(*back)},
    )
    assert "Gemm" in operators(apply(model, restore_matmul_rank))


def test_constant_operands_come_second() -> None:
    model = hub(
        "(float[N,4] x) => (float[N,4] y) { a = Mul(c, x) b = Add(w, a) y = Sub(c, b) }",
        trained={"w": floats(4)},
        constants={"c": number(2.0)},
    )
    found = apply(model, order_operands)
    assert [[value.name for value in node.inputs if value] for node in found.graph] == [
        ["x", "c"],
        ["a", "w"],
        ["c", "b"],
    ]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("signature", "text", "expected"),
    [
        ("(float[N,4,5,6] x) => (float[N,4,1,1] y)", "y = ReduceMean(x, axes)", ["GlobalAveragePool"]),
        (
            "(float[N,4,5,6] x) => (float[N,4] y)",
            "y = ReduceMean <keepdims=0> (x, axes)",
            ["GlobalAveragePool", "Flatten"],
        ),
        ("(float[N,4,5,6] x) => (float[N,4,1,1] y)", "y = ReduceMax(x, axes)", ["GlobalMaxPool"]),
        ("(float[N,4,5,6] x) => (float[N,4,1,6] y)", "y = ReduceMean(x, one)", ["ReduceMean"]),
        ("(float[N,4,5,6] x) => (float[N,4,1,1] y)", "y = ReduceSum(x, axes)", ["ReduceSum"]),
        ("(float[N,4,5,6,7] x) => (float[N,4,1,1,7] y)", "y = ReduceMean(x, axes)", ["ReduceMean"]),
        ("(int32[N,4,5,6] x) => (int32[N,4,1,1] y)", "y = ReduceMax(x, axes)", ["ReduceMax"]),
    ],
)
def test_global_pooling(signature: str, text: str, expected: list[str]) -> None:
    model = hub(f"{signature} {{ {text} }}", constants={"axes": ints(3, 2), "one": ints(2)})
    found = apply(model, recognise_global_pool)
    assert operators(found) == expected
    assert_equivalent(model, found)


def test_means_over_the_last_of_three_axes_are_pooling_behind_channels_only() -> None:
    text = """(float[N,4,5] x) => (float[N,3,1] y, float[N,4,1] z) {
        a = Conv(x, w) b = Relu(a) c = Mul(b, b) y = ReduceMean(c, axes)
        d = Mul(x, x) z = ReduceMean(d, axes) }"""
    model = hub(text, trained={"w": floats(3, 4, 1)}, constants={"axes": ints(-1)})
    found = apply(model, recognise_global_pool)
    assert operators(found) == ["Conv", "Relu", "Mul", "GlobalAveragePool", "Mul", "ReduceMean"]
    assert_equivalent(model, found)
