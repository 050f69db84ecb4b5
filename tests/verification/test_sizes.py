from __future__ import annotations

import pytest

from bridge.errors import InputError
from bridge.verification.inputs import draws, plan
from bridge.verification.sizes import check_batches, checked_shapes, parse_batches, parse_shapes
from bridge.worker.side import TensorSpec

SPECS = [TensorSpec("x", "float32", (None, 3, None, None)), TensorSpec("y", "float32", ("N", 7))]


def test_sizes_are_read() -> None:
    assert parse_shapes(["x=2x3x64x64,y=2x7", "x=?x3x8x8"]) == [
        {"x": (2, 3, 64, 64), "y": (2, 7)},
        {"x": (None, 3, 8, 8)},
    ]
    assert parse_shapes(["2x3"]) == [{"": (2, 3)}]
    assert parse_batches("1, 3,17") == (1, 3, 17)


@pytest.mark.parametrize("text", ["", "x=", "x=2x", "x=axb", "x=2x3,", "x=-1", "x=2,x=3", "x=2x3:float32"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="sizes"):
        parse_shapes([text])


@pytest.mark.parametrize("text", ["", "0", "1,,2", "x", "-1", "1.5", "²"])
def test_other_batches_are_refused(text: str) -> None:
    with pytest.raises(InputError, match="batch sizes"):
        parse_batches(text)


def test_sizes_are_held_against_the_model() -> None:
    assert checked_shapes(SPECS, parse_shapes(["#1=4x7,x=4x3x8x8"])) == [{"y": (4, 7), "x": (4, 3, 8, 8)}]
    assert checked_shapes(SPECS[1:], parse_shapes(["4x7"])) == [{"y": (4, 7)}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x=2x4x8x8", "axis 1 of the input 'x' is fixed at 3 and cannot be 4"),
        ("x=2x3x8", "has 4 axes"),
        ("z=2", "no input 'z'"),
        ("#2=2", "no input '#2'"),
        ("2x7", "2 inputs, and the sizes name none"),
        ("x=2x3x8x8,y=3x7", "different sizes"),
        ("y=2x7,#1=2x7", "given twice"),
    ],
)
def test_sizes_that_contradict_the_model_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checked_shapes(SPECS, parse_shapes([text]))


def test_batches_that_contradict_the_model_are_refused() -> None:
    fixed = [TensorSpec("x", "float32", (2, 3)), TensorSpec("scale", "float32", ())]
    check_batches(fixed, [2])
    check_batches([*fixed, TensorSpec("y", "float32", (None,))], [5])
    with pytest.raises(InputError, match="fixed and cannot be 5"):
        check_batches(fixed, [2, 5])
    with pytest.raises(InputError, match="fixed"):
        check_batches([TensorSpec("scale", "float32", ())], [5])


def test_draws_have_the_sizes_that_were_asked_for() -> None:
    plans = plan(SPECS)
    sizes = checked_shapes(plans, parse_shapes(["x=2x3x6x8", "x=?x3x10x?"]))
    made = draws(plans, seed=0, sizes=sizes, boundaries=True, batches=[1, 4])
    assert [(each.rule, each.arrays["x"].shape, each.arrays["y"].shape) for each in made] == [
        ("typical", (2, 3, 6, 8), (2, 7)),
        ("typical", (1, 3, 10, 64), (1, 7)),
        ("typical", (4, 3, 10, 96), (4, 7)),
        *(
            (rule, (2, 3, 6, 8), (2, 7))
            for rule in ("small", "large", "pixels", "boundary", "special", "special", "huge")
        ),
    ]


def test_sizes_of_a_length_are_no_batch() -> None:
    specs = [
        TensorSpec("x", "float32", ("batch", "length", 8)),
        TensorSpec("mask", "float32", ("length", "length")),
    ]
    wanted = parse_shapes(["x=3x7x8,mask=7x7"])
    assert checked_shapes(specs, wanted) == [{"x": (3, 7, 8), "mask": (7, 7)}]
