"""Transposes, reshapes and identities: joined, lifted, removed, and when not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pass_graphs import apply, assert_equivalent, floats, hub, ints, number, operators

from bridge.hub import metadata
from bridge.passes.identity import drop_identities
from bridge.passes.moves import simplify_moves

CONSTANTS = {
    "one": ints(1),
    "two": ints(2),
    "flat": ints(-1, 24),
    "pairs": ints(-1, 3, 8),
    "square": ints(-1, 12, 2),
    "half": number(0.5),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = Transpose <perm=[0,2,1,3]> (x) y = Transpose <perm=[0,3,1,2]> (a)", ["Transpose"]),
        ("a = Transpose <perm=[0,2,3,1]> (x) y = Transpose <perm=[0,3,1,2]> (a)", ["Transpose"]),
        ("a = Unsqueeze(x, one) y = Squeeze(a, one)", ["Transpose"]),
        ("a = Unsqueeze(x, one) b = Transpose <perm=[0,4,1,2,3]> (a) y = Squeeze(b, two)", ["Transpose"]),
        ("a = Unsqueeze(x, one) y = Squeeze(a, two)", ["Unsqueeze", "Squeeze"]),
        ("a = Reshape(x, pairs) y = Reshape(a, square)", ["Reshape"]),
        ("a = Reshape(x, pairs) y = Reshape(a, flat)", ["Flatten"]),
        ("y = Reshape(x, flat)", ["Flatten"]),
        ("y = Reshape(x, square)", ["Reshape"]),
        ("t = Transpose <perm=[0,2,3,1]> (x) y = ReduceMean <keepdims=0> (t, ends)", ["ReduceMean"]),
        (
            "t = Transpose <perm=[0,2,3,1]> (x) y = ReduceMean <keepdims=1> (t, ends)",
            ["Transpose", "ReduceMean"],
        ),
        (
            "t = Transpose <perm=[0,3,2,1]> (x) y = ReduceMean <keepdims=0> (t, ends1)",
            ["Transpose", "ReduceMean"],
        ),
    ],
)
def test_joined_moves(text: str, expected: list[str]) -> None:
    axes = "N,1,3,8" if "Squeeze(a, two)" in text else "N,2,3,4"
    model = hub(
        f"(float[{axes}] x) => (float y) {{ {text} }}",
        constants={**CONSTANTS, "ends": ints(1, 2), "ends1": ints(1)},
    )
    found = apply(model, simplify_moves)
    assert operators(found) == expected
    assert_equivalent(model, found)


def test_transpose_moves_before_scaling_and_is_done_once() -> None:
    model = hub(
        "(float[N,2,3,4] x) => (float[N,3,4,2] y) { h = Mul(x, half) a = Transpose <perm=[0,2,3,1]> (h)"
        " b = Transpose <perm=[0,2,3,1]> (x) e = Erf(b) y = Mul(a, e) }",
        constants=CONSTANTS,
    )
    found = apply(model, simplify_moves)
    assert sorted(operators(found)) == ["Erf", "Mul", "Mul", "Transpose"]
    assert_equivalent(model, found)


def test_reshape_of_two_free_axes_is_no_flatten() -> None:
    model = hub("(float[N,M,3,4] x) => (float y) { y = Reshape(x, s) }", constants={"s": ints(-1, 12)})
    assert operators(apply(model, simplify_moves)) == ["Reshape"]


@settings(max_examples=40, deadline=None)
@given(perms=st.lists(st.permutations(range(4)), min_size=1, max_size=4))
def test_any_chain_of_transposes_is_at_most_one(perms: list[list[int]]) -> None:
    lines = [f"v{index + 1} = Transpose <perm={list(perm)}> (v{index})" for index, perm in enumerate(perms)]
    model = hub(f"(float[2,3,4,5] v0) => (float y) {{ {' '.join(lines)} y = Neg(v{len(perms)}) }}")
    found = apply(model, simplify_moves, drop_identities)
    assert operators(found).count("Transpose") <= 1
    assert_equivalent(model, found)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("a = Identity(x) y = Neg(a)", False),
        ("a = Cast <to=1> (x) y = Neg(a)", False),
        ("a = Cast <to=11> (x) y = Neg(a)", True),
        ("a = Reshape(x, same) y = Neg(a)", False),
        ("a = Reshape(x, flat) y = Neg(a)", True),
        ("a = Transpose <perm=[0,1,2,3]> (x) y = Neg(a)", False),
        ("a = Pad(x, nothing) y = Neg(a)", False),
        ("a = Slice(x, zero, end, one) y = Neg(a)", False),
        ("a = Slice(x, zero, one, one) y = Neg(a)", True),
        ("a = Concat <axis=1> (x) y = Neg(a)", False),
        ("a = Dropout(x) y = Neg(a)", True),
        ("a = Mul(x, half) y = Neg(a)", True),
    ],
)
def test_nodes_without_effect(text: str, kept: bool) -> None:
    model = hub(
        f"(float[N,2,3,4] x) => (float y) {{ {text} }}",
        constants={
            **CONSTANTS,
            "same": ints(-1, 2, 3, 4),
            "nothing": ints(*[0] * 8),
            "zero": ints(0),
            "end": ints(2**62),
        },
    )
    if "to=11" in text:
        model.graph.outputs[0].type = None
    found = apply(model, drop_identities)
    assert (len(found.graph) == 2) is kept
    assert_equivalent(model, found)


def test_outputs_keep_names_and_records() -> None:
    model = hub("(float[N] x) => (float[N] y, float[N] z) { a = Neg(x) y = Identity(a) z = Identity(x) }")
    found = apply(model, drop_identities)
    assert operators(found) == ["Neg", "Identity"]
    assert [value.name for value in found.graph.outputs] == ["y", "z"]
    assert metadata.source_value(found.graph.outputs[0]) == "source of y"
    assert_equivalent(model, found)


def test_value_that_is_two_outputs_stays_two() -> None:
    model = hub("(float[N] x) => (float[N] y, float[N] z) { y = Neg(x) z = Identity(y) }")
    found = apply(model, drop_identities)
    assert operators(found) == ["Neg", "Identity"]
    assert_equivalent(model, found)


def test_weight_as_an_output_stays_behind_identity() -> None:
    model = hub(
        "(float[N] x) => (float[N] y, float[2] w2) { y = Neg(x) w2 = Identity(w) }", trained={"w": floats(2)}
    )
    found = apply(model, drop_identities)
    assert operators(found) == ["Neg", "Identity"]
    assert_equivalent(model, found)
