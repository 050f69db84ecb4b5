"""Naming a value that the target rounds, where in float64 both versions are the same function."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
import tensorflow as tf
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import bridge
from bridge.verification.localise import Localisation

_ROWS = torch.export.Dim("batch")


class Net(nn.Module):
    def __init__(self, *, rounds: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.act, self.second = nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4)
        self.rounds = rounds

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.first(x))
        if self.rounds:
            x = x.half().float()
        return self.second(x).softmax(-1)


class TensorFlowNet(tf.Module):
    """The same with the weights of a Net."""

    def __init__(self, net: Net, *, rounds: bool) -> None:
        super().__init__()
        self.weights = [tf.Variable(each.detach().numpy().T) for each in net.parameters()]
        self.rounds = rounds

    @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> Any:
        first, shift, second, last = self.weights
        x = tf.nn.gelu(tf.matmul(x, first) + shift)
        if self.rounds:
            x = tf.cast(tf.cast(x, tf.float16), tf.float32)
        return tf.nn.softmax(tf.matmul(x, second) + last)


def exported(path: Path, *, rounds: bool = False) -> Path:
    program = torch.export.export(
        Net(rounds=rounds).eval(), (torch.ones(2, 8),), dynamic_shapes=({0: _ROWS},)
    )
    torch.export.save(program, path)
    return path


def saved(path: Path, *, rounds: bool = False) -> Path:
    tf.saved_model.save(TensorFlowNet(Net(), rounds=rounds), str(path))
    return path


def onnx_file(path: Path, *, rounds: bool = False) -> Path:
    weights = [
        numpy_helper.from_array(each.detach().numpy(), name) for name, each in Net().named_parameters()
    ]
    given = "half" if rounds else "act"
    casts = [
        helper.make_node("Cast", ["act"], ["narrow"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["narrow"], ["half"], to=TensorProto.FLOAT),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "first.weight", "first.bias"], ["first"], transB=1),
        helper.make_node("Gelu", ["first"], ["act"]),
        *(casts if rounds else ()),
        helper.make_node("Gemm", [given, "second.weight", "second.bias"], ["second"], transB=1),
        helper.make_node("Softmax", ["second"], ["y"]),
    ]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])]
        for name, size in (("x", 8), ("y", 4))
    ]
    graph = helper.make_graph(nodes, "net", *ports, weights)
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def place(source: Path, target: Path) -> Localisation:
    report = bridge.verify(source, target)
    assert report.verdict == "different"
    assert report.localisation is not None
    assert report.localisation.how == "rounding"
    assert report.localisation.error is not None
    assert 1e-5 < report.localisation.error < 1e-3
    assert "much less exact" in report.localisation.summary()
    return report.localisation


@pytest.mark.parametrize(
    ("source", "target", "name", "operator"),
    [
        (exported, exported, "_to_copy", "aten._to_copy.default"),
        (exported, saved, "Cast", "Cast"),
        (saved, exported, "_to_copy", "aten._to_copy.default"),
        (exported, onnx_file, "narrow", "Cast"),
    ],
)
def test_a_rounded_activation_of_a_model_written_apart(
    source: Any, target: Any, name: str, operator: str, tmp_path: Path
) -> None:
    suffix = "onnx" if target is onnx_file else "pt2"
    found = place(source(tmp_path / "a.pt2"), target(tmp_path / f"b.{suffix}", rounds=True))
    assert name in found.target.name
    assert found.target.operator == operator
    assert found.source is not None
    assert found.target_block[0] == found.target


def test_a_rounded_activation_of_a_conversion(tmp_path: Path) -> None:
    source, out = exported(tmp_path / "a.pt2"), tmp_path / "out"
    bridge.convert(source, to="torch", verify=False).save(out)
    text = (out / "model.py").read_text()
    line = next(each for each in text.splitlines() if "self.act(" in each)
    (out / "model.py").write_text(text.replace(line, f"{line}.to(torch.float16).to(torch.float32)"))
    found = place(source, out)
    assert (found.target.operator, found.blame) == ("Gelu", "writer")
    assert found.source is not None
    assert found.source.operator == "aten.gelu.default"


def test_a_rounded_activation_in_a_saved_model_of_bridge(tmp_path: Path) -> None:
    """The hub is what rounds: converted once, the ONNX file has the casts that the source lacks."""
    out = tmp_path / "out"
    bridge.convert(onnx_file(tmp_path / "b.onnx", rounds=True), to="tf", verify=False).save(out)
    report = bridge.verify(exported(tmp_path / "a.pt2"), out)
    assert report.localisation is not None
    assert report.localisation.how == "rounding"
    assert report.localisation.target.operator == "Cast"


def test_a_source_that_rounds_as_well_explains_the_error(tmp_path: Path) -> None:
    report = bridge.verify(
        exported(tmp_path / "a.pt2", rounds=True), exported(tmp_path / "b.pt2", rounds=True)
    )
    assert report.verdict != "different"
    assert report.localisation is None
