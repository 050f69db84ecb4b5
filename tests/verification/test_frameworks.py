"""Verification across the two frameworks, on pairs written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bridge.verification import Report, verify
from bridge.verification.run import run_once
from bridge.worker.tasks import run_task

TF_FAULTS = ("none", "gelu", "stored weight")
TORCH_FAULTS = ("none", "epsilon")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `net.pt2`, its TensorFlow versions `tf-FAULT`, `text.keras`, and its `torch-FAULT`."""
    root = tmp_path_factory.mktemp("models")

    def path(name: str) -> str:
        return str(root / name)

    tf_models = [("tf_target", {"path": path(f"tf-{fault}"), "fault": fault}) for fault in TF_FAULTS] + [
        ("keras_source", {"path": path("text.keras"), "arrays": path("text.safetensors")})
    ]
    torch_models = [("torch_source", {"path": path("net.pt2")})] + [
        ("torch_target", {"path": path(f"torch-{fault}"), "arrays": path("text.safetensors"), "fault": fault})
        for fault in TORCH_FAULTS
    ]
    for framework in (tf_models, torch_models):
        run_task("pairs:build", {"models": framework}, label="builder of the test models")
    return root


def checked(report: Report) -> Report:
    """What every report across frameworks must hold."""
    assert "float64" in report.reference
    assert "PyTorch" in report.source.what + report.target.what
    assert "TensorFlow" in report.source.what + report.target.what
    assert [draw.inputs[0].shape[0] for draw in report.draws[:3]] == [3, 1, 17]
    assert report.outputs[0].varies is True
    return report


@pytest.mark.parametrize("fault", TF_FAULTS)
def test_pytorch_to_tensorflow(models: Path, fault: str) -> None:
    target = models / f"tf-{fault}"
    report = checked(verify(models / "net.pt2", target))
    assert report.weights is not None
    assert report.weights.compared == 8
    assert report.weights.passed is (fault != "stored weight"), report.summary()
    assert report.verdict == ("equivalent" if fault == "none" else "different")
    assert report.outputs[0].verdict == ("different" if fault == "gelu" else "equivalent")
    if fault == "none":
        assert [output.dtype for output in report.outputs] == ["float32", "int64"]
        image = np.random.default_rng(0).standard_normal((2, 3, 10, 10)).astype(np.float32)
        logits, best = run_once(target, [image], inputs=["image"], outputs=["output_0", "output_1"])
        assert np.array_equal(logits.argmax(-1), best)


@pytest.mark.parametrize("fault", TORCH_FAULTS)
def test_tensorflow_to_pytorch(models: Path, fault: str) -> None:
    report = checked(verify(models / "text.keras", models / f"torch-{fault}"))
    assert report.weights is not None
    assert report.weights.compared == 5
    assert report.weights.passed
    assert report.verdict == ("equivalent" if fault == "none" else "different")
