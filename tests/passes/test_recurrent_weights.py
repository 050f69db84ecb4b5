"""Recipes of the tensors of recurrent layers: the shortest form gives what the long one does."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.hub.recipe import Literal, Recipe, Source, Step, run, step
from bridge.passes.recurrent.weights import shortest

SHAPES = {"a": (4, 6), "b": (4, 6)}
TENSORS = {
    name: np.random.default_rng(seed).normal(size=shape) for seed, (name, shape) in enumerate(SHAPES.items())
}


@st.composite
def moves(draw: st.DrawFn) -> Recipe:
    recipe: Recipe = Source(draw(st.sampled_from(sorted(SHAPES))))
    for _ in range(draw(st.integers(0, 5))):
        rows, columns = run(recipe, TENSORS).shape
        recipe = draw(
            st.sampled_from(
                [
                    step("transpose", recipe, perm=(1, 0)),
                    step("reshape", recipe, shape=(columns, rows)),
                    step("take", recipe, axis=0, indices=tuple(reversed(range(rows)))),
                    step("slice", recipe, axis=0, start=0, stop=max(rows - 1, 1)),
                    step("concat", recipe, recipe, axis=1),
                    step("concat", recipe, Source("a"), axis=0) if columns == 6 else recipe,
                    step("concat", recipe, step("expand", Literal(0.5, "float64"), shape=(rows, 2)), axis=1),
                ]
            )
        )
    return recipe


@settings(max_examples=60, deadline=None)
@given(moves())
def test_the_shortest_form_gives_the_same(recipe: Recipe) -> None:
    found = shortest(recipe, SHAPES)
    assert found is not None
    np.testing.assert_array_equal(run(found, TENSORS), run(recipe, TENSORS))


def test_gates_that_are_reordered_twice_are_as_they_were() -> None:
    split = [step("slice", Source("a"), axis=0, start=i, stop=i + 1) for i in range(4)]
    onnx = step("concat", split[0], split[3], split[1], split[2], axis=0)
    back = step("take", onnx, axis=0, indices=(0, 2, 3, 1))
    assert shortest(back, SHAPES) == Source("a")
    assert shortest(step("transpose", back, perm=(1, 0)), SHAPES) == step(
        "transpose", Source("a"), perm=(1, 0)
    )
    assert isinstance(shortest(onnx, SHAPES), Step)


def test_what_holds_no_trained_tensor_has_no_recipe() -> None:
    joined = step("concat", Source("a"), step("expand", Literal(0.0, "float64"), shape=(2, 6)), axis=0)
    assert shortest(step("slice", joined, axis=0, start=4, stop=6), SHAPES) is None
    assert shortest(step("slice", joined, axis=0, start=0, stop=4), SHAPES) == Source("a")
