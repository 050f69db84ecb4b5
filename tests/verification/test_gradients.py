from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from networks import CORRESPONDENCE, LOADER, SAME, network_map, sides

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.distances import relative_error
from bridge.verification.gradients import (
    GradientsResult,
    TensorGradient,
    check_gradients,
    compare_weight_gradients,
)
from bridge.worker.side import Side
from tests.worker.network import initial_weights

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)


def check(
    source: dict[str, Any],
    target: dict[str, Any],
    weights: WeightMap | None = None,
    *,
    complete: bool = True,
) -> GradientsResult:
    with sides(source, target) as (ours, theirs):
        return check_gradients(
            ours,
            theirs,
            feeds={"x": X},
            correspondence=CORRESPONDENCE,
            outputs=[np.zeros((5, 3), np.float32)],
            weights=weights or network_map(),
            source_weights=initial_weights(),
            complete=complete,
        )


def different(result: GradientsResult) -> list[str]:
    return [each.name for each in result.tensors if each.verdict == "different"]


def test_equal_networks_have_equal_gradients() -> None:
    result = check({}, {})
    assert result.passed, result.reasons
    assert {each.kind for each in result.tensors} == {"input", "weight"}
    assert len(result.tensors) == 7
    assert all(each.error is not None and each.error < 1e-12 for each in result.tensors)
    assert json.loads(json.dumps(result.to_json()))["passed"] is True


@pytest.mark.parametrize("fault", ["frozen", "detached"])
def test_a_weight_without_a_gradient_is_found_on_either_side(fault: str) -> None:
    missing = check({}, {fault: ["norm.gamma"]})
    assert different(missing) == ["norm.gamma"]
    assert "the target has none" in missing.reasons[0]
    extra = check({fault: ["first.bias"]}, {})
    assert different(extra) == ["first.bias"]
    assert "the source has none" in extra.reasons[0]
    assert check({fault: ["first.bias"]}, {fault: ["first.bias"]}).passed


def test_a_detached_input_is_found() -> None:
    assert different(check({}, {"detached_input": True})) == ["x"]


@pytest.mark.parametrize("operator", ["aten.tanh.default", None])
def test_a_source_whose_own_gradient_is_wrong_says_nothing_against_the_target(operator: str | None) -> None:
    request: dict[str, Any] = {"wrong_gradient": 1.5}
    result = check(request if operator is None else {**request, "operator": operator}, {})
    assert result.verdict == "could not be checked"
    assert not result.passed
    assert "the source's own gradient of x is not the derivative of its outputs" in result.reasons[0]
    assert result.reasons[0].endswith("the target's is")
    assert [each.name for each in result.tensors if each.verdict == "not comparable"] == ["x"]


def test_a_gradient_that_the_source_stops_on_purpose_is_still_a_difference() -> None:
    result = check({"wrong_gradient": 0.5, "operator": "aten.detach.default"}, {})
    assert different(result) == ["x"]
    assert "the source's own gradient of x" in result.notes[0]


def test_a_target_whose_own_gradient_is_wrong_is_told_so() -> None:
    result = check({}, {"wrong_gradient": 1.5})
    assert different(result) == ["x"]
    assert "the target's own gradient of x is not the derivative" in result.notes[0]
    assert result.notes[0].endswith("the source's is")


def test_another_function_has_other_gradients() -> None:
    result = check({}, {"epsilon": 2e-3})
    assert result.verdict == "different"
    assert "norm.gamma" in different(result)


def test_a_constant_rounded_to_float32_is_no_difference() -> None:
    result = check({}, {"epsilon": float(np.float32(1e-3))})
    assert result.passed
    assert 0 < (result.function_error or 0) < 1e-9


def test_a_map_with_gaps_lists_what_it_cannot_compare() -> None:
    full = network_map()
    gap = WeightMap("a", "b", full.tensors[1:], {})
    partial = check({}, {}, gap, complete=False)
    assert partial.passed
    unknown = {each.name for each in partial.tensors if each.verdict == "not comparable"}
    assert unknown == {"first.kernel", "a/kernel"}
    assert set(different(check({}, {}, gap))) == {"first.kernel", "a/kernel"}


def test_a_buffer_that_the_other_side_trains_is_no_difference_between_models_written_apart() -> None:
    apart = check({"buffers": True}, {"parameters_only": True}, complete=False)
    assert apart.passed, apart.reasons
    listed = {each.name for each in apart.tensors if each.verdict == "not comparable"}
    assert listed == {"norm.mean", "norm.variance"}
    assert set(different(check({"buffers": True}, {"parameters_only": True}))) == listed
    assert set(different(check({}, {"parameters_only": True}, complete=False))) == listed
    assert check({"parameters_only": True}, {"parameters_only": True}, complete=False).passed


def test_a_side_without_gradients_cannot_be_checked() -> None:
    with ExitStack() as stack:
        ours = stack.enter_context(Side(label="source", threads=1, timeout=60))
        theirs = stack.enter_context(Side(label="target", threads=1, timeout=60))
        ours.submit_load(LOADER, {})
        theirs.submit_load("tests.worker.side_models:load", {})
        result = check_gradients(
            ours, theirs, feeds={"x": X}, correspondence=SAME, outputs=[np.zeros((5, 3))],
            weights=None, source_weights={},
        )  # fmt: skip
    assert result.verdict == "could not be checked"
    assert "the target gives no gradients: a model of the tests has no means" in result.notes[0]


RNG = np.random.default_rng(5)


def compared(
    tensors: dict[str, Recipe | None],
    source: dict[str, np.ndarray],
    target: dict[str, np.ndarray],
    weights: dict[str, np.ndarray] | None = None,
    *,
    aliases: dict[str, tuple[str, ...]] | None = None,
    trainable: bool = True,
) -> dict[str, TensorGradient]:
    records = tuple(
        TensorMap(name, (), "float32", "parameter", trainable, recipe) for name, recipe in tensors.items()
    )
    found = compare_weight_gradients(
        WeightMap("a", "b", records, aliases or {}),
        source,
        target,
        weights if weights is not None else {name: np.ones(each.shape) for name, each in source.items()},
        complete=True,
        scale=1.0,
        tolerance=1e-6,
    )
    return {each.name: each for each in found}


def test_slices_of_one_tensor_add_up_to_its_gradient() -> None:
    g = RNG.standard_normal((6, 2))
    q, k = (step("slice", Source("qkv"), axis=0, start=at, stop=at + 3) for at in (0, 3))
    right = compared({"q": q, "k": k}, {"qkv": g}, {"q": g[:3], "k": g[3:]})
    assert right["qkv"].verdict == "equal"
    assert right["qkv"].targets == ("q", "k")
    assert compared({"q": q, "k": k}, {"qkv": g}, {"q": g[:3], "k": g[:3]})["qkv"].verdict == "different"
    assert compared({"q": q, "k": k}, {"qkv": g}, {"q": g[:3]})["qkv"].verdict == "different"


def test_a_sum_of_two_biases_passes_its_gradient_to_both() -> None:
    g = RNG.standard_normal(4)
    bias: dict[str, Recipe | None] = {"bias": step("add", Source("ih"), Source("hh"))}
    right = compared(bias, {"ih": g, "hh": g}, {"bias": g})
    assert [each.verdict for each in right.values()] == ["equal", "equal"]
    assert compared(bias, {"ih": g, "hh": 2 * g}, {"bias": g})["hh"].verdict == "different"


def test_a_tensor_used_twice_gets_the_sum_and_a_tied_one_is_counted_once() -> None:
    a, b = RNG.standard_normal(3), RNG.standard_normal(3)
    both: dict[str, Recipe | None] = {"one": Source("w"), "two": Source("w")}
    assert compared(both, {"w": a + b}, {"one": a, "two": b})["w"].verdict == "equal"
    assert compared(both, {"w": a}, {"one": a, "two": a})["w"].verdict == "equal"


@pytest.mark.parametrize("named", [("w",), ("head",), ("w", "head")])
def test_a_tied_source_tensor_may_be_told_under_any_name(named: tuple[str, ...]) -> None:
    g = RNG.standard_normal(3)
    found = compared(
        {"t": Source("w")}, dict.fromkeys(named, g), {"t": g}, {"w": g}, aliases={"w": ("head",)}
    )
    assert [each.verdict for each in found.values()] == ["equal"]


def test_a_folded_constant_is_listed_and_not_judged() -> None:
    g = RNG.standard_normal(3)
    folded: dict[str, Recipe | None] = {"scale": step("mul", Source("gamma"), Source("factor"))}
    found = compared(folded, {"gamma": g}, {}, {"gamma": g, "factor": g}, trainable=False)
    assert found["gamma"].verdict == "not comparable"
    assert "constants computed from it" in found["gamma"].reason


def test_a_trained_fold_is_compared_and_its_statistics_are_no_gradient() -> None:
    gamma, variance, g = RNG.random(3) + 1, RNG.random(3) + 1, RNG.standard_normal(3)
    folded: dict[str, Recipe | None] = {
        "scale": step("div", Source("gamma"), step("sqrt", Source("variance")))
    }
    weights = {"gamma": gamma, "variance": variance}
    found = compared(folded, {"gamma": g / np.sqrt(variance)}, {"scale": g}, weights)
    assert [(name, each.verdict) for name, each in found.items()] == [("gamma", "equal")]


def test_a_constant_that_only_the_target_trains_is_a_difference() -> None:
    assert compared({"table": None}, {}, {"table": np.ones(3)})["table"].verdict == "different"
    assert compared({"table": None}, {}, {"table": np.zeros(3)}) == {}


def test_rounding_of_a_gradient_that_is_zero_is_no_difference() -> None:
    noise = 1e-17 * RNG.standard_normal(4)
    assert relative_error(noise, -noise, 1.0) < 1e-6
    assert relative_error(np.zeros(4), np.zeros(4), 1.0) == 0
    assert relative_error(np.full(4, 1e-9), np.zeros(4), 1.0) > 1e-6


def test_nan_must_be_in_the_same_places() -> None:
    a = np.array([1.0, np.nan, np.inf])
    assert relative_error(a, a.copy(), 1.0) == 0
    assert relative_error(a, np.array([1.0, 2.0, np.inf]), 1.0) == np.inf
    assert relative_error(a, np.array([1.0, np.nan, -np.inf]), 1.0) == np.inf
