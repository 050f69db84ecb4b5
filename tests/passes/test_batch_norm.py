"""Decomposed batch normalisation, and arithmetic that only looks like it."""

from __future__ import annotations

import pytest
from pass_graphs import (
    apply,
    assert_equivalent,
    assert_recipes_follow,
    floats,
    hub,
    ints,
    node_of,
    number,
    operators,
    recipes_of,
)

from bridge.hub import metadata
from bridge.hub.recipe import Array, Source
from bridge.passes.batch_norm import recognise_batch_norm
from bridge.passes.fold_trained import fold_buffers, fold_moves
from bridge.passes.moves import simplify_moves

STATISTICS = {"mean", "var"}


def tensors(*shape: int) -> dict[str, Array]:
    return {
        "gamma": floats(*shape, seed=1, low=0.5, high=1.5),
        "beta": floats(*shape, seed=2),
        "mean": floats(*shape, seed=3),
        "var": floats(*shape, seed=4, low=0.5, high=2.0),
    }


INVERSE = "v = Add(var, eps) r = Sqrt(v) i = Reciprocal(r)"
KERAS = f"{INVERSE} s = Mul(i, gamma) m = Mul(mean, s) b = Sub(beta, m)"


def test_keras_form_channels_last_keeps_the_tensors() -> None:
    model = hub(
        f"(float[N,5,6,4] x) => (float[N,5,6,4] y) {{ {KERAS} p = Mul(x, s) y = Add(p, b) }}",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    found = apply(model, recognise_batch_norm)
    assert operators(found) == ["Transpose", "BatchNormalization", "Transpose"]
    node = node_of(found, "BatchNormalization")
    assert [value.name for value in node.inputs[1:] if value] == ["gamma", "beta", "mean", "var"]
    assert node.attributes.get_float("epsilon") == pytest.approx(0.001)
    assert recipes_of(found) == {name: Source(name) for name in ("gamma", "beta", "mean", "var")}
    assert metadata.scope_of(node) == metadata.scope_of(model.graph[0])
    assert metadata.source_value(found.graph.outputs[0]) == "source of y"
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "arithmetic",
    [
        "p = Mul(s, x) y = Add(b, p)",
        "y0 = Mul(x, s) y = Add(y0, b)",
    ],
)
def test_order_of_operands_does_not_matter(arithmetic: str) -> None:
    model = hub(
        f"(float[N,4] x) => (float[N,4] y) {{ {KERAS} {arithmetic} }}",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    found = apply(model, recognise_batch_norm)
    assert operators(found) == ["BatchNormalization"]
    assert_equivalent(model, found)


def test_channels_first_tensors_are_flattened_by_their_recipes() -> None:
    model = hub(
        "(float[N,4,5,6] x) => (float[N,4,5,6] y) { g = Reshape(gamma, wide) o = Reshape(beta, wide)"
        " m = Reshape(mean, wide) w = Reshape(var, wide) v = Add(w, eps) r = Sqrt(v) i = Reciprocal(r)"
        " s = Mul(i, g) k = Mul(m, s) b = Sub(o, k) p = Mul(x, s) y = Add(p, b) }",
        trained=tensors(4),
        constants={"eps": number(0.001), "wide": ints(1, 4, 1, 1)},
        buffers=STATISTICS,
    )
    found = apply(model, fold_moves, recognise_batch_norm, fold_buffers)
    assert operators(found) == ["BatchNormalization"]
    assert set(recipes_of(found).values()) == {Source(name) for name in ("gamma", "beta", "mean", "var")}
    assert_equivalent(model, found)
    assert_recipes_follow(model, found)


@pytest.mark.parametrize(
    ("text", "used"),
    [
        (
            "v = Add(var, eps) r = Sqrt(v) d = Sub(x, mean) n = Div(d, r) k = Mul(n, gamma) y = Add(k, beta)",
            4,
        ),
        ("v = Add(eps, var) r = Sqrt(v) d = Sub(x, mean) n = Div(d, r) y = Add(n, beta)", 3),
        ("v = Add(var, eps) r = Sqrt(v) d = Sub(x, mean) y = Div(d, r)", 2),
        (
            f"{INVERSE} s = Mul(gamma, i) d = Sub(x, mean) y = Mul(d, s)",
            3,
        ),
        (
            "v = Add(var, eps) r = Sqrt(v) s = Div(gamma, r) d = Sub(x, mean) k = Mul(d, s) y = Add(beta, k)",
            4,
        ),
        (
            f"{INVERSE} m = Neg(mean) b = Mul(m, i) p = Mul(x, i) y = Add(p, b)",
            2,
        ),
        (
            f"{INVERSE} m = Mul(mean, i) b = Neg(m) p = Mul(x, i) y = Add(p, b)",
            2,
        ),
    ],
)
def test_other_spellings(text: str, used: int) -> None:
    model = hub(
        f"(float[N,4] x) => (float[N,4] y) {{ {text} }}",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    found = apply(model, recognise_batch_norm)
    assert operators(found) == ["BatchNormalization"]
    assert len(recipes_of(found)) == used
    assert_equivalent(model, found)


def test_transposes_around_meet_those_of_convolutions() -> None:
    model = hub(
        f"(float[N,4,5,6] a) => (float[N,4,5,6] z) {{ x = Transpose <perm=[0,2,3,1]> (a) {KERAS}"
        " p = Mul(x, s) y = Add(p, b) z = Transpose <perm=[0,3,1,2]> (y) }",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    found = apply(model, recognise_batch_norm, simplify_moves)
    perms = [node.attributes["perm"].as_ints() for node in found.graph if node.op_type == "Transpose"]
    assert all(tuple(perm) == (0, 1, 2, 3) for perm in perms)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "text",
    [
        "v = Add(x, eps) r = Sqrt(v) d = Sub(x, mean) y = Div(d, r)",
        "v = Add(var, eps) r = Sqrt(v) d = Sub(mean, x) y = Div(d, r)",
        "v = Sub(var, eps) r = Sqrt(v) d = Sub(x, mean) y = Div(d, r)",
        "v = Add(var, eps) r = Sqrt(v) d = Sub(x, gamma) e = Sub(d, mean) y = Mul(e, r)",
        f"{INVERSE} m = Mul(mean, gamma) b = Sub(beta, m) p = Mul(x, i) y = Add(p, b)",
        f"{INVERSE} m = Mul(mean, i) b = Sub(m, beta) p = Mul(x, i) y = Add(p, b)",
    ],
)
def test_near_misses_stay(text: str) -> None:
    model = hub(
        f"(float[N,4] x) => (float[N,4] y) {{ {text} }}",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    assert "BatchNormalization" not in operators(apply(model, recognise_batch_norm))


def test_intermediate_that_is_read_elsewhere_prevents_it() -> None:
    model = hub(
        f"(float[N,4] x) => (float[N,4] y, float[N,4] p) {{ {KERAS} p = Mul(x, s) y = Add(p, b) }}",
        trained=tensors(4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    assert "BatchNormalization" not in operators(apply(model, recognise_batch_norm))


def test_statistics_per_element_are_no_channels() -> None:
    model = hub(
        f"(float[N,4,4] x) => (float[N,4,4] y) {{ {KERAS} p = Mul(x, s) y = Add(p, b) }}",
        trained=tensors(4, 4),
        constants={"eps": number(0.001)},
        buffers=STATISTICS,
    )
    assert "BatchNormalization" not in operators(apply(model, recognise_batch_norm))
