"""Attempting cases with TensorFlow: as they are, compiled by XLA, and as SavedModels elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from scripts.onnx_suite import cases
from scripts.onnx_suite.attempt import Attempt
from scripts.onnx_suite.exclusions import VALUES_DECIDE

importlib.import_module("tensorflow")


@pytest.fixture(scope="module")
def known() -> dict[str, cases.SuiteCase]:
    return cases.collect()


def test_outcomes(known: dict[str, cases.SuiteCase], tmp_path: Path) -> None:
    attempt = Attempt("tf", "run")
    assert attempt(known["test_add"], tmp_path, {}).verdict == "passed"
    assert attempt(known["test_cast_FLOAT_to_INT4"], tmp_path, {}).verdict == "passed"
    assert attempt(known["test_bernoulli"], tmp_path, {}).verdict == "random"


def test_xla(known: dict[str, cases.SuiteCase], tmp_path: Path) -> None:
    attempt = Attempt("tf", "xla")
    compiled = attempt(known["test_softmax_axis_1"], tmp_path, {})
    assert (compiled.verdict, compiled.excluded) == ("passed", "")
    assert attempt(known["test_nonzero_example"], tmp_path, {}).excluded == VALUES_DECIDE


def test_saved_models_run_elsewhere_in_two_batch_sizes(
    known: dict[str, cases.SuiteCase], tmp_path: Path
) -> None:
    attempt = Attempt("tf", "saved")
    for name, note in (
        ("test_basic_conv_with_padding", "in another batch size too"),
        ("test_transpose_default", ""),
    ):
        directory = tmp_path / name
        directory.mkdir()
        outcome = attempt(known[name], directory, {})
        assert (outcome.verdict, outcome.reason, outcome.excluded) == ("passed", note, "")
