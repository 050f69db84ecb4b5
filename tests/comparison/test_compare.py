"""Whole comparisons; two ONNX files are quick, and any two versions will do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx_models import network

from bridge.cli.app import run
from bridge.comparison.api import compare
from bridge.errors import InputError


@pytest.fixture
def models(tmp_path: Path) -> Path:
    network(tmp_path / "one.onnx")
    network(tmp_path / "other.onnx")
    network(tmp_path / "wrong.onnx", approximate="tanh")
    rng = np.random.default_rng(0)
    images = rng.normal(size=(40, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "data.npz", image=images, labels=rng.integers(0, 5, 40))
    return tmp_path


def test_a_comparison_has_an_answer_a_table_and_a_page(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(models)
    command = ["compare", "one.onnx", "other.onnx", "--data", "data.npz", "--batch", "2", "--seconds", "0.5"]
    code = run(
        [*command, "--no-train", "--threads", "1", "--html", "page.html", "--report", "out.json", "-q"]
    )
    assert code == 0, capsys.readouterr().err
    record = json.loads((models / "out.json").read_text())
    assert record["format"] == "bridge.comparison"
    assert record["report"]["verdict"] == "equivalent"
    assert record["accuracy"]["samples"] == 40
    assert record["accuracy"]["agreement"]["value"] == 1
    assert record["accuracy"]["first"] == record["accuracy"]["second"]
    assert record["conclusion"]["choice"] in ("either", "open", "first", "second")
    page = (models / "page.html").read_text()
    assert record["conclusion"]["sentence"].split(":")[0] in page
    assert "accuracy on 40 samples" in page
    assert "<script src" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_two_different_models_are_said_to_be_different(models: Path) -> None:
    found = compare(
        str(models / "one.onnx"),
        str(models / "wrong.onnx"),
        batches=[2],
        seconds=0.5,
        training=False,
        threads=1,
    )
    assert int(found.exit_code) == 1
    assert found.conclusion.choice == "open"
    text = found.summary()
    assert "do not compute the same" in text.replace("\n", " ")
    assert "inference, batch 2" in text


def test_what_cannot_be_compared_is_refused(models: Path) -> None:
    with pytest.raises(InputError, match="Python factory"):
        compare("nets:build")
    with pytest.raises(InputError, match="is no model"):
        compare(object())
    with pytest.raises(InputError, match="no such file"):
        compare(str(models / "none.onnx"))
    with pytest.raises(InputError, match="cannot be read"):
        compare(str(models / "one.onnx"), str(models / "other.onnx"), data=models / "none.npz")
