"""What a caller of the API or the command line may say about the axes of example inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bridge.api import _axes, _specs
from bridge.cli.options import arrays_and_shapes, inputs_and_axes
from bridge.errors import InputError
from bridge.formats.live import _described
from bridge.formats.request import InputSpec

ARRAYS = {"ids": np.zeros((2, 5), np.int64), "x": np.zeros((2, 3), np.float32)}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, ()),
        ("NxT", (InputSpec(("N", "T")),)),
        (["NxT", "Nx3"], (InputSpec(("N", "T")), InputSpec(("N", 3)))),
        ({"ids": "Nx?"}, (InputSpec(("N", "axis1"), name="ids"),)),
    ],
)
def test_axes_by_name_or_in_order(given: Any, expected: tuple[InputSpec, ...]) -> None:
    assert _axes(given, ARRAYS) == expected


@pytest.mark.parametrize("inputs", [None, "2x5", {"ids": "2x5:int64"}])
def test_axes_need_examples(inputs: Any) -> None:
    with pytest.raises(InputError, match="describes example inputs"):
        _axes("NxT", inputs)


def test_specifications_may_come_by_name() -> None:
    specs, file = _specs({"ids": "NxT:int64", "use_cache": False})
    assert specs == (InputSpec(("N", "T"), "int64", "ids"),)
    assert file is None


def test_shapes_beside_a_file_describe_its_arrays() -> None:
    assert inputs_and_axes(("ids=NxT",), "examples.npz") == ("examples.npz", ["ids=NxT"])
    assert inputs_and_axes((), "examples.npz") == ("examples.npz", None)
    assert inputs_and_axes(("2x3",), None) == (["2x3"], None)


def test_verification_takes_shapes_beside_a_file() -> None:
    assert arrays_and_shapes(("ids=NxT",), "examples.npz") == ["examples.npz", "ids=NxT"]
    assert arrays_and_shapes((), "examples.npz") == "examples.npz"
    assert arrays_and_shapes(("2x3",), None) == ["2x3"]


def test_examples_of_other_frameworks_are_described_too() -> None:
    examples = [InputSpec(("batch", 5), "int64", "ids"), InputSpec(("batch", 3), name="x")]
    assert _described(examples, [InputSpec(("N", "T"), name="ids")])[0] == InputSpec(
        ("N", "T"), "int64", "ids"
    )
    assert _described(examples, [InputSpec(("N", 5)), InputSpec(("N", "F"))])[1].shape == ("N", "F")
    with pytest.raises(InputError, match="axes of y are given"):
        _described(examples, [InputSpec(("N",), name="y")])
