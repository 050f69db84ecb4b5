"""GELU, Clip, HardSigmoid and HardSwish from arithmetic, with exactly their constants."""

from __future__ import annotations

import math

import pytest
from pass_graphs import apply, assert_equivalent, hub, node_of, number, operators

from bridge.passes.gelu import recognise_gelu
from bridge.passes.hard_activations import recognise_clip, recognise_hard_activations

NUMBERS = {
    "half": number(0.5),
    "one": number(1.0),
    "two": number(2.0),
    "three": number(3.0),
    "root": number(math.sqrt(2)),
    "inverse": number(1 / math.sqrt(2)),
    "outer": number(math.sqrt(2 / math.pi)),
    "inner": number(0.044715),
    "zero": number(0.0),
    "six": number(6.0),
    "sixth": number(1 / 6),
    "wide_three": number(3.0, 1, 1),
    "higher_three": number(3.0, 1, 1, 1),
    "minus": number(-1.0),
    "off": number(0.0447),
    "seventh": number(0.7),
}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a = Div(x, root) e = Erf(a) s = Add(e, one) h = Mul(x, half) y = Mul(h, s)", "none"),
        ("a = Mul(inverse, x) e = Erf(a) s = Add(one, e) p = Mul(x, s) y = Mul(p, half)", "none"),
        ("a = Mul(x, inverse) e = Erf(a) s = Add(one, e) p = Mul(s, x) y = Div(p, two)", "none"),
        ("n = Neg(x) a = Mul(n, inverse) e = Erf(a) s = Sub(one, e) h = Mul(half, x) y = Mul(h, s)", "none"),
        (
            "c = Pow(x, three) i = Mul(c, inner) t = Add(x, i) o = Mul(t, outer) g = Tanh(o) s = Add(g, one)"
            " h = Mul(x, half) y = Mul(h, s)",
            "tanh",
        ),
        (
            "q = Mul(x, x) c = Mul(q, x) i = Mul(inner, c) t = Add(i, x) o = Mul(outer, t) g = Tanh(o)"
            " s = Add(one, g) m = Mul(s, half) y = Mul(m, x)",
            "tanh",
        ),
    ],
)
def test_gelu(text: str, kind: str) -> None:
    model = hub(f"(float[N,9] x) => (float[N,9] y) {{ {text} }}", constants=NUMBERS)
    found = apply(model, recognise_gelu)
    assert operators(found) == ["Gelu"]
    assert node_of(found, "Gelu").attributes.get_string("approximate") == kind
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "text",
    [
        "a = Mul(x, seventh) e = Erf(a) s = Add(e, one) h = Mul(x, half) y = Mul(h, s)",
        "a = Div(x, root) e = Erf(a) s = Add(e, two) h = Mul(x, half) y = Mul(h, s)",
        "a = Div(x, root) e = Erf(a) s = Sub(e, one) h = Mul(x, half) y = Mul(h, s)",
        "a = Div(x, root) e = Erf(a) s = Add(e, one) h = Mul(z, half) y = Mul(h, s)",
        "a = Div(x, root) e = Erf(a) s = Add(e, one) y = Mul(x, s)",
        "c = Pow(x, three) i = Mul(c, off) t = Add(x, i) o = Mul(t, outer) g = Tanh(o) s = Add(g, one)"
        " h = Mul(x, half) y = Mul(h, s)",
        "c = Pow(x, two) i = Mul(c, inner) t = Add(x, i) o = Mul(t, outer) g = Tanh(o) s = Add(g, one)"
        " h = Mul(x, half) y = Mul(h, s)",
    ],
)
def test_almost_gelu_stays(text: str) -> None:
    model = hub(f"(float[N,9] x, float[N,9] z) => (float[N,9] y) {{ {text} }}", constants=NUMBERS)
    assert "Gelu" not in operators(apply(model, recognise_gelu))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Max(x, zero) y = Min(a, six)", ["Clip"]),
        ("a = Min(six, x) y = Max(minus, a)", ["Clip"]),
        ("a = Relu(x) y = Min(a, six)", ["Clip"]),
        ("y = Max(x, zero)", ["Relu"]),
        ("a = Max(x, six) y = Min(a, zero)", ["Max", "Min"]),
        ("a = Max(x, zero) y = Max(a, one)", ["Relu", "Max"]),
        ("y = Max(x, one)", ["Max"]),
        ("y = Max(x, zero, one)", ["Max"]),
    ],
)
def test_bounds(text: str, expected: list[str]) -> None:
    model = hub(f"(float[N,9] x) => (float[N,9] y) {{ {text} }}", constants=NUMBERS)
    found = apply(model, recognise_clip)
    assert operators(found) == expected
    assert_equivalent(model, found)


def test_bound_of_integers() -> None:
    model = hub(
        "(int32[N] x) => (int32[N] y) { a = Max(x, low) y = Min(a, high) }",
        constants={"low": number(1.0).astype("int32"), "high": number(2.0).astype("int32")},
    )
    found = apply(model, recognise_clip)
    assert operators(found) == ["Clip"]
    assert_equivalent(model, found)


GATE = "a = Add(x, three) c = Clip(a, zero, six)"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{GATE} y = Div(c, six)", ["HardSigmoid"]),
        (f"{GATE} y = Mul(c, sixth)", ["HardSigmoid"]),
        (f"{GATE} s = Div(c, six) y = Mul(x, s)", ["HardSwish"]),
        (f"{GATE} p = Mul(c, x) y = Mul(p, sixth)", ["HardSwish"]),
        ("a = Add(wide_three, x) c = Clip(a, zero, six) s = Mul(sixth, c) y = Mul(s, x)", ["HardSwish"]),
        ("s = HardSigmoid <alpha=0.16666667, beta=0.5> (x) y = Mul(x, s)", ["HardSwish"]),
        ("s = HardSigmoid <alpha=0.2, beta=0.5> (x) y = Mul(x, s)", ["HardSigmoid", "Mul"]),
        ("a = Add(x, two) c = Clip(a, zero, six) y = Div(c, six)", ["Add", "Clip", "Div"]),
        (f"{GATE} y = Mul(c, half)", ["Add", "Clip", "Mul"]),
    ],
)
def test_hard_activations(text: str, expected: list[str]) -> None:
    model = hub(f"(float[N,9] x) => (float[N,9] y) {{ {text} }}", constants=NUMBERS)
    found = apply(model, recognise_hard_activations)
    assert operators(found) == expected
    assert_equivalent(model, found)


def test_constant_that_widens_the_result_is_not_dropped() -> None:
    model = hub(
        "(float[N,9] x) => (float[1,N,9] y)"
        " { a = Add(x, higher_three) c = Clip(a, zero, six) y = Div(c, six) }",
        constants=NUMBERS,
    )
    found = apply(model, recognise_hard_activations)
    assert operators(found) == ["Add", "Clip", "Div"]
    assert_equivalent(model, found)


def test_fused_node_takes_the_last_source_value_and_the_common_scope() -> None:
    model = hub(
        f"(float[N,9] x) => (float[N,9] z) {{ {GATE} y = Div(c, six) z = Neg(y) }}", constants=NUMBERS
    )
    found = apply(model, recognise_hard_activations)
    node = node_of(found, "HardSigmoid")
    assert node.outputs[0].name == "y"
    assert node.outputs[0].metadata_props == model.graph[2].outputs[0].metadata_props
    assert node.metadata_props == model.graph[2].metadata_props
