"""What the lowerings of both targets say they cannot do."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from bridge_converters._casts import cast_beyond, cast_beyond_strings
from bridge_converters._resize import resize_beyond
from operator_cases.case import Case, case, draw, ints
from operator_cases.layers import LayerCase, view_of

_X = draw(2, 3, 4, 4)


def view(each: Case) -> object:
    constants = tuple(i for i, value in enumerate(each.inputs) if i and value is not None)
    return view_of(LayerCase(each, None, None, constants=constants), "channels_first")


@pytest.mark.parametrize("to", ["FLOAT16", "BOOL", "UINT64", "FLOAT8E4M3FN", "INT4", "FLOAT4E2M1"])
def test_casts_between_numbers_are_supported(to: str) -> None:
    each = view(case("Cast", _X, to=getattr(onnx.TensorProto, to)))
    assert cast_beyond(each) is None
    assert cast_beyond_strings(each) is None


def test_text_needs_a_target_with_strings_and_a_specified_spelling() -> None:
    each = view(case("Cast", _X, to=onnx.TensorProto.STRING))
    assert cast_beyond(each) == "it converts from or to text"
    assert cast_beyond_strings(each) == "it writes FLOAT as text, for which ONNX fixes no number of digits"
    each.node.inputs[0].dtype = ir.DataType.INT32
    assert cast_beyond_strings(each) is None


@pytest.mark.parametrize(
    ("to", "reason"), [("DOUBLE", None), ("INT8", None), ("BOOL", "it reads text as BOOL")]
)
def test_text_is_read_as_numbers(to: str, reason: str | None) -> None:
    each = view(case("Cast", _X, to=getattr(onnx.TensorProto, to)))
    each.node.inputs[0].dtype = ir.DataType.STRING
    assert cast_beyond_strings(each) == reason


def test_cast_like_looks_at_the_other_tensor() -> None:
    each = view(case("CastLike", _X, draw(1)))
    assert cast_beyond(each) is None
    each.node.inputs[1].dtype = ir.DataType.STRING
    assert cast_beyond(each) == "it converts from or to text"
    each.node.inputs[1].dtype = None
    assert cast_beyond(each) == "the type that it converts to is unknown"


@pytest.mark.parametrize(
    ("each", "reason"),
    [
        (case("Resize", _X, None, np.array([1, 1, 2, 2], np.float32)), None),
        (case("Resize", _X, None, None, ints(8, 8), axes=(2, 3), mode="cubic"), None),
        (case("Resize", _X, None, np.array([1, 2, 2, 2], np.float32)), None),
        (case("Resize", _X, None, None, ints(2, 3, 8, 8)), None),
        (case("Resize", _X > 0, None, None, ints(8, 8), axes=(2, 3)), None),
        (
            case("Resize", _X > 0, None, None, ints(8, 8), axes=(2, 3), mode="linear"),
            "linear interpolation has no meaning for BOOL",
        ),
    ],
)
def test_resize(each: Case, reason: str | None) -> None:
    assert resize_beyond(view(each)) == reason
