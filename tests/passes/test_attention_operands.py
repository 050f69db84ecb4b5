"""The ways of operands into attention and of its result out of it, their masks, and near misses."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pass_graphs import Pass, floats, hub, ints, node_of, operators, outputs
from pass_graphs import apply as apply_passes

from bridge.passes.attention import recognise_attention, simplify_masks, straighten_attention
from bridge.passes.fold_trained import fold_moves
from bridge.passes.identity import drop_identities
from bridge.passes.split_weights import transpose_before_splits
from bridge.passes.static import fold_static

SIZES = {"N": 2, "L": 5, "S": 3}
CONSTANTS = {
    "zero": np.asarray(0, np.int64),
    "one": np.asarray(1, np.int64),
    "two": np.asarray(2, np.int64),
    "thirds": ints(12, 12, 12),
    "packed": ints(0, 0, 3, 12),
    "joined_heads": ints(0, -1, 4),
    "flat": ints(-1, 12),
    "flat36": ints(-1, 36),
    "merge": ints(0, 0, 12),
    "heads": ints(0, 0, 3, 4),
    "swapped_heads": ints(0, 0, 4, 3),
    "last_heads": ints(0, 3, -1, 4),
}
TRAINED = {
    "w": floats(12, 36),
    "b": floats(36, seed=1),
    **{f"w{each}": floats(12, 12, seed=ord(each)) for each in "qkvo"},
    **{f"b{each}": floats(12, seed=ord(each) + 1) for each in "qkvo"},
}


def apply(model: ir.Model, *passes: Pass) -> ir.Model:
    """Run passes once shapes are known and what does nothing is gone."""
    return apply_passes(model, fold_static, drop_identities, *passes)


def equivalent(before: ir.Model, after: ir.Model) -> None:
    """The same under onnxruntime with axes of all different sizes."""
    for shift in (0, 4):
        random = np.random.default_rng(shift)
        feeds = {}
        for value in before.graph.inputs:
            assert value.shape is not None
            shape = [
                each if isinstance(each, int) else SIZES[str(each.value)] + shift for each in value.shape
            ]
            data = random.standard_normal(shape).astype(np.float32)
            feeds[str(value.name)] = data > -0.5 if value.dtype == ir.DataType.BOOL else data
        for expected, found in zip(outputs(before, feeds), outputs(after, feeds), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def projected(name: str, source: str, *, time_first: bool, flattened: bool) -> str:
    """A projection `p{name}` of (N, L, 12), done on (L, N, 12) or on rows."""
    text = f"t{name} = Transpose <perm=[1,0,2]> ({source})" if time_first else f"t{name} = Identity({source})"
    if flattened:
        back = f"s{name} = Shape(t{name}) p{name} = Reshape(a{name}, s{name})"
        return (
            f"{text} f{name} = Reshape(t{name}, flat) m{name} = MatMul(f{name}, w{name})"
            f" a{name} = Add(b{name}, m{name}) {back}"
        )
    return f"{text} m{name} = MatMul(t{name}, w{name}) p{name} = Add(m{name}, b{name})"


def operand(name: str, *, time_first: bool, joined: bool) -> str:
    """(N, 3, L, 4) of a projection of (L, N, 12) or (N, L, 12), by way of (N * 3, L, 4) where `joined`."""
    if joined and time_first:
        return (
            f"j{name} = Reshape(p{name}, joined_heads) u{name} = Transpose <perm=[1,0,2]> (j{name})"
            f" h{name} = Shape(u{name}) l{name} = Slice(h{name}, one1, two1)"
            f" target{name} = Concat <axis=0> (minus, three, l{name}, four)"
            f" {name} = Reshape(u{name}, target{name})"
        )
    perm = "[1,2,0,3]" if time_first else "[0,2,1,3]"
    return f"r{name} = Reshape(p{name}, heads) {name} = Transpose <perm={perm}> (r{name})"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    time_first=st.tuples(*[st.booleans()] * 3),
    flattened=st.booleans(),
    joined=st.booleans(),
    cross=st.booleans(),
    out_first=st.booleans(),
    gemm=st.booleans(),
)
def test_all_ways_are_the_short_one(
    time_first: tuple[bool, bool, bool],
    flattened: bool,
    joined: bool,
    cross: bool,
    out_first: bool,
    gemm: bool,
) -> None:
    sources = ("x", "m", "m") if cross else ("x", "x", "x")
    text = " ".join(
        projected(name, source, time_first=first, flattened=flattened)
        + " "
        + operand(name, time_first=first, joined=joined)
        for name, source, first in zip("qkv", sources, time_first, strict=True)
    )
    perm, back = ("[2,0,1,3]", "[1,0,2]") if out_first else ("[0,2,1,3]", "[0,1,2]")
    axis = 0 if out_first else 1
    product = "g = Gemm(f, wo, bo)" if gemm else "n = MatMul(f, wo) g = Add(n, bo)"
    model = hub(
        f"(float[N,L,12] x, float[N,S,12] m) => (float y) {{ {text} a = Attention(q, k, v)"
        f" rows = Shape <start={axis}, end={axis + 1}> (x) o = Transpose <perm={perm}> (a) c ="
        f" Reshape(o, merge) f = Reshape(c, flat) {product}"
        f" i = Concat <axis=0> (minus, rows, twelve) z = Reshape(g, i) y = Transpose <perm={back}> (z) }}",
        trained={name: each for name, each in TRAINED.items() if len(name) == 2},
        constants={
            **CONSTANTS,
            "one1": ints(1),
            "two1": ints(2),
            "minus": ints(-1),
            "three": ints(3),
            "four": ints(4),
            "twelve": ints(12),
        },
    )
    found = apply(model, straighten_attention)
    equivalent(model, found)
    moves = [each for each in operators(found) if each in ("Reshape", "Transpose", "Gather", "Split")]
    if flattened or all(time_first):
        assert len(moves) == 8, operators(found)


@pytest.mark.parametrize("time_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_projections_are_split(time_first: bool, bias: bool) -> None:
    first = "t = Transpose <perm=[1,0,2]> (x)" if time_first else "t = Identity(x)"
    takes = " ".join(
        f"g{name} = Gather <axis=0> (e, {at}) p{name} = Identity(g{name})"
        f" {operand(name, time_first=time_first, joined=False)}"
        for name, at in zip("qkv", ("zero", "one", "two"), strict=True)
    )
    model = hub(
        f"(float[N,L,12] x) => (float y) {{ {first} m = MatMul(t, w)"
        f" p = {'Add(m, b)' if bias else 'Identity(m)'} r = Reshape(p, packed)"
        f" e = Transpose <perm=[2,0,1,3]> (r) {takes} y = Attention(q, k, v) }}",
        trained={name: TRAINED[name] for name in ("w", "b") if name == "w" or bias},
        constants=CONSTANTS,
    )
    found = apply(model, straighten_attention)
    equivalent(model, found)
    assert operators(found).count("Split") == 1
    assert operators(found).count("Transpose") == 3
    product = node_of(found, "MatMul")
    assert product.inputs[0] is found.graph.inputs[0]


STAYING = {
    "packed as timm does": "m = MatMul(x, w) r = Reshape(m, five) t = Transpose <perm=[2,0,3,1,4]> (r)"
    " q = Gather <axis=0> (t, zero) k = Gather <axis=0> (t, one) v = Gather <axis=0> (t, two)",
    "heads in the fast axis": "t = Transpose <perm=[1,0,2]> (x) m = MatMul(t, wq) u = Transpose"
    " <perm=[1,0,2]> (m)"
    " r = Reshape(u, swapped_heads) q = Transpose <perm=[0,3,1,2]> (r) k = Identity(q) v = Identity(q)",
    "rows that were never turned back": "t = Transpose <perm=[1,0,2]> (x) m = MatMul(t, wq) s = Shape(x)"
    " u = Reshape(m, s) r = Reshape(u, heads) q = Transpose <perm=[0,2,1,3]> (r) k = Identity(q) v ="
    " Identity(q)",
    "lengths as heads": "m = MatMul(x, wq) q = Reshape(m, last_heads) k = Identity(q) v = Identity(q)",
    "a part of the channels": "t = Transpose <perm=[1,0,2]> (x) m = MatMul(t, w) u = Transpose"
    " <perm=[1,0,2]> (m)"
    " a, c, d = Split <axis=2> (u, thirds) r = Reshape(a, heads) q = Transpose <perm=[0,2,1,3]> (r)"
    " k = Identity(q) v = Identity(q)",
}


@pytest.mark.parametrize("near", STAYING)
def test_near_misses_stay(near: str) -> None:
    model = hub(
        f"(float[N,L,12] x) => (float y) {{ {STAYING[near]} y = Attention(q, k, v) }}",
        trained={name: TRAINED[name] for name in ("w", "wq") if f", {name})" in STAYING[near]},
        constants={**CONSTANTS, "five": ints(0, 0, 3, 3, 4)},
    )
    before, found = apply(model), apply(model, straighten_attention)
    equivalent(model, found)
    assert operators(found) == operators(before)


def test_a_projection_that_others_read_stays() -> None:
    model = hub(
        "(float[N,L,12] x) => (float y, float z) { t = Transpose <perm=[1,0,2]> (x) z = MatMul(t, wq)"
        " u = Transpose <perm=[1,0,2]> (z) i = Transpose <perm=[1,0,2]> (u) j = Transpose <perm=[1,0,2]> (i)"
        " r = Reshape(j, heads) q = Transpose <perm=[0,2,1,3]> (r) y = Attention(q, q, q) }",
        trained={"wq": TRAINED["wq"]},
        constants=CONSTANTS,
    )
    found = apply(model, straighten_attention)
    equivalent(model, found)
    assert operators(found).count("MatMul") == 1


MASKED = (
    "(float[N,3,L,4] q, float[N,3,S,4] k, float[N,3,S,4] v{inputs}) => (float y)"
    " {{ {mask} y = Attention(q, k, v, a) }}"
)
MASK_CONSTANTS = {
    "front": ints(1, 2),
    "before": ints(0),
    "tiles": ints(1, 3, 1, 1),
    "hidden": np.asarray(-np.inf, np.float32),
    "seen": np.asarray(0.0, np.float32),
    "minus": ints(-1),
    "three": ints(3),
    "one": ints(1),
}
JOIN = (
    " h = Shape <start=2> (m) c = Concat <axis=0> (minus, h) j = Reshape({0}, c)"
    " {1} d = Concat <axis=0> (minus, three, h{2}) a = Reshape({3}, d)"
)
FORMS = {
    "tiled over heads": (", float[N,1,L,S] m", "a = Tile(m, tiles)", ["N", 1, "L", "S"]),
    "joined and split": (
        ", float[N,1,L,S] m",
        "t = Tile(m, tiles)" + JOIN.format("t", "", "", "j"),
        ["N", 1, "L", "S"],
    ),
    "keys for each sample": (
        ", float[N,S] m, float[L,S] n",
        "u = Unsqueeze(m, front) t = Tile(u, tiles) e = Shape <start=1> (m)"
        " c = Concat <axis=0> (minus, one, e) j = Reshape(t, c) f = Unsqueeze(n, before) s = Add(f, j)"
        " l = Shape <start=0, end=1> (n) d = Concat <axis=0> (minus, three, l, e) a = Reshape(s, d)",
        ["N", 1, "L", "S"],
    ),
    "truth for each sample": (
        ", bool[N,S] m",
        "w = Where(m, seen, hidden) u = Unsqueeze(w, front) a = Tile(u, tiles)",
        ["N", 1, 1, "S"],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_masks_are_read_before_they_are_repeated(form: str) -> None:
    inputs, mask, wanted = FORMS[form]
    model = hub(MASKED.format(inputs=inputs, mask=mask), constants=MASK_CONSTANTS)
    found = apply(model, simplify_masks)
    read = node_of(found, "Attention").inputs[3]
    assert read is not None
    assert read.shape is not None
    assert [each if isinstance(each, int) else each.value for each in read.shape] == wanted
    assert not {"Tile", "Reshape"} & set(operators(found))
    if wanted[2] != 1:
        equivalent(model, found)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    turned=st.booleans(),
    number=st.sampled_from([-np.inf, -1e9, -1.0]),
    other=st.sampled_from([0.0, 0.5]),
    hides=st.booleans(),
    both=st.booleans(),
)
def test_only_zeros_and_minus_infinities_are_truth(
    turned: bool, number: float, other: float, hides: bool, both: bool
) -> None:
    condition = "w0 = Not(m)" if turned else "w0 = Identity(m)"
    operands = "hidden, seen" if hides else "seen, hidden"
    second = "w2 = Where(n, seen, hidden) a = Add(w1, w2)" if both else "a = Identity(w1)"
    model = hub(
        MASKED.format(
            inputs=", bool[N,1,L,S] m, bool[L,S] n", mask=f"{condition} w1 = Where(w0, {operands}) {second}"
        ),
        constants={
            "hidden": np.asarray(number, np.float32),
            "seen": np.asarray(other, np.float32),
        },
    )
    found = apply(model, simplify_masks)
    equivalent(model, found)
    read = node_of(found, "Attention").inputs[3]
    assert read is not None
    assert (read.dtype == ir.DataType.BOOL) == (np.isneginf(number) and other == 0)


MASKS_STAYING = {
    "tiled over samples": (", float[3,1,L,S] m", "i = Transpose <perm=[1,0,2,3]> (m) a = Tile(i, samples)"),
    "heads for samples": (", float[3,L,S] m", "t = Unsqueeze(m, before) a = Transpose <perm=[0,1,2,3]> (t)"),
    "joined in another order": (
        ", float[N,1,L,S] m",
        "t = Tile(m, tiles) i = Transpose <perm=[1,0,2,3]> (t) h = Shape <start=2> (i)"
        " c = Concat <axis=0> (minus, h) j = Reshape(i, c) d = Concat <axis=0> (minus, three, h)"
        " a = Reshape(j, d)",
    ),
}


@pytest.mark.parametrize("near", MASKS_STAYING)
def test_masks_of_other_elements_keep_them(near: str) -> None:
    inputs, mask = MASKS_STAYING[near]
    model = hub(
        MASKED.format(inputs=inputs, mask=mask), constants={**MASK_CONSTANTS, "samples": ints(1, 1, 1, 1)}
    )
    equivalent(model, apply(model, simplify_masks))


def test_parts_of_a_trained_matrix_are_cut_once_it_is_transposed() -> None:
    text = (
        "(float[N,4] x, float[N,4] m) => (float y, float z) {{ a, c = Split <axis=0> (w, parts)"
        " t = Transpose(a) y = MatMul(x, t) u = Transpose{perm}(c) z = MatMul(m, u) }}"
    )
    constants = {"parts": ints(4, 4)}
    model = hub(text.format(perm=""), trained={"w": floats(8, 4)}, constants=constants)
    found = apply(model, transpose_before_splits, fold_moves)
    equivalent(model, found)
    assert operators(found) == ["Split", "MatMul", "MatMul"]
    same = hub(text.format(perm=" <perm=[0,1]> "), trained={"w": floats(8, 4)}, constants=constants)
    assert "Transpose" in operators(apply(same, transpose_before_splits))


@pytest.mark.parametrize(("heads", "whole"), [(3, True), (1, False)])
def test_scores_that_are_masked_with_heads_apart(heads: int, whole: bool) -> None:
    """(batch * heads) products whose masks are added to (batch, heads, queries, keys)."""
    model = hub(
        "(float[L,N,12] x, float[N,1,1,L] m) => (float y) { r = Reshape(x, joined_heads)"
        " q = Transpose <perm=[1,0,2]> (r) k = Transpose <perm=[1,2,0]> (r) s = MatMul(q, k) l = Shape"
        " <end=1> (x)"
        " c = Concat <axis=0> (minus, heads1, l, l) e = Reshape(s, c) g = Add(e, m) w = Softmax(g)"
        " i = Concat <axis=0> (minus, l, l) f = Reshape(w, i) z = MatMul(f, q) t = Transpose"
        " <perm=[1,0,2]> (z)"
        " y = Reshape(t, last) }",
        constants={**CONSTANTS, "minus": ints(-1), "heads1": ints(heads), "last": ints(0, -1, 12)},
    )
    random = np.random.default_rng(0)
    feeds = {
        "x": random.standard_normal((5, 2, 12)).astype(np.float32),
        "m": random.standard_normal((2 if heads == 3 else 6, 1, 1, 5)).astype(np.float32),
    }
    found = apply(model, recognise_attention, straighten_attention)
    assert ("Attention" in operators(found)) == whole
    if not whole:
        np.testing.assert_allclose(outputs(found, feeds)[0], outputs(model, feeds)[0], atol=1e-5)
