"""What follows from positions alone, masks of attention, and duplicates."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_graphs import apply, assert_equivalent, hub, ints, number, operators

from bridge.passes.attention_masks import recognise_causal_masks, shrink_masks
from bridge.passes.duplicates import drop_duplicates
from bridge.passes.gemm import order_operands
from bridge.passes.identity import drop_identities
from bridge.passes.positions import simplify_positions
from bridge.passes.static import fold_static

POSITIONS = """n = Shape <start=0, end=1> (x) b = Squeeze(n) m = Shape <start=1, end=2> (x) s = Squeeze(m)
    rows = Range(zero, b, one) columns = Range(zero, s, one)"""
CONSTANTS = {
    "zero": np.asarray(0, np.int64),
    "one": np.asarray(1, np.int64),
    "two": np.asarray(2, np.int64),
    "first": ints(0),
    "second": ints(1),
    "last": ints(-1),
    "at": ints(1, 2, 3),
    "at_last": ints(0, 1, 2),
    "at_third": ints(0, 1, 3),
    "no": np.asarray(False),
    "yes": np.asarray(True),
    "big": ints(2**31),
}


def positions(body: str, *, inputs: str = "bool[N,S] x", output: str = "bool y") -> ir.Model:
    return hub(f"({inputs}) => ({output}) {{ {POSITIONS} {body} }}", constants=CONSTANTS)


def simplified(model: ir.Model) -> ir.Model:
    return apply(model, fold_static, simplify_positions, drop_duplicates, order_operands, drop_identities)


LOOKUP = """r = Unsqueeze(rows, at) c = Unsqueeze(columns, at_last) o = Max(r, c) e = Shape(o)
    rr = Expand(r, e) r1 = Unsqueeze(rr, last) cc = Expand(c, e) c1 = Unsqueeze(cc, last)
    i = Concat <axis=-1> (r1, c1)"""


def test_a_lookup_at_all_positions_is_the_data_with_new_axes() -> None:
    """The spelling of transformers' masks under torch.vmap."""
    model = positions(f"{LOOKUP} y = GatherND(x, i)")
    found = simplified(model)
    assert operators(found) == ["Unsqueeze"]
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    "body",
    [
        "k = Add(columns, one) r = Unsqueeze(rows, last) c = Unsqueeze(k, first) z = Mul(r, zero)"
        " q = Add(z, c) t = Mod(q, s) u = Unsqueeze(t, last) v = Unsqueeze(r, last) e = Shape(u)"
        " w = Expand(v, e) i = Concat <axis=-1> (w, u) y = GatherND(x, i)",
        "k = Sub(s, one) d = Sub(k, columns) r = Unsqueeze(rows, last) c = Unsqueeze(d, first) o = Max(r, c)"
        " e = Shape(o) rr = Expand(r, e) cc = Expand(c, e) r1 = Unsqueeze(rr, last) c1 = Unsqueeze(cc, last)"
        " i = Concat <axis=-1> (r1, c1) y = GatherND(x, i)",
        "r = Unsqueeze(rows, last) c = Unsqueeze(columns, first) o = Max(r, c) e = Shape(o) rr = Expand(r, e)"
        " cc = Expand(c, e) r1 = Unsqueeze(rr, last) c1 = Unsqueeze(cc, last) i = Concat <axis=-1> (c1, r1)"
        " p = Transpose(x) y = GatherND(p, i)",
    ],
    ids=["shifted", "reversed", "transposed"],
)
def test_other_lookups_stay(body: str) -> None:
    model = positions(body)
    found = simplified(model)
    assert "GatherND" in operators(found)
    assert_equivalent(model, found)


def test_documents_that_are_told_apart_by_their_positions_are_one() -> None:
    """transformers asks of positions 0, 1, 2, ... where they start anew."""
    model = positions(
        "p = Unsqueeze(columns, first) e = Shape(x) q = Expand(p, e) h = Slice(q, first, second, second)"
        " a = Sub(h, one) w = Concat <axis=1> (a, q) v = Slice(w, second, big, second)"
        " m1 = Squeeze(m) m2 = Unsqueeze(m1, first) u = Slice(w, first, m2, second) d = Sub(v, u)"
        " o = Equal(d, one) nn = Not(o) k = Cast <to=7> (nn) c = CumSum(k, one) j = Equal(c, zero)"
        " y = And(j, x)"
    )
    for node in model.graph:
        if (name := node.outputs[0].name) in ("h", "u", "v"):
            node.outputs[0].shape = ir.Shape(["N", 1 if name == "h" else "S"])
            node.outputs[0].type = ir.TensorType(ir.DataType.INT64)
    found = simplified(model)
    assert "CumSum" not in operators(found)
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("condition", "stays"),
    [
        ("c = GreaterOrEqual(columns, zero)", False),
        ("c = LessOrEqual(zero, columns)", False),
        ("c = Greater(columns, zero)", True),
        ("c = Less(columns, two)", True),
        ("c = LessOrEqual(columns, zero)", True),
        ("c = Equal(columns, zero)", True),
    ],
)
def test_a_condition_that_holds_everywhere_is_left_out(condition: str, stays: bool) -> None:
    model = positions(f"{condition} y = And(c, x)")
    found = simplified(model)
    assert ("And" in operators(found)) is stays
    assert_equivalent(model, found)


def test_a_condition_that_holds_everywhere_may_still_give_the_shape() -> None:
    model = positions(
        "p = Unsqueeze(columns, last) c = GreaterOrEqual(p, zero) y = And(c, x)", inputs="bool[1,S] x"
    )
    found = simplified(model)
    assert {"And", "Expand"} & set(operators(found)) == {"Expand"}
    assert_equivalent(model, found)


ATTENTION = "y = Attention(q, q, q, mask)"
QUERIES = "k = Unsqueeze(columns, at_last) t = Unsqueeze(columns, at_third)"


@pytest.mark.parametrize(
    ("mask", "causal"),
    [
        ("mask = LessOrEqual(k, t)", True),
        ("mask = GreaterOrEqual(t, k)", True),
        ("a = Add(t, one) mask = Less(k, a)", True),
        ("c = LessOrEqual(k, t) e = Shape(c) f = Concat <axis=0> (n, e1, e2, e3) mask = Expand(c, f)", True),
        ("mask = Less(k, t)", False),
        ("mask = LessOrEqual(t, k)", False),
        ("a = Add(t, one) mask = LessOrEqual(k, a)", False),
        ("c = LessOrEqual(k, t) d = Unsqueeze(x, e_at) mask = And(c, d)", False),
    ],
)
def test_masks_of_positions_are_causal(mask: str, causal: bool) -> None:
    mask = mask.replace("(n, e1, e2, e3)", "(n, second, m, m)").replace("e = Shape(c) ", "")
    model = hub(
        f"(bool[N,S] x, float[N,2,S,4] q) => (float y) {{ {POSITIONS} {QUERIES} {mask} {ATTENTION} }}",
        constants={**CONSTANTS, "e_at": ints(1, 2)},
    )
    found = apply(model, fold_static, simplify_positions, recognise_causal_masks)
    (attention,) = [node for node in found.graph if node.op_type == "Attention"]
    assert attention.attributes.get_int("is_causal", 0) == int(causal)
    assert (len(attention.inputs) == 3) is causal


def test_a_mask_is_not_repeated_for_attention() -> None:
    model = hub(
        "(bool[N,1,1,S] mask, float[N,2,S,4] q) => (float y) { n = Shape(q) a = Slice(n, first, two, first)"
        " s = Slice(n, two, three, first) e = Concat <axis=0> (a, s, s) m = Expand(mask, e)"
        " y = Attention(q, q, q, m) }",
        constants={"first": ints(0), "two": ints(2), "three": ints(3)},
    )
    found = shrink_masks(apply(model, fold_static))
    (attention,) = [node for node in found.graph if node.op_type == "Attention"]
    assert attention.inputs[3] is found.graph.inputs[0]


def test_a_mask_of_one_key_is_repeated() -> None:
    """Attention takes the keys that a mask lacks as masked."""
    model = hub(
        "(bool[N,1,1,1] mask, float[N,2,S,4] q) => (float y) { n = Shape(q) a = Slice(n, first, two, first)"
        " s = Slice(n, two, three, first) e = Concat <axis=0> (a, s, s) m = Expand(mask, e)"
        " y = Attention(q, q, q, m) }",
        constants={"first": ints(0), "two": ints(2), "three": ints(3)},
    )
    found = shrink_masks(apply(model, fold_static))
    assert "Expand" in operators(found)
    (attention,) = [node for node in found.graph if node.op_type == "Attention"]
    assert attention.inputs[3] is not found.graph.inputs[0]


def test_new_axes_are_made_at_once_and_positions_counted_once() -> None:
    model = positions(
        "a = Unsqueeze(columns, first) c = Unsqueeze(a, last) other = Range(zero, s, one)"
        " d = Unsqueeze(other, second) k = LessOrEqual(c, d) y = And(k, k)"
    )
    found = apply(model, fold_static, drop_duplicates)
    assert operators(found).count("Range") == 1
    assert operators(found).count("Unsqueeze") == 2
    assert_equivalent(model, found)


def test_equal_nodes_of_different_modules_stay() -> None:
    from bridge.hub import metadata

    model = positions("other = Range(zero, s, one) y = Equal(columns, other)")
    (other,) = [node for node in model.graph if node.outputs[0].name == "other"]
    metadata.set_scope(other, [metadata.ScopeEntry("elsewhere", "Layer")])
    assert operators(apply(model, drop_duplicates)).count("Range") == 2


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("y = Mul(x, one)", []),
        ("y = Div(x, one)", []),
        ("y = Mul(x, wide)", ["Mul"]),
        ("y = Add(x, zero)", ["Add"]),
        ("y = Div(one, x)", ["Div"]),
        ("y = Mul(x, near)", ["Mul"]),
    ],
)
def test_arithmetic_without_effect_is_dropped(text: str, kept: list[str]) -> None:
    model = hub(
        f"(float[N,4] x) => (float z) {{ {text} z = Neg(y) }}",
        constants={
            "one": number(1.0),
            "zero": number(0.0),
            "wide": number(1.0, 1, 1, 1),
            "near": number(1.00001),
        },
    )
    found = apply(model, drop_identities)
    assert operators(found) == [*kept, "Neg"]
    assert_equivalent(model, found)
