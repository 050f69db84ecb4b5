"""Narrow types at the boundary of a model.py."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bridge.worker.sides.carried import Boundary

_SOURCE = '''"""Net.

Inputs:
    x: float32 (n, 2)
    q: int4 in int8 (2,)
Outputs:
    y: float8_e5m2 in uint8 (n,)
    z: uint8 (n,)
"""
'''


@pytest.fixture
def boundary(tmp_path: Path) -> Boundary:
    (tmp_path / "model.py").write_text(_SOURCE)
    return Boundary(tmp_path)


def test_inputs_are_carried(boundary: Boundary) -> None:
    x, q = np.ones((1, 2), np.float32), np.array([-8, 7], ml_dtypes.int4)
    carried = boundary.carried({"x": x, "q": q})
    assert carried["x"] is x
    assert carried["q"].dtype == np.int8
    assert carried["q"].tolist() == [-8, 7]


def test_results_are_of_the_declared_types(boundary: Boundary) -> None:
    y, z = boundary.declared([np.uint8([60, 188]), np.uint8([60, 188])])
    assert y.dtype == ml_dtypes.float8_e5m2
    assert y.astype(float).tolist() == [1.0, -1.0]
    assert z.dtype == np.uint8


def test_results_that_are_not_as_declared_stay_as_they_are(boundary: Boundary) -> None:
    (only,) = boundary.declared([np.uint8([1])])
    assert only.dtype == np.uint8
    wide, _ = boundary.declared([np.float64([1.0]), np.uint8([1])])
    assert wide.dtype == np.float64


def test_inputs_are_described_by_their_own_types(boundary: Boundary) -> None:
    assert boundary.dtype("q", "int8") == "int4"
    assert boundary.dtype("x", None) is None
    assert boundary.dtype("unknown", "int8") == "int8"
