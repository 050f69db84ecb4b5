"""Recipes: running, merging, inverting, and their JSON form."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.hub.recipe import (
    Array,
    Literal,
    Recipe,
    Source,
    Step,
    element_indices,
    from_json,
    is_move,
    numpy_dtype,
    only_moves,
    run,
    sources,
    step,
    to_json,
)
from bridge.passes.recipe_moves import simplify


def tensor(*shape: int) -> Array:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@st.composite
def moved(draw: st.DrawFn) -> tuple[Recipe, dict[str, Array]]:
    """A recipe of moves over one or two tensors."""
    tensors = {"a": tensor(2, 3, 4), "b": tensor(2, 3, 4) + 10}
    recipe: Recipe = Source(draw(st.sampled_from(["a", "b"])))
    for _ in range(draw(st.integers(0, 5))):
        array = run(recipe, tensors)
        axis = draw(st.integers(0, array.ndim - 1))
        match draw(st.sampled_from(["transpose", "reshape", "slice", "flip", "take", "concat"])):
            case "transpose":
                recipe = step("transpose", recipe, perm=draw(st.permutations(range(array.ndim))))
            case "reshape":
                cut = draw(st.integers(0, array.ndim))
                shape = (int(np.prod(array.shape[:cut])), 1, int(np.prod(array.shape[cut:])))
                recipe = step("reshape", recipe, shape=shape)
            case "slice":
                stop = draw(st.integers(1, array.shape[axis]))
                recipe = step("slice", recipe, axis=axis, start=0, stop=stop, step=draw(st.integers(1, 2)))
            case "flip":
                recipe = step("flip", recipe, axis=axis)
            case "take":
                indices = draw(st.permutations(range(array.shape[axis])))
                recipe = step("take", recipe, axis=axis, indices=indices)
            case "concat":
                other = step("reshape", Source(draw(st.sampled_from(["a", "b"]))), shape=(-1,))
                recipe = step("concat", step("reshape", recipe, shape=(-1,)), other, axis=0)
    return recipe, tensors


@settings(max_examples=100, deadline=None)
@given(moved())
def test_json_round_trip_runs_the_same(case: tuple[Recipe, dict[str, Array]]) -> None:
    recipe, tensors = case
    again = from_json(json.loads(json.dumps(to_json(recipe))))
    assert again == recipe
    np.testing.assert_array_equal(run(again, tensors), run(recipe, tensors))
    assert only_moves(recipe)


@settings(max_examples=100, deadline=None)
@given(moved())
def test_inverse_restores_every_element_that_was_kept(case: tuple[Recipe, dict[str, Array]]) -> None:
    recipe, tensors = case
    result = run(recipe, tensors)
    pairs = element_indices(recipe, dict.fromkeys(tensors, (2, 3, 4)))
    for name, (in_source, in_result) in pairs.items():
        np.testing.assert_array_equal(tensors[name].reshape(-1)[in_source], result.reshape(-1)[in_result])
    assert sum(len(in_result) for _, in_result in pairs.values()) == result.size


@settings(max_examples=200, deadline=None)
@given(data=st.data(), shape=st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_simplified_chain_is_the_same_tensor(data: st.DataObject, shape: list[int]) -> None:
    tensors = {"w": np.arange(int(np.prod(shape))).reshape(shape)}
    recipe: Recipe = Source("w")
    for _ in range(data.draw(st.integers(0, 5))):
        array = run(recipe, tensors)
        if data.draw(st.booleans()):
            recipe = Step(
                "transpose", (recipe,), (("perm", tuple(data.draw(st.permutations(range(array.ndim))))),)
            )
        else:
            kept = [size for size in array.shape if size != 1]
            for _ in range(data.draw(st.integers(0, 2))):
                kept.insert(data.draw(st.integers(0, len(kept))), 1)
            recipe = Step("reshape", (recipe,), (("shape", tuple(kept)),))
    short = simplify(recipe, {"w": tuple(shape)})
    np.testing.assert_array_equal(run(short, tensors), run(recipe, tensors))
    steps = 0
    inner = short
    while isinstance(inner, Step):
        steps, (inner,) = steps + 1, inner.inputs
    assert steps <= (1 if len(run(recipe, tensors).shape) == len(shape) else 2)


def test_simplify_leaves_what_joins_axes() -> None:
    recipe = step("transpose", step("reshape", Source("k"), shape=(3, 3, 1, 16)), perm=(3, 2, 0, 1))
    assert simplify(recipe, {"k": (3, 3, 8, 2)}) == recipe
    assert simplify(recipe, {}) == recipe


def test_adjacent_transposes_merge_and_identities_vanish() -> None:
    there = step("transpose", Source("w"), perm=(2, 0, 1))
    assert step("transpose", there, perm=(1, 2, 0)) == Source("w")
    assert step("transpose", there, perm=(0, 2, 1)) == step("transpose", Source("w"), perm=(2, 1, 0))
    assert step("reshape", step("reshape", Source("w"), shape=(4, 6)), shape=(24,)) == step(
        "reshape", Source("w"), shape=(24,)
    )


@pytest.mark.parametrize(
    ("op", "attributes", "expected"),
    [
        ("add", {}, 5.0),
        ("sub", {}, -1.0),
        ("mul", {}, 6.0),
        ("div", {}, np.float32(2) / np.float32(3)),
    ],
)
def test_arithmetic(op: str, attributes: dict[str, object], expected: float) -> None:
    recipe = step(op, Source("a"), Literal(3.0, "float32"), **attributes)
    result = run(recipe, {"a": np.asarray(2.0, np.float32)})
    assert result.dtype == np.float32
    assert result == np.float32(expected)
    assert not only_moves(recipe)
    with pytest.raises(ValueError, match="moves"):
        element_indices(recipe, {"a": ()})


def test_casts_know_small_floats() -> None:
    recipe = step("cast", Source("a"), dtype="bfloat16")
    result = run(recipe, {"a": np.asarray([1.001, -2.5], np.float32)})
    assert result.dtype == numpy_dtype("bfloat16")
    assert result.astype(np.float32).tolist() == [1.0, -2.5]


def test_sources_are_listed_in_order() -> None:
    recipe = step(
        "concat", Source("b"), step("neg", Source("a")), Literal([0.0], "float32"), Source("b"), axis=0
    )
    assert list(sources(recipe)) == ["b", "a", "b"]


def test_errors() -> None:
    with pytest.raises(KeyError):
        step("sin", Source("a"))
    with pytest.raises(KeyError, match="missing"):
        run(Source("missing"), {})
    for record in ([], {"op": "exec", "of": []}, "x", None):
        with pytest.raises(ValueError, match="recipe"):
            from_json(record)
    assert is_move("transpose")
    assert not is_move("add")
