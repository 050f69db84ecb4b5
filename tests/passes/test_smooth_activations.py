"""Softplus, Mish, Swish, Softmax and LogSoftmax in the spellings of exporters, and near misses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, feeds_for, hub, ints, node_of, number, operators, outputs

from bridge.passes.gelu import recognise_gelu
from bridge.passes.smooth_activations import fuse_swish, recognise_smooth_activations

_ONE = {"one": number(1.0), "minus": number(-1.0), "zero": number(0.0), "axes": ints(-1)}


@st.composite
def commuted(draw: st.DrawFn, text: str) -> str:
    """A graph's text with the operands of its sums and products in a drawn order."""
    lines = []
    for line in text.strip().split(";"):
        result, _, call = line.partition("=")
        operator, _, operands = call.strip().rstrip(")").partition("(")
        if operator in ("Add", "Mul", "Max") and draw(st.booleans()):
            operands = ", ".join(reversed(operands.split(", ")))
        lines.append(f"{result.strip()} = {operator}({operands})")
    return "\n".join(lines)


_SPELLINGS = [
    ("Softplus", "e = Exp(x); s = Add(e, one); y = Log(s)"),
    (
        "Softplus",
        "p = Relu(x); a = Abs(x); n = Neg(a); e = Exp(n); s = Add(e, one); l = Log(s); y = Add(p, l)",
    ),
    (
        "Softplus",
        "p = Max(x, zero); a = Abs(x); n = Mul(a, minus); e = Exp(n); s = Add(e, one);"
        " l = Log(s); y = Add(p, l)",
    ),
    ("Mish", "s = Softplus(x); t = Tanh(s); y = Mul(x, t)"),
    ("Mish", "e = Exp(x); p = Add(e, one); s = Log(p); t = Tanh(s); y = Mul(x, t)"),
]


@settings(max_examples=40, deadline=None)
@given(data=st.data(), case=st.sampled_from(_SPELLINGS))
def test_spellings(data: st.DataObject, case: tuple[str, str]) -> None:
    operator, text = case
    model = hub(f"(float[N,5,8] x) => (float[N,5,8] y) {{ {data.draw(commuted(text))} }}", constants=_ONE)
    found = apply(model, recognise_smooth_activations)
    assert operators(found) == [operator]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("operator", "text"),
    [
        (
            "Softmax",
            "m = ReduceMax <keepdims=1> (x, axes) d = Sub(x, m) e = Exp(d)"
            " s = ReduceSum <keepdims=1> (e, axes) y = Div(e, s)",
        ),
        (
            "Softmax",
            "m = ReduceMax <keepdims=1> (x, axes) d = Sub(x, m) e = Exp(d)"
            " n = ReduceMax <keepdims=1> (x, last) c = Sub(x, n) f = Exp(c)"
            " s = ReduceSum <keepdims=1> (f, last) y = Div(e, s)",
        ),
        ("LogSoftmax", "l = ReduceLogSumExp <keepdims=1> (x, axes) y = Sub(x, l)"),
        (
            "LogSoftmax",
            "m = ReduceMax <keepdims=1> (x, axes) d = Sub(x, m) e = Exp(d)"
            " s = ReduceSum <keepdims=1> (e, axes) l = Log(s) y = Sub(d, l)",
        ),
    ],
)
def test_softmax(operator: str, text: str) -> None:
    model = hub(f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}", constants={**_ONE, "last": ints(2)})
    found = apply(model, recognise_smooth_activations)
    assert operators(found) == [operator]
    assert node_of(found, operator).attributes.get_int("axis") == -1
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "text",
    [
        "e = Exp(x) s = Add(e, almost) y = Log(s)",
        "e = Exp(x) s = Add(e, wide) l = Log(s) y = ReduceSum <keepdims=0> (l, first)",
        "p = Relu(z) a = Abs(x) n = Neg(a) e = Exp(n) s = Add(e, one) l = Log(s) y = Sub(p, l)",
        "s = Softplus(z) t = Tanh(s) y = Mul(x, t)",
        "s = Softplus(x) t = Sigmoid(s) y = Mul(x, t)",
        "e = Exp(x) s = ReduceSum <keepdims=1> (e, axes) y = Div(e, s)",
        "m = ReduceMax <keepdims=1> (x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum <keepdims=1> (e, other)"
        " y = Div(e, s)",
        "m = ReduceMax <keepdims=1> (z, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum <keepdims=1> (e, axes)"
        " y = Div(e, s)",
        "m = ReduceMax <keepdims=1> (x, axes) d = Sub(x, m) e = Exp(d) s = ReduceSum <keepdims=1> (e, axes)"
        " t = Add(s, almost) y = Div(e, t)",
        "l = ReduceLogSumExp <keepdims=1> (z, axes) y = Sub(x, l)",
    ],
)
def test_near_misses_stay(text: str) -> None:
    model = hub(
        f"(float[N,5,8] x, float[N,5,8] z) => (float[N,5,8] y) {{ {text} }}",
        constants={
            **_ONE,
            "almost": number(1.0002),
            "wide": number(1.0, 1, 1, 1, 1),
            "first": ints(0),
            "other": ints(1),
        },
    )
    before = operators(apply(model))
    assert sorted(operators(apply(model, recognise_smooth_activations))) == sorted(before) or (
        # the logarithm inside is a softplus of its own
        "p = Relu(z)" in text
    )


@pytest.mark.parametrize(
    ("text", "slope"),
    [
        ("s = Sigmoid(x) y = Mul(x, s)", 1.0),
        ("s = Sigmoid(x) y = Mul(s, x)", 1.0),
        ("k = Mul(x, beta) s = Sigmoid(k) y = Mul(x, s)", 1.702),
        ("k = Mul(beta, x) s = Sigmoid(k) y = Mul(s, x)", 1.702),
        ("n = Neg(x) e = Exp(n) s = Add(e, one) y = Div(x, s)", 1.0),
        ("n = Mul(x, minus) e = Exp(n) s = Add(one, e) y = Div(x, s)", 1.0),
    ],
)
def test_swish(text: str, slope: float) -> None:
    """Quick GELU is a swish, not a GELU."""
    model = hub(
        f"(float[N,5,8] x) => (float[N,5,8] y) {{ {text} }}", constants={**_ONE, "beta": number(1.702)}
    )
    assert "Gelu" not in operators(apply(model, recognise_gelu))
    found = fuse_swish(apply(model))
    (node,) = [node for node in found.graph if node.op_type == "Swish"]
    assert node.domain == "bridge"
    assert node.inputs[0] is found.graph.inputs[0]
    assert node.attributes.get_float("alpha") == pytest.approx(slope)
    feeds = feeds_for(model)
    expected = feeds["x"] / (1 + np.exp(-slope * feeds["x"]))
    np.testing.assert_allclose(outputs(model, feeds)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "s = Sigmoid(z) y = Mul(x, s)",
        "s = HardSigmoid(x) y = Mul(x, s)",
        "k = Add(x, beta) s = Sigmoid(k) y = Mul(x, s)",
        "k = Mul(x, z) s = Sigmoid(k) y = Mul(x, s)",
        "e = Exp(x) s = Add(e, beta) y = Div(x, s)",
        "n = Neg(z) e = Exp(n) s = Add(e, one) y = Div(x, s)",
        "s = Sigmoid(x) t = Mul(x, s) y = Add(t, s)",
    ],
)
def test_what_is_no_swish_stays(text: str) -> None:
    model = hub(
        f"(float[N,5,8] x, float[N,5,8] z) => (float[N,5,8] y) {{ {text} }}",
        constants={**_ONE, "beta": number(1.702)},
    )
    assert "Swish" not in operators(fuse_swish(apply(model)))
