from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.verification.fitting import common_sizes, other_layout, settle_layouts, unknown_layouts
from bridge.verification.inputs import draw
from bridge.verification.layouts import array_layout, first_to_last, inverse, last_to_first
from bridge.verification.mapping import Mapped, parse_map
from bridge.verification.pairing import (
    Correspondence,
    PairedInput,
    PairedOutput,
    correspond_inputs,
    correspond_outputs,
)
from bridge.verification.spellings import output_order, pair
from bridge.worker.side import Description, TensorSpec


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (["a", "b"], ["b", "a"], ["a", "b"]),
        (["x:0", "Y:0"], ["y", "x"], ["x", "y"]),
        (["encoder/x", "lambda"], ["lambda_", "encoder_x"], ["encoder_x", "lambda_"]),
        (["left", "right"], ["args_0", "args_1"], ["args_0", "args_1"]),
        (["a", "A"], ["p", "q"], ["p", "q"]),
        ([], [], []),
    ],
)
def test_names_decide_where_all_of_them_fit(ours: list[str], theirs: list[str], expected: list[str]) -> None:
    assert pair(ours, theirs) == dict(zip(ours, expected, strict=True))


def test_output_order() -> None:
    assert output_order(["b", "a"], ["a", "b"], 2) == [1, 0]
    assert output_order(None, ["a", "b"], 2) == [0, 1]
    assert output_order(["a", "a"], ["x", "y"], 2) == [0, 1]
    assert output_order(["out", "state"], ["output_1", "output_0"], 2) == [0, 1]


def spec(name: str, dtype: str | None, *shape: int | str | None, optional: bool = False) -> TensorSpec:
    return TensorSpec(name, dtype, shape, optional=optional)


def matched(source: list[TensorSpec], target: list[TensorSpec], **options: Any) -> dict[str, str]:
    found = correspond_inputs(source, target, **options)
    assert found.mismatch is None
    return {name: paired.target for name, paired in found.inputs.items()}


IDS = spec("input_ids", "int64", None, None)
MASK = spec("attention_mask", "float32", None, None)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        # Names in any spelling, in any order.
        (
            [IDS, MASK],
            [spec("attention_mask", "float32", None, None), spec("input_ids", "int32", None, 8)],
            [1, 0],
        ),
        # Types and shapes where names have nothing in common.
        ([IDS, MASK], [spec("args_0", "float32", None, None), spec("args_1", "int32", None, None)], [1, 0]),
        # A name that both sides know, and what remains.
        (
            [spec("query", "float32", None, 8), spec("memory", "float32", None, 8)],
            [spec("memory", "float32", None, 8), spec("x", "float32", None, 8)],
            [1, 0],
        ),
        # Numbers of an automatic naming are no names.
        (
            [spec("input_2", "float32", None, 8), spec("input_3", "float32", None, 8)],
            [spec("input_1", "float32", None, 8), spec("input_2", "float32", None, 8)],
            [0, 1],
        ),
        # Equal names of tensors that cannot be the same.
        (
            [spec("x", "float32", None, 8), spec("y", "int64", None)],
            [spec("x", "int64", None), spec("y", "float32", None, 8)],
            [1, 0],
        ),
        # Sorted by name, 10 comes before 2.
        (
            [spec(f"in{i}", "float32", None, 8) for i in "abcdefghijkl"],
            [spec(name, "float32", None, 8) for name in sorted(f"args_{i}" for i in range(12))],
            [0, 1, 4, 5, 6, 7, 8, 9, 10, 11, 2, 3],
        ),
    ],
)
def test_inputs_are_matched(source: list[TensorSpec], target: list[TensorSpec], expected: list[int]) -> None:
    assert matched(source, target) == {
        each.name: target[position].name for each, position in zip(source, expected, strict=True)
    }


def test_positions_of_sorted_names_are_uncertain() -> None:
    source = [spec("image", "float32", None, 8), spec("style", "float32", None, 8)]
    target = [spec("a", "float32", None, 8), spec("b", "float32", None, 8)]
    assert correspond_inputs(source, target).uncertain == ()
    (sentence,) = correspond_inputs(source, target, target_sorted=True).uncertain
    assert "image=a" in sentence
    assert "--map-inputs" in sentence
    numbered = [spec("args_0", "float32", None, 8), spec("args_1", "float32", None, 8)]
    assert correspond_inputs(source, numbered, target_sorted=True).uncertain == ()


def test_optional_inputs_may_be_left_out() -> None:
    source = [spec("x", "float32", None, 8)]
    target = [spec("inputs", "float32", None, 8), spec("mask", "bool", None, 8, optional=True)]
    assert matched(source, target) == {"x": "inputs"}
    assert matched([spec("mask", "bool", None, 8), *source], target) == {"x": "inputs", "mask": "mask"}
    needed = [spec("inputs", "float32", None, 8), spec("mask", "bool", None, 8)]
    found = correspond_inputs(source, needed)
    assert found.mismatch == "the source has 1 inputs, the target 2"


@pytest.mark.parametrize(
    ("source", "target", "permutation"),
    [
        ((None, 3, 32, 32), (None, 32, 32, 3), (0, 2, 3, 1)),
        ((None, 32, 32, 3), (None, 3, 32, 32), (0, 3, 1, 2)),
        ((None, 3, "H", "W"), (None, None, None, 3), (0, 2, 3, 1)),
        ((None, 3, None, None), (None, None, None, None), None),
        ((None, 3, 3, 3), (None, 3, 3, 3), None),
        ((None, 16, 50), (None, 50, 16), (0, 2, 1)),
        ((None, None, 16), (None, None, 16), None),
        ((None, 16, None), (None, None, 16), (0, 2, 1)),
        ((2, 3, 4, 8, 8), (None, 4, 8, 8, 3), (0, 2, 3, 4, 1)),
        ((3, 32, 48), (32, 48, 3), (1, 2, 0)),
        ((None, 8), (None, 7), None),
        ((None, 3, 8, 8), (None, 8, 9, 3), None),
        (None, (None, 8, 8, 3), None),
    ],
)
def test_fixed_sizes_tell_the_layout(source: Any, target: Any, permutation: Any) -> None:
    found = correspond_inputs([TensorSpec("x", "float32", source)], [TensorSpec("y", "float32", target)])
    assert found.inputs["x"] == PairedInput("y", permutation)
    assert bool(found.notes) == (permutation is not None)
    converted = correspond_inputs(
        [TensorSpec("x", "float32", source)], [TensorSpec("x", "float32", target)], converted=True
    )
    assert converted.inputs["x"] == PairedInput("x")


def test_arrays_are_fed_as_the_target_takes_them() -> None:
    source = [spec("image", "float32", None, 3, 4, 5), spec("ids", "int64", None)]
    target = [spec("inputs", "float32", None, 4, 5, 3), spec("tokens", "int32", None)]
    found = correspond_inputs(source, target)
    image = np.arange(60, dtype=np.float32).reshape(1, 3, 4, 5)
    feeds = found.feeds({"image": image, "ids": np.array([5], np.int64)})
    assert np.array_equal(feeds["inputs"], image.transpose(0, 2, 3, 1))
    assert feeds["tokens"].dtype == np.int32
    assert found.renames()
    assert not correspond_inputs(source, source).renames()
    with pytest.raises(InputError, match="'ids'"):
        found.feeds({"image": image, "ids": np.array([2**40], np.int64)})
    gradients = found.source_gradients({"inputs": feeds["inputs"]})
    assert np.array_equal(gradients["image"], image)


def outputs(*shapes: tuple[int, ...], dtype: str = "float32") -> list[Any]:
    generator = np.random.default_rng(0)
    return [(generator.standard_normal(shape) * 9).astype(dtype) for shape in shapes]


NOTHING = Correspondence({})
TURNED = Correspondence({"x": PairedInput("x", (0, 2, 3, 1))})


def test_outputs_go_by_position_even_where_shapes_say_otherwise() -> None:
    source = outputs((2, 4), (2, 5))
    found = correspond_outputs(
        NOTHING, ["output_0", "output_1"], ["output_0", "output_1"], source, source[::-1]
    )
    assert found.outputs == (PairedOutput(0, 0), PairedOutput(1, 1))
    found = correspond_outputs(NOTHING, None, ["a", "b"], source, source[::-1])
    assert found.outputs == (PairedOutput(0, 0), PairedOutput(1, 1))


def test_outputs_that_are_sorted_by_name_go_by_shape_then_by_value() -> None:
    names = ["output_0", "output_1", "output_2"]
    source = outputs((2, 4), (2, 5), (2, 4))
    target = [source[1], source[2], source[0] * np.float32(1 + 1e-5)]
    found = correspond_outputs(NOTHING, names, ["a", "b", "c"], source, target, target_sorted=True)
    assert [each.target for each in found.outputs or ()] == [2, 0, 1]
    assert any("by value" in note for note in found.notes)
    assert not found.uncertain
    target = outputs((2, 5), (2, 4), (2, 4))
    found = correspond_outputs(NOTHING, names, ["a", "b", "c"], source, target, target_sorted=True)
    assert [each.target for each in found.outputs or ()] == [1, 0, 2]
    assert found.uncertain
    swapped = [source[2], source[1], source[0]]
    found = correspond_outputs(NOTHING, names, names, source, swapped, target_sorted=True)
    assert [each.target for each in found.outputs or ()] == [0, 1, 2]


def test_named_outputs_go_by_name() -> None:
    source = outputs((2, 4), (2, 4), (2, 4))
    found = correspond_outputs(
        NOTHING, ["logits", "hidden", "pooled"], ["features", "hidden", "logits"], source, source
    )
    assert [each.target for each in found.outputs or ()] == [2, 1, 0]


def test_outputs_are_turned_only_where_shapes_differ() -> None:
    source = outputs((2, 16, 8, 8))
    found = correspond_outputs(TURNED, None, None, source, [source[0].transpose(0, 2, 3, 1)])
    assert found.outputs == (PairedOutput(0, 0, (0, 3, 1, 2)),)
    assert np.array_equal(found.arranged([source[0].transpose(0, 2, 3, 1)], source)[0], source[0])
    (back,) = found.target_cotangents([source[0]], 1)
    assert back is not None
    assert back.shape == (2, 8, 8, 16)
    found = correspond_outputs(TURNED, None, None, source, [source[0].transpose(0, 2, 3, 1)], converted=True)
    assert found.outputs == (PairedOutput(0, 0),)
    square = outputs((2, 8, 8, 8))
    found = correspond_outputs(TURNED, None, None, square, square)
    assert found.outputs == (PairedOutput(0, 0),)
    assert found.uncertain
    assert not correspond_outputs(NOTHING, None, None, square, square).uncertain
    assert not correspond_outputs(TURNED, None, None, outputs((2, 8)), outputs((2, 8))).uncertain


def test_integers_of_another_width_are_compared_by_value() -> None:
    source, target = outputs((4,), dtype="int64"), outputs((4,), dtype="int32")
    found = correspond_outputs(NOTHING, None, None, source, target)
    assert found.arranged(target, source)[0].dtype == np.int64
    assert any("int32" in note for note in found.notes)
    unfit = [np.array([2**40] * 4)]
    assert found.arranged(unfit, target)[0].dtype == np.int64
    strict = correspond_outputs(replace(NOTHING, strict=True), None, None, source, target)
    assert strict.arranged(target, source)[0].dtype == np.int32
    assert found.arranged([np.ones(4, bool)], source)[0].dtype == bool


def test_numbers_of_outputs_must_agree_unless_the_user_chooses() -> None:
    source, target = outputs((2, 4), (2, 5)), outputs((2, 5))
    found = correspond_outputs(NOTHING, ["a", "b"], ["c"], source, target)
    assert found.mismatch == "the source has 2 outputs, the target 1"
    found = correspond_outputs(NOTHING, ["a", "b"], ["c"], source, target, given=parse_map("b=c"))
    assert found.mismatch is None
    assert found.outputs == (PairedOutput(1, 0),)
    assert found.source_outputs(source)[0] is source[1]
    assert any("not compared: the outputs a" in note for note in found.notes)
    assert found.target_cotangents([target[0]], 1)[0] is target[0]


def test_the_users_word_comes_first() -> None:
    source = [spec("image", "float32", None, 4, 4, 4), spec("y", "float32", None, 4, 4, 4)]
    target = [spec("image", "float32", None, 4, 4, 4), spec("z", "float32", None, 4, 4, 4)]
    given = parse_map("image = z:0231, #1=#0")
    found = correspond_inputs(source, target, given=given)
    assert found.inputs == {"image": PairedInput("z", (0, 2, 3, 1)), "y": PairedInput("image")}
    kept = [spec("x", "float32", None, 8, 4, 4)], [spec("x", "float32", None, 4, 4, 8)]
    assert correspond_inputs(*kept).inputs["x"].permutation == (0, 2, 3, 1)
    forced = correspond_inputs(*kept, given=parse_map("x=x:0321")).inputs["x"]
    assert forced.permutation == (0, 3, 2, 1)
    outs = outputs((2, 4, 4, 4), (2, 3))
    result = correspond_outputs(NOTHING, None, ["a", "b"], outs, outs, given=parse_map("#0=a:0312"))
    assert result.outputs == (PairedOutput(0, 0, (0, 3, 1, 2)), PairedOutput(1, 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", "'x' does not say"),
        ("a=b,", "'' does not say"),
        ("a=b=c", "does not say"),
        ("a=b:0230", "does not name every axis"),
        ("q=x", "the source has no input 'q'"),
        ("x=q", "the target has no input 'q'"),
        ("#7=x", "the source has no input '#7'"),
        ("x=x,y=x", "'x' is mapped twice"),
        ("x=x:01", "which has 3 axes"),
    ],
)
def test_wrong_mappings_are_refused(text: str, message: str) -> None:
    specs = [spec("x", "float32", None, 4, 4), spec("y", "float32", None, 4, 4)]
    with pytest.raises(InputError, match=message):
        correspond_inputs(specs, specs, given=parse_map(text))


def test_a_name_may_hold_a_colon() -> None:
    assert parse_map("a:0=b:0") == (Mapped("a:0", "b:0"),)
    assert parse_map("a:0=b:0:10") == (Mapped("a:0", "b:0", (1, 0)),)


def test_the_target_fixes_sizes_in_its_own_layout() -> None:
    source = [TensorSpec("x", "float32", (None, 3, None, None)), TensorSpec("ids", None, None)]
    target = Description(
        (TensorSpec("y", "float32", (None, 32, 48, 3)), TensorSpec("t", "int32", (None, 5), limit=9)),
        None,
        "",
        (),
    )
    found = correspond_inputs(source, target.inputs)
    fitted, notes = common_sizes(source, target, found)
    assert [each.shape for each in fitted] == [(None, 3, 32, 48), (None, 5)]
    assert (fitted[1].dtype, fitted[1].limit) == ("int32", 9)
    assert len(notes) == 1


def test_a_layout_that_only_trying_tells() -> None:
    target = [TensorSpec("y", "float32", (None, 32, 32, 3))]
    source = [TensorSpec("x", "float32", None)]
    found = correspond_inputs(source, target)
    assert unknown_layouts(source, target, found) == ["x"]
    specs, turned = other_layout(source, target, found, "x")
    assert specs[0].shape == (None, 3, 32, 32)
    assert turned.inputs["x"].permutation == (0, 2, 3, 1)
    assert turned.notes
    found = correspond_inputs(target, source)
    assert unknown_layouts(target, source, found) == ["y"]
    specs, turned = other_layout(target, source, found, "y")
    assert specs[0].shape == (None, 32, 32, 3)
    assert turned.inputs["y"].permutation == (0, 3, 1, 2)
    assert unknown_layouts(target, target, correspond_inputs(target, target)) == []


@pytest.mark.parametrize("channels_first", [True, False])
def test_layouts_are_settled_by_trying(channels_first: bool) -> None:
    known = TensorSpec("y", "float32", (None, 8, 9, 3))
    unknown = TensorSpec("x", None, None)
    for source, target in ((unknown, known), (known, unknown)):
        asked: list[str] = []

        def tries(side: str, plans: Any, found: Correspondence, name: str, asked: list[str] = asked) -> bool:
            arrays = draw(plans, seed=0, index=0, rule="typical", batch=2).arrays
            image = next(iter((arrays if side == "source" else found.feeds(arrays)).values()))
            asked.append(side)
            return image.shape == ((2, 3, 8, 9) if channels_first else (2, 8, 9, 3))

        description = Description((target,), None, "", ())
        specs, found = settle_layouts([source], description, correspond_inputs([source], [target]), tries)
        (paired,) = found.inputs.values()
        fitted = common_sizes(specs, description, found)[0][0].shape
        assert set(asked) == {"source" if source is unknown else "target"}
        assert (paired.permutation is None) == (not channels_first)
        assert fitted == ((None, 3, 8, 9) if channels_first and source is unknown else (None, 8, 9, 3))


_shapes = st.lists(st.one_of(st.none(), st.integers(1, 4)), max_size=5).map(tuple)
_tensors = st.lists(
    st.builds(
        TensorSpec, st.text("ab_10", min_size=1, max_size=4), st.sampled_from(["float32", "int64"]), _shapes
    ),
    max_size=5,
    unique_by=lambda each: each.name,
)


@given(_tensors, _tensors, st.booleans())
def test_every_input_gets_one_partner_or_there_is_a_mismatch(
    source: list[TensorSpec], target: list[TensorSpec], sorted_names: bool
) -> None:
    found = correspond_inputs(source, target, target_sorted=sorted_names)
    assert (found.mismatch is None) == (len(source) == len(target))
    if found.mismatch is None:
        assert set(found.inputs) == {each.name for each in source}
        assert {each.target for each in found.inputs.values()} == {each.name for each in target}


@given(_tensors, st.randoms(use_true_random=False))
def test_a_model_matches_itself_in_any_order(specs: list[TensorSpec], random: Any) -> None:
    shuffled = list(specs)
    random.shuffle(shuffled)
    found = correspond_inputs(specs, shuffled)
    assert {name: paired.target for name, paired in found.inputs.items()} == {
        each.name: each.name for each in specs
    }
    assert all(each.permutation is None for each in found.inputs.values())


@given(st.lists(st.integers(1, 4), min_size=3, max_size=5), st.data())
def test_a_layout_that_is_found_is_undone_by_its_inverse(shape: list[int], data: Any) -> None:
    permutation = data.draw(st.sampled_from([first_to_last(len(shape)), last_to_first(len(shape))]))
    array = np.arange(np.prod(shape)).reshape(shape)
    moved = array.transpose(permutation)
    found, either = array_layout(shape, moved.shape)
    if found is not None:
        assert moved.transpose(found).shape == array.shape
        assert np.array_equal(moved.transpose(found).transpose(inverse(found) or ()), moved)
    else:
        assert tuple(shape) == moved.shape
        assert either or max(shape[1:]) == 1
