from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge.verification.fitting import vocabularies
from bridge.verification.inputs import Draw, InputPlan, Role, draw, draws, plan
from bridge.verification.user_inputs import apply_specs, descriptions, specifications, split, user_draws
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import write_tensors


def spec(name: str, dtype: str, *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


@pytest.mark.parametrize(
    ("given_spec", "role"),
    [
        (spec("image", "float32", None, 3, 32, 32), Role.IMAGE),
        (spec("pixels", "uint8", None, 32, 32, 3), Role.IMAGE),
        (spec("x", "float32", None, 7), Role.VALUES),
        (spec("input_ids", "int64", None, None), Role.TOKENS),
        (spec("attention_mask", "int64", None, None), Role.MASK),
        (spec("keep", "bool", None, None), Role.MASK),
        (spec("position_ids", "int32", None, 16), Role.POSITIONS),
        (spec("lengths", "int64", None), Role.LENGTHS),
        (spec("seq_len", "int64", None), Role.LENGTHS),
        (spec("silent", "int64", None), Role.TOKENS),
        (spec("token_type_ids", "int64", None, None), Role.TOKEN_TYPES),
    ],
)
def test_roles(given_spec: TensorSpec, role: Role) -> None:
    assert plan([given_spec])[0].role is role


def test_draws_suit_dtype_and_vary() -> None:
    plans = plan(
        [
            spec("image", "float32", "N", 3, 8, 8),
            spec("ids", "int64", "N", "S"),
            spec("attention_mask", "int64", "N", "S"),
            spec("z", "complex64", "N", 4),
            spec("b", "bfloat16", "N", 4),
        ]
    )
    plans = [replace(each, limit=50) if each.name == "ids" else each for each in plans]
    made = draws(plans, seed=3)
    assert [each.batch for each in made[:3]] == [3, 1, 17]
    assert {each.rule for each in made} == {"typical", "small", "large", "pixels"}
    lengths = set()
    for each in made:
        assert each.arrays["image"].dtype == np.float32
        assert each.arrays["image"].shape == (each.batch, 3, 8, 8)
        assert each.arrays["b"].dtype.name == "bfloat16"
        assert np.iscomplexobj(each.arrays["z"])
        ids, mask = each.arrays["ids"], each.arrays["attention_mask"]
        assert ids.min() >= 0
        assert ids.max() < 50
        assert mask.shape == ids.shape
        assert set(np.unique(mask)) <= {0, 1}
        assert mask[:, 0].all()
        lengths.add(ids.shape[1])
        for array in each.arrays.values():
            if array.size > 8:
                assert len(np.unique(array)) > 1
    assert len(lengths) == 2


def test_the_seed_decides_every_bit_and_another_seed_changes_them() -> None:
    plans = plan([spec("x", "float32", None, 5)])
    first, again, other = (draws(plans, seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(first, again, other, strict=True):
        assert a.arrays["x"].tobytes() == b.arrays["x"].tobytes()
        assert a.arrays["x"].tobytes() != c.arrays["x"].tobytes()
    assert len({each.arrays["x"].tobytes() for each in first}) == len(first)


def test_a_fixed_batch_is_drawn_several_times() -> None:
    made = draws(plan([spec("x", "float32", 2, 5)]), seed=0, scales=False)
    assert [each.arrays["x"].shape for each in made] == [(2, 5)] * 3
    assert [each.batch for each in made] == [None] * 3


def test_scalars_and_models_without_inputs() -> None:
    assert draws(plan([spec("x", "float32")]), seed=0)[0].arrays["x"].shape == ()
    assert len(draws(plan([]), seed=0)) == 3


def test_large_inputs_are_drawn_sparingly() -> None:
    made = draws(plan([spec("image", "float32", None, 224, 224, 3)]), seed=0)
    assert [(each.rule, each.batch, each.referenced) for each in made] == [
        ("typical", 3, True),
        ("typical", 1, True),
        ("typical", 17, False),
        ("small", 1, True),
        ("large", 1, True),
        ("pixels", 1, True),
    ]
    huge = draws(plan([spec("image", "float32", None, 512, 512, 3)]), seed=0, scales=False)
    assert [each.batch for each in huge] == [2, 1, 3]
    huge = draws(plan([spec("image", "float32", 1, 1024, 1024, 3)]), seed=0, scales=False)
    assert all(each.referenced for each in huge)


@pytest.mark.parametrize(
    "bad", [TensorSpec("x", None, (1, 2)), TensorSpec("x", "float32", None), TensorSpec("x", "string", (1,))]
)
def test_what_cannot_be_drawn_is_refused(bad: TensorSpec) -> None:
    with pytest.raises(InputError, match="'x'"):
        plan([bad])


SPECS = [spec("a", "float32", None, 2), spec("b", "int64", None)]
A, B = np.ones((2, 2), np.float32), np.zeros(2, np.int64)


def test_user_inputs_by_name_by_position_and_from_files(tmp_path: Path) -> None:
    np.savez(tmp_path / "named.npz", b=B, a=A)
    np.savez(tmp_path / "plain.npz", A, B)
    write_tensors(str(tmp_path / "st.safetensors"), {"a": A, "b": B})
    given: list[Any] = [
        {"b": B, "a": A},
        (A, B),
        tmp_path / "named.npz",
        str(tmp_path / "plain.npz"),
        [tmp_path / "st.safetensors"],
    ]
    for each in given:
        specs, sets = split(each)
        assert specs == []
        (made,) = user_draws(sets, SPECS)
        assert made.rule == "user"
        assert made.batch == 2
        assert list(made.arrays) == ["a", "b"]
        assert np.array_equal(made.arrays["a"], A)
        assert made.arrays["b"].dtype == np.int64


def test_specifications_are_told_from_files() -> None:
    assert split("1x3x8x8")[0] == [InputSpec((1, 3, 8, 8))]
    assert split(["a=1x2", InputSpec((4,), "int64", "b")])[0] == [
        InputSpec((1, 2), "float32", "a"),
        InputSpec((4,), "int64", "b"),
    ]
    assert split(None) == ([], [])


def test_specifications_keep_a_dynamic_batch() -> None:
    unknown = [TensorSpec("a", "float32", (None, None, 3)), TensorSpec("b", None, None)]
    first, second = apply_specs(unknown, [InputSpec((1, 7, 3)), InputSpec((4,), "int64")])
    assert first.shape == (None, 7, 3)
    assert (second.dtype, second.shape) == ("int64", (4,))
    with pytest.raises(InputError, match="no input 'c'"):
        apply_specs(unknown, [InputSpec((1,), name="c")])
    with pytest.raises(InputError, match="3 inputs are specified"):
        apply_specs(unknown, [InputSpec((1,))] * 3)


def test_inputs_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a, b"):
        user_draws([{"a": A}], SPECS)
    with pytest.raises(InputError, match="a, b"):
        user_draws([[A]], SPECS)
    with pytest.raises(InputError, match="no such file"):
        split(tmp_path / "missing.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match="cannot be read"):
        split(tmp_path / "text.npz")
    np.savez(tmp_path / "code.npz", a=np.array([print], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        split(tmp_path / "code.npz")
    with pytest.raises(InputError, match="not an array"):
        split({"a": object()})


def only(made: list[Draw], rule: str) -> Draw:
    (found,) = [each for each in made if each.rule == rule]
    return found


def test_boundaries_add_rules() -> None:
    made = draws(plan([spec("x", "float32", None, 64)]), seed=0, boundaries=True)
    assert [each.rule for each in made[-4:]] == ["boundary", "special", "special", "huge"]
    assert len({each.name for each in made}) == len(made)
    mixed, extreme, tied = only(made, "boundary").arrays["x"]
    assert {0.0, 0.5, -3.0, 6.0} & set(mixed.tolist())
    assert np.abs(mixed).max() <= 6
    assert np.abs(extreme).max() >= 1e3
    assert len(np.unique(tied)) <= 4
    assert np.abs(only(made, "huge").arrays["x"]).max() > 500
    fixed = draws(plan([spec("x", "float32", 2, 300)]), seed=0, boundaries=True)
    boundary = [each for each in fixed if each.rule == "boundary"]
    assert [float(np.abs(each.arrays["x"]).max()) for each in boundary] == [6.0, 1e4]


def test_special_values_leave_a_sample_clean() -> None:
    plans = plan(
        [spec("x", "float32", None, 4, 5), spec("keep", "float32", None, 1), spec("n", "int64", None)]
    )
    nan, infinite = [each for each in draws(plans, seed=0, boundaries=True) if each.rule == "special"]
    for each, count in ((nan, 1), (infinite, 2)):
        assert each.batch == 3
        assert each.clean == (1, 2)
        assert (~np.isfinite(each.arrays["x"][0])).sum() == count
        assert np.isfinite(each.arrays["x"][1:]).all()
    assert np.isnan(nan.arrays["x"]).sum() == 1
    assert not np.isnan(infinite.arrays["x"]).any()


def test_special_values_without_a_batch() -> None:
    for shape in ((4, 5), (1, 5), (), (2, 1)):
        made = draws(plan([spec("x", "float32", *shape)]), seed=0, boundaries=True)
        for each in (one.arrays["x"] for one in made if one.rule == "special"):
            assert not np.isfinite(each).all()
            assert len(shape) == 0 or shape[0] == 1 or np.isfinite(each[-1]).all()
    empty = draws(plan([spec("x", "float32", None, 0)]), seed=0, boundaries=True)
    assert {each.arrays["x"].size for each in empty} == {0}


def test_integers_alone_have_no_special_values() -> None:
    made = draws(plan([spec("ids", "int64", None, 4)]), seed=0, boundaries=True)
    assert {each.rule for each in made} == {"typical", "boundary"}


def test_heavy_samples_have_few_boundary_values_and_no_special_ones() -> None:
    made = draws(plan([spec("image", "float32", None, 224, 224, 3)]), seed=0, boundaries=True)
    assert (made[-1].rule, made[-1].batch) == ("boundary", 2)
    assert "special" not in {each.rule for each in made}


def test_ids_reach_both_ends_of_the_vocabulary_that_the_graph_shows() -> None:
    plans = plan([TensorSpec("ids", "int32", (None, None), limit=77)])
    assert plans[0].bounded
    for each in draws(plans, seed=4, boundaries=True):
        ids = each.arrays["ids"]
        assert ids.min() == 0
        assert ids.max() == 76
    assert vocabularies(plans, lambda plans, name: pytest.fail("no trial is needed")) == (plans, [])


def test_unbounded_integers_are_tried() -> None:
    plans = plan([spec("count", "int32", None, 8), spec("label_id", "int64", None, 8)])

    def runs(trial: Sequence[InputPlan], name: str) -> bool:
        made = draw(trial, seed=0, index=0, rule="typical", batch=3).arrays
        return bool(made["label_id"].max() < 100 and made["label_id"].min() >= 0)

    fitted, notes = vocabularies(plans, runs)
    assert [each.limit for each in fitted] == [20_000, 100]
    assert [each.signed for each in fitted] == [True, False]
    assert not any("label_id" in note and "negative" in note for note in notes)
    assert "negative" in notes[0]
    boundary = only(draws(fitted, seed=0, boundaries=True), "boundary")
    assert boundary.arrays["count"].min() < 0
    assert np.abs(boundary.arrays["count"]).max() <= 2**15


def test_lengths_fit_the_sequences_beside_them() -> None:
    plans = plan([spec("x", "float32", None, 7, 3), spec("lengths", "int64", None)])
    for each in draws(plans, seed=0, boundaries=True):
        lengths = each.arrays["lengths"]
        assert lengths.max() == 7
        assert lengths.min() >= 1
        assert list(lengths) == sorted(lengths, reverse=True)


def test_positions_stay_below_their_limit_and_token_types_come_in_segments() -> None:
    plans = plan(
        [
            TensorSpec("position_ids", "int64", (None, None), limit=10),
            TensorSpec("token_type_ids", "int64", (None, 12), limit=3),
        ]
    )
    for each in draws(plans, seed=0, boundaries=True):
        assert each.arrays["position_ids"].max() == 9
        types = each.arrays["token_type_ids"]
        assert types.min() == 0
        assert types.max() <= 2
        assert (np.diff(types, axis=-1) >= 0).all()


def test_no_row_of_a_mask_is_hidden_whatever_ones_mean() -> None:
    for each in draws(plan([spec("mask", "bool", None, 6)]), seed=0):
        mask = each.arrays["mask"]
        assert mask[:, 0].all()
        assert not mask[:, -1].any()


def test_free_images_are_not_square_in_every_draw() -> None:
    made = draws(plan([spec("image", "float32", None, 3, None, None)]), seed=0)
    assert {each.arrays["image"].shape[2:] for each in made} == {(64, 64), (64, 96)}


def test_floating_inputs_take_the_precision_that_is_asked_for() -> None:
    plans = plan([spec("x", "float32", None, 4), spec("ids", "int64", None, 4)], precision="float16")
    for each in draws(plans, seed=0, boundaries=True):
        assert each.arrays["x"].dtype == np.float16
        assert each.arrays["ids"].dtype == np.int64
        if each.rule != "special":
            assert np.isfinite(each.arrays["x"]).all()


_specs = st.builds(
    TensorSpec,
    st.sampled_from(["x", "attention_mask", "ids", "position_ids", "lengths", "segment_ids", "image"]),
    st.sampled_from(
        ["float32", "float16", "bfloat16", "float64", "complex64", "int8", "uint8", "int32", "int64", "bool"]
    ),
    st.lists(st.one_of(st.integers(0, 3), st.none(), st.just("n")), max_size=4).map(tuple),
    st.one_of(st.none(), st.integers(1, 9)),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(_specs, max_size=3, unique_by=lambda each: each.name), st.integers(0, 2**32))
def test_any_inputs_can_be_drawn(specs: list[TensorSpec], seed: int) -> None:
    plans = plan(specs)
    for each in draws(plans, seed=seed, boundaries=True, batches=[3, 1]):
        for spec in specs:
            array = each.arrays[spec.name]
            assert array.dtype.name == spec.dtype
            assert spec.shape is not None
            assert len(array.shape) == len(spec.shape)
            for size, wanted in zip(array.shape, spec.shape, strict=True):
                assert not isinstance(wanted, int) or size == wanted
            if array.dtype.kind in "iu" and spec.limit is not None and plans[0].role is Role.TOKENS:
                assert array.size == 0 or array.min() >= 0


def test_a_mask_of_queries_and_keys_has_the_length_of_its_sequence() -> None:
    specs = [
        TensorSpec("x", "float32", ("batch", "length", 8)),
        TensorSpec("mask", "float32", ("length", "length")),
    ]
    plans = plan(specs)
    assert [each.dynamic_batch for each in plans] == [True, False]
    for batch in (1, 3):
        drawn = draw(plans, seed=0, index=0, rule="typical", batch=batch).arrays
        assert drawn["x"].shape[0] == batch
        assert drawn["mask"].shape == (drawn["x"].shape[1],) * 2


def test_specifications_by_name_with_constants_beside_them() -> None:
    given = {"ids": "NxT:int64", "mask": None, "flag": True, "x": InputSpec((4,))}
    assert split(given) == ([InputSpec(("N", "T"), "int64", "ids"), InputSpec((4,), name="x")], [])
    assert split(["NxT", None, "3"]) == ([InputSpec(("N", "T")), InputSpec((3,))], [])
    specs, sets = split({"ids": np.zeros((1, 2)), "mask": None})
    assert (specs, list(sets[0])) == ([], ["ids"])


@pytest.mark.parametrize("given", [{"a": "2x3", "b": np.zeros(2)}, ["2x3", np.zeros(2)]])
def test_specifications_beside_arrays_are_refused(given: object) -> None:
    for read in (split, specifications):
        with pytest.raises(InputError, match="mix specifications such as '1x3x224x224' with a ndarray"):
            read(given)  # type: ignore[operator]


def test_a_file_of_arrays_describes_inputs_and_specifications_its_axes(tmp_path: Path) -> None:
    named, unnamed = tmp_path / "named.npz", tmp_path / "unnamed.npz"
    ids = np.zeros((2, 5), np.int64)
    np.savez(named, ids=ids, x=np.zeros((2, 3), np.float32))
    np.savez(unnamed, ids)
    x = InputSpec(("batch", 3), name="x")
    assert descriptions(str(named)) == [InputSpec(("batch", 5), "int64", "ids"), x]
    assert descriptions([named, "ids=NxT"]) == [InputSpec(("N", "T"), "int64", "ids"), x]
    assert descriptions([unnamed, "NxT"]) == [InputSpec(("N", "T"), "int64")]
    assert descriptions([named, "y=N"])[-1] == InputSpec(("N",), name="y")
    assert descriptions("2x3") == [InputSpec((2, 3))]
    assert descriptions(None) == descriptions({"x": ids}) == []
