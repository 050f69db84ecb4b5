"""Attention that was taken apart, and what only looks like it."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from pass_graphs import apply, assert_equivalent, hub, ints, node_of, number, operators

from bridge.hub import metadata
from bridge.passes.attention import recognise_attention

SHAPES = "float[N,4,5,8] q, float[N,4,5,8] k, float[N,4,5,8] v"


def attention(body: str, extra: str = "", shapes: str = SHAPES) -> tuple[ir.Model, ir.Model]:
    """A graph from q, k and v to y before and after recognition."""
    model = hub(
        f"({shapes}{extra}) => (float y) {{ {body} }}",
        constants={
            "root": number(8**0.5),
            "scale": number(8**-0.5),
            "fourth": number(8**-0.25),
            "other": number(0.3),
            "zero": number(0.0),
            "lowest": number(-3.4028234663852886e38),
            "billion": number(-1e9),
            "small": number(-100.0),
            "infinity": number(float("-inf")),
            "ratio": number(0.1),
            "two": ints(2),
            "cap": number(5.0),
        },
    )
    return model, apply(model, recognise_attention)


KEYS = "t = Transpose <perm=[0,1,3,2]> (k)"


@pytest.mark.parametrize(
    "body",
    [
        f"{KEYS} s = MatMul(q, t) a = Div(s, root) w = Softmax <axis=-1> (a) y = MatMul(w, v)",
        f"{KEYS} s = MatMul(q, t) a = Mul(scale, s) w = Softmax <axis=3> (a) y = MatMul(w, v)",
        f"{KEYS} p = Mul(q, scale) s = MatMul(p, t) w = Softmax (s) y = MatMul(w, v)",
        f"{KEYS} p = Div(t, root) s = MatMul(q, p) w = Softmax (s) y = MatMul(w, v)",
        "p = Mul(k, scale) t = Transpose <perm=[0,1,3,2]> (p) s = MatMul(q, t) w = Softmax (s)"
        " y = MatMul(w, v)",
        f"{KEYS} p = Mul(q, fourth) r = Mul(t, fourth) s = MatMul(p, r) w = Softmax (s) y = MatMul(w, v)",
        'p = Mul(q, scale) s = Einsum <equation="abcd,abed->abce"> (p, k) w = Softmax (s)'
        ' y = Einsum <equation="abce,abed->abcd"> (w, v)',
    ],
)
def test_scaling(body: str) -> None:
    before, after = attention(body)
    assert operators(after) == ["Attention"]
    assert "scale" not in node_of(after, "Attention").attributes
    assert_equivalent(before, after)


@pytest.mark.parametrize(
    ("body", "scale"),
    [
        (f"{KEYS} s = MatMul(q, t) w = Softmax <axis=-1> (s) y = MatMul(w, v)", 1.0),
        (f"{KEYS} s = MatMul(q, t) a = Mul(s, other) w = Softmax <axis=-1> (a) y = MatMul(w, v)", 0.3),
    ],
)
def test_other_scales(body: str, scale: float) -> None:
    before, after = attention(body)
    assert node_of(after, "Attention").attributes.get_float("scale") == pytest.approx(scale)
    assert_equivalent(before, after)


def test_inactive_dropout_is_recorded() -> None:
    _, after = attention(
        f"{KEYS} s = MatMul(q, t) a = Div(s, root) w = Softmax (a) d = Dropout(w, ratio) y = MatMul(d, v)"
    )
    assert operators(after) == ["Attention"]
    assert metadata.attention_dropout(node_of(after, "Attention")) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        (f"{KEYS} s = MatMul(q, t) a = Add(s, m) w = Softmax (a) y = MatMul(w, v)", ", float[N,4,5,5] m"),
        (f"{KEYS} s = MatMul(q, t) a = Add(m, s) w = Softmax (a) y = MatMul(w, v)", ", float[5,5] m"),
        (
            f"{KEYS} s = MatMul(q, t) a = Where(m, s, lowest) w = Softmax (a) y = MatMul(w, v)",
            ", bool[N,1,5,5] m",
        ),
        (
            f"{KEYS} s = MatMul(q, t) a = Where(m, billion, s) w = Softmax (a) y = MatMul(w, v)",
            ", bool[N,4,5,5] m",
        ),
        (
            f"{KEYS} s = MatMul(q, t) b = Add(s, n) a = Where(m, b, infinity) w = Softmax (a)"
            " y = MatMul(w, v)",
            ", bool[N,4,5,5] m, float[N,4,5,5] n",
        ),
    ],
)
def test_masks(body: str, extra: str) -> None:
    before, after = attention(body, extra)
    assert "Attention" in operators(after)
    assert "Softmax" not in operators(after)
    assert_equivalent(before, after)


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        (f"{KEYS} s = MatMul(q, t) w = Softmax <axis=2> (s) y = MatMul(w, v)", ""),
        (f"{KEYS} s = MatMul(q, t) w = LogSoftmax <axis=-1> (s) y = MatMul(w, v)", ""),
        (f"{KEYS} s = MatMul(q, t) w = Softmax (s) a = Add(w, m) y = MatMul(a, v)", ", float[5,5] m"),
        (
            f"{KEYS} s = MatMul(q, t) c = Add(s, m) a = Mul(c, scale) w = Softmax (a) y = MatMul(w, v)",
            ", float[5,5] m",
        ),
        (f"{KEYS} s = MatMul(q, t) a = Mul(s, m) w = Softmax (a) y = MatMul(w, v)", ", float[1] m"),
        (f"{KEYS} s = MatMul(q, t) a = Div(root, s) w = Softmax (a) y = MatMul(w, v)", ""),
        (f"{KEYS} s = MatMul(q, t) a = Where(m, s, small) w = Softmax (a) y = MatMul(w, v)", ", bool[5,5] m"),
        (f"{KEYS} s = MatMul(q, t) a = Where(m, s, zero) w = Softmax (a) y = MatMul(w, v)", ", bool[5,5] m"),
        (f"{KEYS} s = MatMul(q, t) a = Add(s, m) w = Softmax (a) y = MatMul(w, v)", ", float[5,1] m"),
    ],
)
def test_near_misses(body: str, extra: str) -> None:
    _, after = attention(body, extra)
    assert "Attention" not in operators(after)


def test_weights_that_are_read_elsewhere_stay() -> None:
    _, after = attention(
        f"{KEYS} s = MatMul(q, t) w = Softmax (s) u = MatMul(w, v) r = ReduceSum(w) y = Add(u, r)"
    )
    assert "Attention" not in operators(after)
