"""The loaders of old PyTorch versions, run by the interpreter at hand: what they need is in every version."""

from __future__ import annotations

import sys
import venv
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import bridge
from bridge.errors import EnvironmentFailure, InputError, TrustError

MODULE = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm = nn.BatchNorm1d(8)
        self.lstm = nn.LSTM(8, 6, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(6, 3)

    def forward(self, tokens):
        x = self.norm(self.embed(tokens).transpose(1, 2)).transpose(1, 2)
        return self.head(self.drop(self.lstm(x)[0][:, -1]))


def build():
    torch.manual_seed(0)
    return Net()


def pictures():
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(64, 5)
    return nn.Sequential(*layers)
"""
IMAGES = "x=Nx3x6x6"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "old_nets.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "old_nets", raising=False)
    return tmp_path


def _model(name: str) -> torch.nn.Module:
    import importlib

    model: torch.nn.Module = getattr(importlib.import_module("old_nets"), name)()
    return model.eval()


def test_a_pickled_module_is_converted_and_trained(here: Path) -> None:
    torch.save(_model("build"), here / "net.pth")
    with pytest.raises(TrustError, match="pickle"):
        bridge.convert("net.pth", to="torch", inputs="tokens=2x5:int64", source_python=sys.executable)
    result = bridge.convert(
        "net.pth",
        to="torch",
        inputs="tokens=2x5:int64",
        source_python=sys.executable,
        trust=True,
        output="out",
    )
    assert result.report is not None
    assert result.report.verdict == "equivalent", result.report.summary()
    assert "nn.LSTM(input_size=8, hidden_size=6" in result.source
    assert "nn.Dropout(" in result.source
    report = bridge.verify(
        "net.pth",
        "out",
        inputs="tokens=2x5:int64",
        trust=True,
        source_python=sys.executable,
        gradients=True,
        training=3,
    )
    assert report.verdict == "equivalent", report.summary()
    assert report.gradients is not None
    assert {each.name for each in report.gradients.tensors} >= {"embed.weight", "lstm.weight_hh_l0"}
    assert report.training is not None
    assert report.training.training, "BatchNorm was trained"


def test_weights_with_a_factory_and_torchscript(here: Path) -> None:
    model = _model("pictures")
    save_file(model.state_dict(), here / "weights.safetensors")
    torch.jit.trace(model, torch.zeros(2, 3, 6, 6)).save(here / "script.pt")  # type: ignore[no-untyped-call]
    report = bridge.verify(
        "weights.safetensors",
        "script.pt",
        inputs=IMAGES,
        model="old_nets:pictures",
        source_python=sys.executable,
        target_python=sys.executable,
        batches=[2],
    )
    assert report.verdict == "equivalent", report.summary()
    assert "Sequential under PyTorch" in report.source.what
    assert "TorchScript under PyTorch" in report.target.what


def test_a_module_needs_its_inputs(here: Path) -> None:
    with pytest.raises(InputError, match="does not say what its inputs are"):
        bridge.convert("old_nets:build", to="torch", source_python=sys.executable)


def test_an_environment_without_the_framework(here: Path) -> None:
    venv.create(here / "bare", with_pip=False)
    torch.save(_model("build").state_dict(), here / "net.pt")
    with pytest.raises(EnvironmentFailure, match=r"has no package '(numpy|torch)'") as caught:
        bridge.convert("net.pt", to="torch", model="old_nets:build", source_python=here / "bare")
    assert caught.value.hint is not None
    assert "requirements" in caught.value.hint
