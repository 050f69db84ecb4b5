"""Sequences that are only taken apart again."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from pass_graphs import apply, assert_equivalent, hub, node_of, operators

from bridge.passes.identity import drop_identities
from bridge.passes.sequences import split_without_sequences

NUMBERS = {"n0": np.asarray(0), "n1": np.asarray(1), "last": np.asarray(-1)}


def model(split: object, take: str, *, axis: int = 1, outputs: str = "float[N,K] y") -> ir.Model:
    text = f"(float[N,7] x) => ({outputs}) {{ s = SplitToSequence <axis = {axis}> (x, parts) {take} }}"
    return hub(text, constants={"parts": np.asarray(split), **NUMBERS})


@pytest.mark.parametrize("axis", [1, -1])
@pytest.mark.parametrize(
    ("split", "sizes"), [(3, (3, 3, 1)), (7, (7,)), (4, (4, 3)), ([2, 5], (2, 5)), ([1, 1, 5], (1, 1, 5))]
)
def test_parts_of_known_sizes(split: object, sizes: tuple[int, ...], axis: int) -> None:
    take = "a = SequenceAt(s, n0) b = SequenceAt(s, last) y = Concat <axis = 1> (b, a)"
    given = model(split, take, axis=axis)
    found = apply(given, split_without_sequences, drop_identities)
    assert "SequenceAt" not in operators(found)
    assert len(node_of(found, "Split").outputs) == len(sizes)
    assert_equivalent(apply(given), found)


@pytest.mark.parametrize(
    "take",
    [
        "n = SequenceLength(s) a = SequenceAt(s, n0) m = Cast <to = 1> (n) y = Add(a, m)",
        "i = Identity(n1) t = Shape(x) j = ReduceMin <keepdims = 0> (t) k = Sub(j, j) y = SequenceAt(s, k)",
        "y = ConcatFromSequence <axis = 1> (s)",
    ],
)
def test_other_readers_keep_the_sequence(take: str) -> None:
    given = model([3, 4], take)
    found = apply(given, split_without_sequences)
    assert "SplitToSequence" in operators(found)


def test_an_axis_of_unknown_size_stays() -> None:
    given = model(2, "y = SequenceAt(s, n0)", axis=0)
    assert "SplitToSequence" in operators(apply(given, split_without_sequences))
