"""The document that the calibration writes."""

from __future__ import annotations

import pytest

from scripts.proof import calibrate
from scripts.proof.calibrate import Measurement, document

MEASURED = [
    Measurement("mlp", "torch", 0, "typical", "l2", 1e-6, 2e-6, 5e-7),
    Measurement("mlp", "tf", 0, "typical", "max", 1e-6, 5e-5, 2e-5),
    Measurement("unet", "torch", 0, "small", "l2", 1e-3, 1e-2, 1e-3),
]


@pytest.fixture(autouse=True)
def versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrate, "version", lambda package: "1.0")


def test_the_document_counts_what_each_factor_fails() -> None:
    text = document(MEASURED)
    assert "2 comparisons of an output" in text
    assert "1 more are left out" in text
    assert "| 1 | 2 | 2 | 1 | 1 | 100.0% |" in text
    assert "| 2 | 1 | 1 | 1 | 1 | 100.0% |" in text
    assert "| 3 | 1 | 0 | 1 | 0 | 50.0% |" in text
    assert "is 2.50:\nmlp, the source in tf, typical inputs, max norm" in text


def test_the_document_lists_each_model_in_each_direction() -> None:
    lines = document(MEASURED).splitlines()
    assert "| mlp | torch | 1.0e-06 | 5.0e-07 | 2.0e-06 | 2.00 | 2.00 |" in lines
    assert "| mlp | tf | 1.0e-06 | 2.0e-05 | 5.0e-05 | 50.00 | 2.50 |" in lines
    assert not any(line.startswith("| unet") for line in lines)
