"""Attention taken apart in the ways of the exporters, in all combinations, and near misses of masks."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, hub, ints, node_of, number, operators

from bridge.passes.attention import lower_attention, recognise_attention
from bridge.passes.attention.options import unusual_options
from bridge.passes.identity import drop_identities

CONSTANTS = {
    "root": number(8**0.5),
    "scale": number(8**-0.5),
    "fourth": number(8**-0.25),
    "lowest": number(float(np.finfo(np.float32).min)),
    "infinity": number(float("-inf")),
    "zero": number(0.0),
    "ratio": number(0.1),
    "axis": ints(2),
    "groups": ints(1, 1, 2, 1, 1),
    "tiles": ints(1, 2, 1, 1),
    "before": ints(1, 2, 1, 1, 1),
    "merged": ints(0, 4, 5, 8),
    "tril": np.tril(np.ones((5, 5), np.bool_)),
    "shifted": np.tril(np.ones((5, 5), np.bool_), -1),
}

KEYS = {
    "transposed": "t = Transpose <perm=[0,1,3,2]> (K)",
    "scaled before": "kk = Mul(K, F) t = Transpose <perm=[0,1,3,2]> (kk)",
    "scaled after": "kk = Transpose <perm=[0,1,3,2]> (K) t = Mul(F, kk)",
}
SCALES = {
    "queries": ("qq = Mul(q, scale)", None, ""),
    "queries divided": ("qq = Div(q, root)", None, ""),
    "keys": ("qq = Identity(q)", "scale", ""),
    "both": ("qq = Mul(fourth, q)", "fourth", ""),
    "scores": ("qq = Identity(q)", None, "Mul(p, scale)"),
    "scores divided": ("qq = Identity(q)", None, "Div(p, root)"),
}
MASKS = {
    "none": ("", "a = Identity(s)"),
    "added": (", float[N,1,5,5] m", "a = Add(s, m)"),
    "added first": (", float[5,5] m", "a = Add(m, s)"),
    "subtracted": (", float[N,1,5,5] m", "a = Sub(s, m)"),
    "shown": (", bool[N,1,5,5] m", "a = Where(m, s, lowest)"),
    "hidden": (", bool[N,4,5,5] m", "a = Where(m, lowest, s)"),
    "causal": ("", "a = Where(tril, s, infinity)"),
    "causal and added": (", float[N,1,5,5] m", "c = Where(tril, s, infinity) a = Add(c, m)"),
}
HEADS = {
    "own": ("float[N,4,5,8]", "K = Identity(k) V = Identity(v)"),
    "grouped": (
        "float[N,2,5,8]",
        "k1 = Unsqueeze(k, axis) k2 = Expand(k1, groups) K = Reshape(k2, merged)"
        " v1 = Unsqueeze(v, axis) v2 = Tile(v1, groups) V = Reshape(v2, merged)",
    ),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    heads=st.sampled_from(sorted(HEADS)),
    keys=st.sampled_from(sorted(KEYS)),
    scale=st.sampled_from(sorted(SCALES)),
    mask=st.sampled_from(sorted(MASKS)),
    axis=st.sampled_from((-1, 3)),
    dropout=st.booleans(),
)
def test_all_forms_are_one_operator(
    heads: str, keys: str, scale: str, mask: str, axis: int, dropout: bool
) -> None:
    shape, repeats = HEADS[heads]
    queries, factor, scores = SCALES[scale]
    extra, masked = MASKS[mask]
    spelled = KEYS[keys if factor else "transposed"]
    if factor and keys == "transposed":
        spelled = KEYS["scaled before"]
    spelled = spelled.replace("F", factor or "")
    body = (
        f"{repeats} {queries} {spelled} p = MatMul(qq, t) s = {scores or 'Identity(p)'} {masked}"
        f" w = Softmax <axis={axis}> (a) d = {'Dropout(w, ratio)' if dropout else 'Identity(w)'}"
        " y = MatMul(d, V)"
    )
    model = hub(
        f"(float[N,4,5,8] q, {shape} k, {shape} v{extra}) => (float y) {{ {body} }}", constants=CONSTANTS
    )
    found = apply(model, drop_identities, recognise_attention)
    assert "Softmax" not in operators(found)
    node = node_of(found, "Attention")
    assert "scale" not in node.attributes
    assert node.inputs[1] is not None
    assert node.inputs[1].name == "k"
    assert_equivalent(model, found)


GROUPED = HEADS["grouped"][1]


@pytest.mark.parametrize("options", ["", "<is_causal=1, scale=0.3>"])
def test_attention_shares_the_heads_that_were_repeated_for_it(options: str) -> None:
    found = recognised(f"{GROUPED} y = Attention {options} (q, K, V)", shape="float[N,2,5,8]")
    node = node_of(found, "Attention")
    assert [each and each.name for each in node.inputs[:3]] == ["q", "k", "v"]


@pytest.mark.parametrize(
    "repeat",
    [
        "K = Tile(k, tiles) V = Tile(v, tiles)",
        "k1 = Unsqueeze(k, axis) k2 = Expand(k1, groups) K = Reshape(k2, merged) V = Tile(v, tiles)",
        "one = Constant <value_ints=[1]> ()"
        " k1 = Unsqueeze(k, one) k2 = Tile(k1, before) K = Reshape(k2, merged)"
        " v1 = Unsqueeze(v, one) v2 = Tile(v1, before) V = Reshape(v2, merged)",
    ],
)
def test_attention_keeps_heads_that_were_repeated_otherwise(repeat: str) -> None:
    found = recognised(f"{repeat} y = Attention(q, K, V)", shape="float[N,2,5,8]")
    node = node_of(found, "Attention")
    assert [each and each.name for each in node.inputs[:3]] == ["q", "K", "V"]


def test_attention_whose_keys_are_given_out_keeps_their_heads() -> None:
    model = hub(
        "(float[N,4,5,8] q, float[N,2,5,8] k, float[N,2,5,8] v, float[N,4,3,8] pk, float[N,4,3,8] pv)"
        f" => (float y, float a, float b) {{ {GROUPED} y, a, b = Attention(q, K, V, , pk, pv) }}",
        constants=CONSTANTS,
    )
    found = apply(model, recognise_attention)
    assert_equivalent(model, found)
    assert operators(found).count("Reshape") == 2


def recognised(body: str, extra: str = "", shape: str = "float[N,4,5,8]") -> ir.Model:
    model = hub(
        f"(float[N,4,5,8] q, {shape} k, {shape} v{extra}) => (float y) {{ {body} }}", constants=CONSTANTS
    )
    found = apply(model, recognise_attention)
    assert_equivalent(model, found)
    return found


def test_repeated_blocks_of_heads_are_not_grouped_heads() -> None:
    found = recognised(
        "K = Tile(k, tiles) V = Tile(v, tiles) t = Transpose <perm=[0,1,3,2]> (K) s = MatMul(q, t)"
        " w = Softmax(s) y = MatMul(w, V)",
        shape="float[N,2,5,8]",
    )
    assert operators(found).count("Tile") == 2


def test_keys_that_are_not_transposed_are_no_attention() -> None:
    found = recognised(
        "s = MatMul(q, k) w = Softmax(s) y = MatMul(w, v)", ", float[N,4,8,8] z", "float[N,4,8,8]"
    )
    assert "Attention" not in operators(found)


def test_scores_that_are_read_elsewhere_stay() -> None:
    found = recognised(
        "t = Transpose <perm=[0,1,3,2]> (k) s = MatMul(q, t) w = Softmax(s) u = MatMul(w, v)"
        " r = MatMul(s, v) y = Add(u, r)"
    )
    assert "Attention" not in operators(found)


@pytest.mark.parametrize(
    ("mask", "blind"),
    [
        ("a = Where(tril, s, infinity)", "none"),
        ("a = Where(tril, s, lowest)", "none"),
        ("a = Where(m, s, lowest)", "uniform"),
        ("a = Where(m, s, infinity)", "arithmetic"),
        ("n = Cast <to=1> (m) o = Mul(n, lowest) a = Add(s, o)", "arithmetic"),
    ],
)
def test_what_becomes_of_queries_that_see_nothing(mask: str, blind: str) -> None:
    model = hub(
        "(float[N,4,5,8] q, float[N,4,5,8] k, float[N,4,5,8] v, bool[N,1,5,5] m) => (float y) {"
        f" t = Transpose <perm=[0,1,3,2]> (k) s = MatMul(q, t) {mask} w = Softmax(a) y = MatMul(w, v) }}",
        constants=CONSTANTS,
    )
    lowered = lower_attention(apply(model, recognise_attention), "torch")
    (node,) = [each for each in lowered.graph if each.op_type == "Attention"]
    assert node.attributes.get_string("blind") == blind


def test_scores_that_are_subtracted_are_no_attention() -> None:
    found = recognised(
        "t = Transpose <perm=[0,1,3,2]> (k) s = MatMul(q, t) a = Sub(m, s) w = Softmax(a) y = MatMul(w, v)",
        ", float[N,1,5,5] m",
    )
    assert "Attention" not in operators(found)


def test_a_strictly_lower_triangle_hides_all_keys_from_the_first_query() -> None:
    model = hub(
        "(float[N,4,5,8] q, float[N,4,5,8] k, float[N,4,5,8] v) => (float y) {"
        " t = Transpose <perm=[0,1,3,2]> (k) s = MatMul(q, t) a = Where(shifted, s, lowest) w = Softmax(a)"
        " y = MatMul(w, v) }",
        constants=CONSTANTS,
    )
    found = apply(model, recognise_attention)
    assert node_of(found, "Attention").attributes.get_int("is_causal", 0) == 0
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "option", ["left_window_size = 2", "right_window_size = 0", "softcap = 3.0", "of_a_newer_opset = 1"]
)
def test_attention_with_more_than_a_mask_is_not_taken_for_a_kernel(option: str) -> None:
    name, _, text = option.partition(" = ")
    model = hub(
        f"(float[2,3,4,8] q, float[2,3,6,8] k, float[2,3,6,8] v) => (float y)"
        f" {{ y = Attention <is_causal = 1, {name} = {text}> (q, k, v) }}"
    )
    for target in ("torch", "tf"):
        assert [node.domain for node in lower_attention(model.clone(), target).graph] == [""]
        assert unusual_options(next(iter(model.graph))) == {name}


@pytest.mark.parametrize("option", ["left_window_size = -1", "softcap = 0.0", "qk_matmul_output_mode = 0"])
def test_options_at_their_defaults_say_nothing(option: str) -> None:
    model = hub(
        f"(float[2,3,4,8] q, float[2,3,6,8] k, float[2,3,6,8] v) => (float y)"
        f" {{ y = Attention <is_causal = 1, {option}> (q, k, v) }}"
    )
    assert [node.domain for node in lower_attention(model, "torch").graph] == ["bridge"]
