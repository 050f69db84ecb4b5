"""Reproductions of two models that bridge did not convert: calls of each framework's own operators."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
import torch
from torch import nn

import bridge


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x)).flatten(2).mean(-1)
        return nn.functional.gelu(self.head(x))


class TensorFlowNet(tf.Module):
    def __init__(self, net: Net) -> None:
        super().__init__()
        self.tensors = [tf.Variable(each.detach().numpy()) for each in net.parameters()]

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 8, 8], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> Any:
        kernel, bias, scale, shift, weight, last = self.tensors
        x = tf.nn.conv2d(tf.transpose(x, [0, 2, 3, 1]), tf.transpose(kernel, [2, 3, 1, 0]), 1, "VALID") + bias
        groups = tf.reshape(x, [-1, 6, 6, 2, 2])
        mean, variance = tf.nn.moments(groups, [1, 2, 4], keepdims=True)
        x = tf.reshape((groups - mean) / tf.sqrt(variance + 1e-5), tf.shape(x)) * scale + shift
        x = tf.matmul(tf.reduce_mean(x, [1, 2]), weight, transpose_b=True) + last
        return tf.nn.gelu(x, approximate=True)


def exported(path: Path) -> Path:
    batch = {0: torch.export.Dim("batch")}
    torch.export.save(
        torch.export.export(Net().eval(), (torch.ones(2, 3, 8, 8),), dynamic_shapes=(batch,)), path
    )
    return path


def saved(path: Path) -> Path:
    tf.saved_model.save(TensorFlowNet(Net()), str(path))
    return path


def distances(script: Path) -> dict[str, float]:
    """What a script prints where bridge is not needed."""
    command = [sys.executable, "-I", str(script)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {each.split()[-2]: float(each.split()[-1]) for each in output.splitlines()}


@pytest.mark.parametrize(("source", "target"), [(exported, saved), (saved, exported)])
def test_each_side_computes_its_value_by_its_own_operators(source: Any, target: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = bridge.verify(source(tmp_path / "a.pt2"), target(tmp_path / "b.pt2"), repro=out)
    assert report.localisation is not None
    for label, other in (("source", "target"), ("target", "source")):
        text = (out / f"{label}.py").read_text()
        assert "bridge" not in text
        assert ("import torch" in text) != ("import tensorflow" in text)
        found = distances(out / f"{label}.py")
        assert found[label] < 1e-6
        assert found[other] > 1e-5
