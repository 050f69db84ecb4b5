"""What the docstring of a model.py says can be read back."""

from __future__ import annotations

import pytest

from bridge.emit.dialect import Signature
from bridge.emit.docstrings import declared_types, file_docstring

INPUTS = Signature(
    ("x", "q", "many"),
    ("float32", "float8_e4m3fn", "int4"),
    (("n", 3), None, (2,)),
    ("tensor", "optional tensor", "sequence"),
)
OUTPUTS = Signature(("y",), ("uint2",), ((),))


def test_types_are_those_declared_and_not_their_carriers() -> None:
    text = file_docstring("Net.", "Inputs are given by position.", INPUTS, OUTPUTS)
    assert "q: float8_e4m3fn in uint8 any shape, or None" in text
    found = declared_types(f"{text!r}\nx = 1\n")
    assert found == {
        "Inputs": {"x": "float32", "q": "float8_e4m3fn", "many": "int4"},
        "Outputs": {"y": "uint2"},
    }


@pytest.mark.parametrize("source", ["", "x = 1", '"""Inputs: none."""', '"""A model."""'])
def test_other_files_declare_nothing(source: str) -> None:
    assert declared_types(source) == {"Inputs": {}, "Outputs": {}}
