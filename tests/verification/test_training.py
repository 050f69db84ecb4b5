from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from networks import CORRESPONDENCE, SAME, network_map, sides

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.training import TrainingResult, check_training
from bridge.verification.weight_pairs import WeightPairs, pair_tensors

RNG = np.random.default_rng(0)
OUTPUT = RNG.standard_normal((6, 3)).astype(np.float32)
BATCHES = [{"x": RNG.standard_normal((6, 4)).astype(np.float32)} for _ in range(20)]


def train(
    source: dict[str, Any], target: dict[str, Any], weights: WeightMap | None, *, complete: bool = True
) -> TrainingResult:
    with sides(source, target) as (ours, theirs):
        return check_training(
            ours,
            theirs,
            batches=BATCHES,
            correspondence=CORRESPONDENCE,
            outputs=[OUTPUT],
            weights=weights,
            complete=complete,
        )


def check(source: dict[str, Any], target: dict[str, Any]) -> TrainingResult:
    return train(source, target, network_map())


def different(result: TrainingResult) -> dict[str, str]:
    return {each.name: each.reason for each in result.tensors if each.verdict == "different"}


def test_equal_networks_train_alike() -> None:
    result = check({}, {})
    assert result.passed, result.reasons
    assert result.steps == len(result.source_losses) == len(result.target_losses) == 20
    assert result.training
    assert result.loss_error is not None
    assert result.loss_error < 1e-12
    assert {each.kind for each in result.tensors} == {"parameter", "statistic"}
    tensors = {each.name for each in result.tensors}
    assert tensors - {"a/bias"} == {each.target for each in network_map().tensors} - {"a/bias"}
    losses = np.array(result.source_losses)
    assert 1e-3 < np.ptp(losses) / losses[0] < 10
    assert json.loads(json.dumps(result.to_json()))["passed"] is True


@pytest.mark.parametrize(("source", "target"), [(True, False), (False, True)])
def test_the_unbiased_variance_is_a_convention(source: bool, target: bool) -> None:
    result = check({"unbiased": source}, {"unbiased": target})
    assert result.passed, result.reasons
    (convention,) = result.conventions
    which = "source" if source else "target"
    assert f"n/variance: the {which} divides the variance by n - 1" in convention
    assert convention.endswith("n = 6")


def test_another_momentum_is_no_convention() -> None:
    assert set(different(check({}, {"momentum": 0.99}))) == {"n/mean", "n/variance"}
    found = different(check({"unbiased": True}, {"momentum": 0.89}))
    assert "(momentum)" in found["n/variance"]


def test_stale_statistics_are_found() -> None:
    found = different(check({}, {"stale": True}))
    assert set(found) == {"n/mean", "n/variance"}
    assert "the target does not" in found["n/mean"]
    assert "the source does not" in different(check({"stale": True}, {}))["n/mean"]


@pytest.mark.parametrize("fault", ["frozen", "detached"])
def test_a_weight_that_one_side_does_not_train_is_found(fault: str) -> None:
    result = check({}, {fault: ["norm.beta"]})
    assert "the target does not" in different(result)["n/beta"]
    assert "losses" in result.reasons[0]
    assert "the source does not" in different(check({fault: ["norm.gamma"]}, {}))["n/gamma"]
    assert check({fault: ["norm.beta"]}, {fault: ["norm.beta"]}).passed


def test_a_bias_whose_gradient_is_zero_is_no_difference_in_training() -> None:
    """Before BatchNormalization; that it is frozen shows in its gradient in inference mode."""
    assert check({}, {"frozen": ["first.bias"]}).passed


def test_another_function_trains_otherwise() -> None:
    result = check({}, {"epsilon": 1.1e-3})
    assert result.verdict == "different"
    assert check({}, {"epsilon": float(np.float32(1e-3))}).passed


def test_what_rounding_alone_carries_apart_is_no_difference() -> None:
    """A channel that hardly varies, normalized with hardly an epsilon: rounding becomes its values."""
    unstable: dict[str, Any] = {"thin": 1e-10, "epsilon": 1e-30}
    result = check(unstable, {**unstable, "reordered": True})
    assert result.verdict != "different", result.reasons
    assert result.loss_tolerance > 1e-8
    assert check(unstable, {**unstable, "frozen": ["first.kernel"]}).verdict == "different"
    assert check({}, {"reordered": True}).judged_steps == 20


def test_an_inference_graph_is_trained_in_inference_mode() -> None:
    result = check({}, {"inference": True})
    assert result.passed, result.reasons
    assert not result.training
    assert any("inference graph only" in each for each in result.notes)


def test_without_a_map_only_equal_losses_say_something() -> None:
    assert train({}, {}, None).passed
    unlike = train({}, {"epsilon": 2e-3}, None)
    assert unlike.verdict == "could not be checked"
    assert "which weight is which" in unlike.reasons[0]


def test_what_a_map_with_gaps_leaves_out_is_not_trained() -> None:
    gap = WeightMap("a", "b", network_map().tensors[1:], {})
    result = train({}, {}, gap, complete=False)
    assert result.passed, result.reasons
    assert result.fixed == ("first.kernel",)
    assert "a/kernel" not in {each.name for each in result.tensors}


@pytest.mark.parametrize("which", [0, 1])
def test_a_buffer_that_the_other_side_trains_is_left_as_it_is(which: int) -> None:
    apart: list[dict[str, Any]] = [{"buffers": True, "inference": True}, {"parameters_only": True}]
    result = train(apart[which], apart[1 - which], network_map(), complete=False)
    assert result.passed, result.reasons
    assert not result.training
    assert check(apart[which], apart[1 - which]).verdict == "different"


def test_a_side_that_cannot_train_cannot_be_checked() -> None:
    with sides({}, {}) as (ours, _), sides({}, {}) as (_, theirs):
        theirs.result(theirs.submit_load("tests.worker.side_models:load", {}))
        result = check_training(
            ours,
            theirs,
            batches=BATCHES,
            correspondence=SAME,
            outputs=[np.ones((6, 3))],
            weights=None,
        )
    assert result.verdict == "could not be checked"
    assert "the target cannot be trained" in result.reasons[0]


def pairs(**tensors: Recipe | None) -> WeightPairs:
    records = tuple(TensorMap(n, (), "float32", "parameter", True, each) for n, each in tensors.items())
    return pair_tensors(WeightMap("a", "b", records, {}))


def test_what_one_side_computes_is_left_as_it_is_with_all_that_hangs_on_it() -> None:
    found = pairs(
        bias=step("add", Source("ih"), Source("hh")),
        copy=Source("ih"),
        kernel=step("transpose", Source("w"), perm=[1, 0]),
        table=None,
    )
    assert set(found.recipes) == {"kernel"}
    assert found.fixed == {"ih", "hh"}
    assert found.fixed_target == {"bias", "copy"}


def test_parts_of_one_tensor_train_alike_and_copies_do_not() -> None:
    parts = pairs(
        q=step("slice", Source("qkv"), axis=0, start=0, stop=3),
        k=step("slice", Source("qkv"), axis=0, start=3, stop=6),
    )
    assert set(parts.recipes) == {"q", "k"}
    assert pairs(one=Source("w"), two=Source("w")).fixed_target == {"one", "two"}
