from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.hub import adjoint
from bridge.hub import recipe as recipes
from bridge.hub.recipe import Literal, Recipe, Source, step

TENSORS = {
    "w": np.random.default_rng(0).uniform(0.5, 2, (2, 3)),
    "v": np.random.default_rng(1).uniform(0.5, 2, (2, 3)),
    "s": np.random.default_rng(2).uniform(0.5, 2, (3,)),
}


@st.composite
def square(draw: st.DrawFn, depth: int = 3) -> Recipe:
    """A recipe whose result has the shape (2, 3)."""
    if depth == 0:
        return Source(draw(st.sampled_from(["w", "v"])))
    inner = draw(square(depth - 1))
    return draw(
        st.sampled_from(
            [
                step("flip", inner, axis=1),
                step("neg", step("neg", inner)),
                step("sqrt", step("exp", inner)),
                step("reciprocal", step("exp", inner)),
                step("take", inner, axis=0, indices=[1, 1]),
                step("slice", step("concat", inner, Source("v"), axis=0), axis=0, start=1, stop=4, step=2),
                step("transpose", step("reshape", inner, shape=[3, 2]), perm=[1, 0]),
                step("mul", inner, Source("s")),
                step("div", Source("v"), step("exp", inner)),
                step("sub", inner, step("expand", Source("s"), shape=[2, 3])),
                step("add", inner, step("mul", Source("w"), Literal(0.5, "float32"))),
                step("cast", inner, dtype="float64"),
            ]
        )
    )


@given(square(), st.sampled_from(sorted(TENSORS)))
def test_the_derivative_is_that_of_finite_differences(recipe: Recipe, name: str) -> None:
    rng = np.random.default_rng(3)
    gradient, direction = rng.standard_normal((2, 3)), rng.standard_normal(TENSORS[name].shape)
    found = adjoint.pull_back(recipe, TENSORS, gradient)
    assert set(found) == set(recipes.sources(recipe))
    moved = [
        recipes.run(recipe, {**TENSORS, name: TENSORS[name] + sign * 1e-6 * direction}) for sign in (1, -1)
    ]
    expected = np.sum((moved[0] - moved[1]) * gradient) / 2e-6
    assert np.sum(found.get(name, np.zeros(1)) * direction) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_cast_to_integers_has_no_derivative() -> None:
    with pytest.raises(ValueError, match="int32"):
        adjoint.pull_back(step("cast", Source("w"), dtype="int32"), TENSORS, np.ones((2, 3)))


def test_every_operation_of_recipes_has_a_rule() -> None:
    assert set(adjoint._RULES) == {*recipes._MOVES, *recipes._COMPUTATIONS}
