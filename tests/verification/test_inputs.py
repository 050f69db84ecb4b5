from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge.verification.inputs import Role, draws, plan, with_limit
from bridge.verification.user_inputs import apply_specs, split, user_draws
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import write_tensors


def spec(name: str, dtype: str, *shape: int | str | None) -> TensorSpec:
    return TensorSpec(name, dtype, shape)


@pytest.mark.parametrize(
    ("given", "role"),
    [
        (spec("image", "float32", None, 3, 32, 32), Role.IMAGE),
        (spec("pixels", "uint8", None, 32, 32, 3), Role.IMAGE),
        (spec("x", "float32", None, 7), Role.VALUES),
        (spec("input_ids", "int64", None, None), Role.TOKENS),
        (spec("attention_mask", "int64", None, None), Role.MASK),
        (spec("keep", "bool", None, None), Role.MASK),
        (spec("position_ids", "int32", None, 16), Role.POSITIONS),
        (spec("lengths", "int64", None), Role.LENGTHS),
    ],
)
def test_roles(given: TensorSpec, role: Role) -> None:
    assert plan([given])[0].role is role


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
    plans = with_limit(plans, "ids", 50)
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
