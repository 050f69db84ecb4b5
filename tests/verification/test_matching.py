from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.hub import recipe
from bridge.verification.matching import ValueMatch, match_by_value

RNG = np.random.default_rng(0)


def values(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


SOURCE = {
    "conv.weight": values(8, 3, 3, 3),
    "conv.bias": np.zeros(8, np.float32),
    "bn.weight": np.ones(8, np.float32),
    "bn.bias": np.zeros(8, np.float32),
    "bn.running_mean": values(8),
    "bn.running_var": values(8) ** 2,
    "bn.num_batches_tracked": np.array(7),
    "fc.weight": values(8, 8),
    "fc.bias": values(8),
}


def written_by_hand() -> dict[str, np.ndarray]:
    """The same weights as another framework names and stores them."""
    return {
        "stem/kernel": SOURCE["conv.weight"].transpose(2, 3, 1, 0).copy(),
        "stem/bias": SOURCE["conv.bias"].copy(),
        "norm/gamma": SOURCE["bn.weight"].copy(),
        "norm/beta": SOURCE["bn.bias"].copy(),
        "norm/moving_mean": SOURCE["bn.running_mean"].copy(),
        "norm/moving_variance": SOURCE["bn.running_var"].copy(),
        "head/kernel": SOURCE["fc.weight"].T.copy(),
        "head/bias": SOURCE["fc.bias"].copy(),
    }


def assert_right(match: ValueMatch, source: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> None:
    for name, array in match.weight_map.apply(source).items():
        assert np.array_equal(array, target[name]), name


def sources_of(match: ValueMatch) -> dict[str, str]:
    tensors = match.weight_map.tensors
    return {each.target: next(recipe.sources(each.recipe)) for each in tensors if each.recipe}


def test_all_is_matched_and_equal_constants_by_their_layer() -> None:
    target = written_by_hand()
    match = match_by_value(SOURCE, target)
    assert sources_of(match) == {
        "stem/kernel": "conv.weight", "stem/bias": "conv.bias", "norm/gamma": "bn.weight",
        "norm/beta": "bn.bias", "norm/moving_mean": "bn.running_mean",
        "norm/moving_variance": "bn.running_var", "head/kernel": "fc.weight", "head/bias": "fc.bias",
    }  # fmt: skip
    assert_right(match, SOURCE, target)
    assert match.passed
    assert not match.suspects
    assert match.unmatched_source == ("bn.num_batches_tracked",)
    assert match.unmatched_target == match.ambiguous == match.rearranged == ()
    assert match.elements == sum(each.size for each in target.values())


def test_constants_that_nothing_tells_apart_are_left_out() -> None:
    source = {f"bn{each}.weight": np.ones(4, np.float32) for each in range(3)}
    match = match_by_value(source, {f"norm{each}/gamma": np.ones(4, np.float32) for each in "abc"})
    assert match.matched == 0
    assert len(match.ambiguous) == 3
    assert match.unmatched_source == match.unmatched_target == ()
    named = match_by_value(source, {f"bn{each}/gamma": np.ones(4, np.float32) for each in range(3)})
    assert sources_of(named) == {f"bn{each}/gamma": f"bn{each}.weight" for each in range(3)}


def test_a_square_constant_has_no_known_order_of_axes() -> None:
    square = {"a.weight": np.zeros((3, 3), np.float32)}
    assert match_by_value(square, {"a/kernel": np.zeros((3, 3), np.float32)}).ambiguous == ("a/kernel",)


def test_gates_and_flattened_channels_in_another_order() -> None:
    gates, dense = values(8, 3), values(5, 12)
    order = [4, 5, 0, 1, 2, 3, 6, 7]
    target = {
        "cell/kernel": gates[order].T.copy(),
        "head/kernel": dense.reshape(5, 3, 2, 2).transpose(2, 3, 1, 0).reshape(12, 5).copy(),
    }
    source = {"gru.weight": gates, "fc.weight": dense}
    match = match_by_value(source, target)
    assert match.rearranged == ("cell/kernel", "head/kernel")
    assert_right(match, source, target)


def test_tied_tensors_are_one_under_several_names() -> None:
    table = values(7, 4)
    match = match_by_value({"wte.weight": table, "head.weight": table.copy()}, {"emb/table": table.copy()})
    assert match.weight_map.aliases == {"wte.weight": ("head.weight",)}
    assert match.unmatched_source == ()


def test_a_number_that_only_one_tensor_holds_needs_no_name() -> None:
    source = {"logit_scale": np.array(2.5, np.float32), "a.alpha": np.array([0.25], np.float32)}
    target = {"temperature": np.array([2.5], np.float32), "prelu/slope": np.array([[0.25]], np.float32)}
    match = match_by_value(source, target)
    assert match.matched == 2
    assert_right(match, source, target)


def test_axes_of_size_one_come_and_go() -> None:
    source, target = {"w": values(6, 4, 1)}, {}
    target["k"] = source["w"].transpose(2, 1, 0).reshape(1, 1, 4, 6).copy()
    match = match_by_value(source, target)
    assert match.matched == 1
    assert_right(match, source, target)


def test_one_changed_element_is_a_difference() -> None:
    target = written_by_hand()
    target["stem/kernel"][1, 1, 0, 3] += 1
    match = match_by_value(SOURCE, target)
    assert [each.target for each in match.differences] == ["stem/kernel"]
    assert match.differences[0].reason == "it differs from 'conv.weight' in 1 of 216 elements"
    small = written_by_hand()
    small["head/bias"][2] *= np.float32(1.0001)
    assert [each.target for each in match_by_value(SOURCE, small).differences] == ["head/bias"]


@pytest.mark.parametrize("narrow", [np.float16, ml_dtypes.bfloat16])
def test_a_tensor_rounded_to_half_precision_is_a_difference(narrow: type) -> None:
    target = written_by_hand()
    target["head/kernel"] = target["head/kernel"].astype(narrow).astype(np.float32)
    match = match_by_value(SOURCE, target)
    reason = f"it equals 'fc.weight' rounded to {np.dtype(narrow).name}"
    assert [each.reason for each in match.differences] == [reason]


def test_a_scaled_tensor_is_a_difference_where_everything_else_is_accounted_for() -> None:
    target = written_by_hand()
    target["head/kernel"] = target["head/kernel"] * np.float32(1.0001)
    (difference,) = match_by_value(SOURCE, target).differences
    assert difference.reason == "it is near 'fc.weight', every element within 0.0001"


def test_a_folded_normalization_is_no_difference() -> None:
    source = dict(SOURCE, **{"bn.running_var": np.ones(8, np.float32)})
    scale = (1 / np.sqrt(1 + 1e-5)) * np.ones(8)
    kernel = (SOURCE["conv.weight"].transpose(2, 3, 1, 0) * scale).astype(np.float32)
    bias = (-SOURCE["bn.running_mean"] * scale).astype(np.float32)
    head = {name: array for name, array in written_by_hand().items() if name.startswith("head")}
    match = match_by_value(source, {"stem/kernel": kernel, "stem/bias": bias, **head})
    assert match.passed
    assert "stem/kernel" in {each.target for each in match.suspects}


def test_an_added_epsilon_is_no_difference() -> None:
    target = written_by_hand()
    source = dict(SOURCE, **{"bn.running_var": np.linspace(2, 5, 8, dtype=np.float32)})
    target["norm/moving_variance"] = source["bn.running_var"] + np.float32(1e-3)
    match = match_by_value(source, target)
    assert match.passed
    assert [each.target for each in match.suspects] == ["norm/moving_variance"]


def test_a_sum_of_two_biases_is_matched_in_any_order_of_its_gates() -> None:
    source = {"lstm.bias_ih": values(8), "lstm.bias_hh": values(8), "other": values(8)}
    summed = source["lstm.bias_ih"] + source["lstm.bias_hh"]
    target = {"lstm/bias": summed[[2, 3, 0, 1, 4, 5, 6, 7]].copy()}
    match = match_by_value(source, target)
    assert match.matched == 1
    assert_right(match, source, target)
    assert match.unmatched_source == ("other",)
    assert match.weight_map.tensors[0].recipe_kind == "lossy"


def test_what_is_computed_otherwise_is_unmatched_and_no_difference() -> None:
    source = {"a.bias": values(8), "b.bias": values(8)}
    match = match_by_value(source, {"bias": source["a.bias"] * source["b.bias"]})
    assert match.passed
    assert match.unmatched_target == ("bias",)
    assert len(match.unmatched_source) == 2


def test_other_weights_are_neither_matched_nor_suspects() -> None:
    match = match_by_value({"a.weight": values(4, 4)}, {"a/kernel": values(4, 4)})
    assert (match.matched, match.suspects, match.unmatched_target) == (0, (), ("a/kernel",))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 4), max_size=4), st.data())
def test_any_order_of_axes_is_found(shape: list[int], data: st.DataObject) -> None:
    array = np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)
    order = data.draw(st.permutations(range(len(shape))))
    target = {"t": np.transpose(array, order).copy()}
    match = match_by_value({"layer.s": array}, target)
    if array.size > 1:
        assert match.matched == 1
    assert_right(match, {"layer.s": array}, target)
