from __future__ import annotations

import pytest

from bridge.verification.pairing import output_order, pair


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
