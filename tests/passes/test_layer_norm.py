"""Decomposed layer normalisation, and near misses."""

from __future__ import annotations

import pytest
from pass_graphs import apply, assert_equivalent, floats, hub, ints, node_of, number, operators

from bridge.passes.layer_norm import recognise_layer_norm

HEAD = "m = ReduceMean <keepdims=1> (x, axes) d = Sub(x, m)"
VARIANCE = "q = Mul(d, d) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD} {VARIANCE} n = Div(d, r) k = Mul(n, gamma) y = Add(k, beta)",
        f"{HEAD} q = Pow(d, two) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"
        " n = Div(d, r) k = Mul(gamma, n) y = Add(beta, k)",
        f"{HEAD} {VARIANCE} i = Reciprocal(r) k = Mul(d, i) l = Mul(k, gamma) y = Add(l, beta)",
        f"{HEAD} {VARIANCE} i = Reciprocal(r) s = Mul(i, gamma) k = Mul(d, s) y = Add(k, beta)",
        f"{HEAD} {VARIANCE} i = Reciprocal(r) s = Mul(i, gamma) p = Mul(x, s) u = Mul(m, s) b = Sub(beta, u)"
        " y = Add(p, b)",
        f"{HEAD} {VARIANCE} i = Reciprocal(r) s = Mul(i, gamma) p = Mul(x, s) g = Neg(m) u = Mul(g, s)"
        " b = Add(u, beta) y = Add(p, b)",
        f"{HEAD} {VARIANCE} n = Div(d, r) y = Mul(n, gamma)",
        f"{HEAD} {VARIANCE} y = Div(d, r)",
    ],
)
def test_spellings(text: str) -> None:
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}",
        trained={"gamma": floats(8), "beta": floats(8, seed=1)},
        constants={"eps": number(1e-5), "axes": ints(-1), "two": number(2.0)},
    )
    found = apply(model, recognise_layer_norm)
    assert operators(found) == ["LayerNormalization"]
    node = node_of(found, "LayerNormalization")
    assert node.attributes.get_int("axis") == -1
    assert node.attributes.get_float("epsilon") == pytest.approx(1e-5)
    assert_equivalent(model, found)


def test_two_axes() -> None:
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {HEAD} {VARIANCE} n = Div(d, r) y = Mul(n, gamma) }}",
        trained={"gamma": floats(5, 8)},
        constants={"eps": number(1e-5), "axes": ints(2, 1)},
    )
    found = apply(model, recognise_layer_norm)
    assert operators(found) == ["LayerNormalization"]
    assert node_of(found, "LayerNormalization").attributes.get_int("axis") == -2
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("text", "axes"),
    [
        (f"{HEAD} {VARIANCE} y = Div(d, r)", ints(1)),
        (
            "m = ReduceMean <keepdims=1> (x, other) d = Sub(x, m) q = Mul(d, d)"
            " w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v) y = Div(d, r)",
            ints(-1),
        ),
        (
            f"{HEAD} q = Mul(d, x) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"
            " y = Div(d, r)",
            ints(-1),
        ),
        (f"{HEAD} {VARIANCE} y = Div(x, r)", ints(-1)),
        (
            f"{HEAD} q = Pow(d, three) w = ReduceMean <keepdims=1> (q, axes) v = Add(w, eps) r = Sqrt(v)"
            " y = Div(d, r)",
            ints(-1),
        ),
    ],
)
def test_near_misses_stay(text: str, axes: object) -> None:
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}",
        constants={"eps": number(1e-5), "axes": axes, "other": ints(1, 2), "three": number(3.0)},  # type: ignore[dict-item]
    )
    assert "LayerNormalization" not in operators(apply(model, recognise_layer_norm))


def test_scale_of_another_shape_stays_outside() -> None:
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {HEAD} {VARIANCE} n = Div(d, r) y = Mul(n, gamma) }}",
        trained={"gamma": floats(5, 8)},
        constants={"eps": number(1e-5), "axes": ints(-1)},
    )
    found = apply(model, recognise_layer_norm)
    assert operators(found) == ["LayerNormalization", "Mul"]
    assert_equivalent(model, found)
