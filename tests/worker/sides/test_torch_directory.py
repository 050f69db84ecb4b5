"""What a directory with a model.py answers: values at the places that its anchors name, in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save

from bridge import convert
from bridge.hub.anchors import Anchors
from bridge.worker.sides import onnx_file, torch_directory
from bridge.worker.sides.torch_directory import TorchDirectorySide
from tests.worker.sides.torch_nets import Array, autograd, cotangents

_MODEL = """
from __future__ import annotations

import torch
from torch import Tensor, nn


def widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype != torch.float64 else x


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 3)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        y = self.drop(y)
        return y * 0.1


class Split(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return torch.topk(x, 2)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.layers = nn.Sequential(
            nn.Linear(3, 4),
            nn.Sequential(nn.Sigmoid(), nn.BatchNorm1d(4)),
            Split(),
        )
        self.blocks = nn.ModuleDict({"2": nn.Sequential(nn.Linear(3, 3), nn.Tanh())})
        self.register_buffer("tenth", torch.tensor(0.1, dtype=torch.float32), persistent=False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.block(image)
        x = self.block(x)
        x = x.to(torch.float32)
        x = self.blocks["2"](x)
        y, z = self.layers(widened(x) + torch.tensor(0.1, dtype=torch.float32))
        x = x.permute(1, 0)
        x = x * self.tenth
        return (x, y, z)


def load() -> Net:
    model = Net()
    with torch.no_grad():
        for weight in model.parameters():
            numbers = torch.arange(weight.numel()) * 7 % 11 - 4
            weight.copy_(numbers.reshape(weight.shape) / 8)
    return model.eval()
"""


def line_of(text: str) -> int:
    return next(number for number, line in enumerate(_MODEL.lstrip().splitlines(), 1) if text in line)


def anchor(hub: str, text: str, variable: str = "", **rest: Any) -> dict[str, Any]:
    return {
        "hub": hub,
        "source": f"{hub}:0",
        "scope": hub,
        "location": None,
        "operator": "Op",
        "module": "",
        "call": [],
        "line": line_of(text),
        "variable": variable,
        "permutation": None,
        **rest,
    }


ANCHORS = [
    anchor("first.fc", "y = self.fc(x)", "y", module="block", call=[0]),
    anchor("first.drop", "y = self.drop(y)", "y", module="block", call=[0]),
    anchor("first", "return y * 0.1", module="block", call=[0]),
    anchor("second.fc", "y = self.fc(x)", "y", module="block", call=[1]),
    anchor("second.drop", "y = self.drop(y)", "y", module="block", call=[1]),
    anchor("second", "return y * 0.1", module="block", call=[1]),
    anchor("cast", "x = x.to(torch.float32)", "x"),
    anchor("linear", 'x = self.blocks["2"](x)'),
    anchor("tanh", 'x = self.blocks["2"](x)'),
    anchor("dense", "y, z = self.layers("),
    anchor("sigmoid", "y, z = self.layers("),
    anchor("norm", "y, z = self.layers("),
    anchor("values", "return torch.topk(x, 2)", module="layers.2"),
    anchor("indices", "return torch.topk(x, 2)", module="layers.2"),
    anchor("columns", "x = x.permute(1, 0)", "x", permutation=[1, 0]),
    anchor("elsewhere", "y = self.fc(x)", "y", module="no.such.module"),
]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written")
    (path / "model.py").write_text(_MODEL.lstrip())
    record = {"format": "bridge.anchors", "version": 1, "file": "model.py", "anchors": ANCHORS}
    (path / "anchors.json").write_text(json.dumps(record))
    return path


@pytest.fixture
def feeds() -> dict[str, Array]:
    return {"image": np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)}


def side_of(directory: Path, **request: Any) -> TorchDirectorySide:
    return torch_directory.load({"path": str(directory), **request})


def flat(outputs: Any) -> list[torch.Tensor]:
    return list(outputs)


def test_float64_reaches_the_dtypes_in_the_code(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    x = feeds["image"].astype(np.float64)
    weights = {name: array.astype(np.float64) for name, array in side.weights().items()}
    tenth = float(np.float32(0.1))
    for _ in range(2):
        x = (x @ weights["block.fc.weight"].T + weights["block.fc.bias"]) * tenth
    x = np.tanh(x @ weights["blocks.2.0.weight"].T + weights["blocks.2.0.bias"])
    output = side.run_fp64(feeds)[0]
    assert output.dtype == np.float64
    np.testing.assert_allclose(output, x.T * tenth, rtol=1e-14)
    assert [each.dtype.name for each in side.run(feeds)] == ["float32", "float32", "int64"]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_converted_model_runs_in_a_narrower_type(
    dtype: str, directory: Path, feeds: dict[str, Array]
) -> None:
    side = side_of(directory, dtype=dtype)
    got, want = side.run(feeds), side.run_fp64(feeds)
    assert [each.dtype.name for each in got] == [dtype, dtype, "int64"]
    assert 1e-6 < np.abs(got[0].astype(np.float64) - want[0]).max() < 0.01
    assert dtype in side.what


def test_every_anchor_has_its_value(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    found = side.intermediates(feeds)
    names = [record["name"] for record, _ in found]
    assert names == [each["hub"] for each in ANCHORS[:-1]]
    assert found[0][0] == {
        "name": "first.fc",
        "operator": "Op",
        "scope": "first.fc",
        "location": f"model.py:{line_of('y = self.fc(x)')}",
        "inputs": [],
        "source": "first.fc:0",
    }
    values = dict(zip(names, (value for _, value in found), strict=True))
    exact = side.run_fp64(feeds)
    tenth = float(np.float32(0.1))
    np.testing.assert_array_equal(values["first.drop"] * tenth, values["first"])
    np.testing.assert_array_equal(values["second.fc"] * tenth, values["second"])
    np.testing.assert_allclose(np.tanh(values["linear"]), values["tanh"], rtol=1e-14)
    np.testing.assert_allclose(1 / (1 + np.exp(-values["dense"])), values["sigmoid"], rtol=1e-14)
    np.testing.assert_array_equal(values["columns"], values["tanh"])
    np.testing.assert_array_equal(values["values"], exact[1])
    np.testing.assert_array_equal(values["indices"], exact[2])
    assert all(value.dtype == np.float64 for name, value in values.items() if name != "indices")


def test_gradients_of_anchored_values(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    found = {record["name"]: gradient for record, _, gradient in side.intermediates(feeds, cotangents)}
    tenth = float(np.float32(0.1))
    np.testing.assert_allclose(found["second.drop"], found["second"] * tenth, rtol=1e-12)
    assert found["indices"] is None
    given = cotangents(side.run_fp64(feeds))[1]
    assert given is not None
    np.testing.assert_array_equal(found["values"], given)
    assert found["columns"].shape == (4, 3)
    bias = side.vjp(feeds, cotangents, False)[2]["blocks.2.0.bias"]
    np.testing.assert_allclose(found["linear"].sum(0), bias, rtol=1e-12)


def test_gradients_are_autograds(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    outputs, by_input, by_weight = side.vjp(feeds, cotangents, False)
    expected = autograd(side._in_training().model, feeds, flat)
    for got, want in ((by_input, expected[1]), (by_weight, expected[2])):
        assert set(got) == set(want)
        for name, array in want.items():
            np.testing.assert_allclose(got[name], array, rtol=1e-12)
    np.testing.assert_array_equal(outputs[0], side.run_fp64(feeds)[0])


def test_training_has_no_dropout_and_can_be_undone(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    before = side.state()
    assert set(before) == set(side.weights())
    first = side.vjp(feeds, cotangents, True)[0][0]
    np.testing.assert_array_equal(first, side.run_fp64(feeds)[0])
    changed = {name for name, array in side.state().items() if not np.array_equal(array, before[name])}
    assert changed == {
        f"layers.1.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }
    assert side._in_training().model.block.drop.p == 0.5  # type: ignore[union-attr]
    assert not side._in_training().model.training
    side.assign(before)
    after = side.state()
    assert all(np.array_equal(after[name], array) for name, array in before.items())
    np.testing.assert_array_equal(side.vjp(feeds, cotangents, False)[0][1], side.run_fp64(feeds)[1])


def test_rounding_moves_a_converted_model_as_well(directory: Path, feeds: dict[str, Array]) -> None:
    side = side_of(directory)
    exact, noisy = side.run_fp64(feeds)[0], side.run_noisy(feeds, 2.0**-24, 1)[0]
    assert 0 < np.abs(noisy - exact).max() / np.abs(exact).max() < 1e-6


def test_without_anchors_no_value_has_a_name(tmp_path: Path, feeds: dict[str, Array]) -> None:
    (tmp_path / "model.py").write_text(_MODEL.lstrip())
    with pytest.raises(NotImplementedError, match="names"):
        side_of(tmp_path).intermediates(feeds)


def test_a_converted_model_computes_the_values_of_its_source(tmp_path: Path) -> None:
    source, target = write_onnx(tmp_path / "net.onnx"), tmp_path / "converted"
    convert(source, "torch", output=target, verify=False)
    feeds = {"x": np.random.default_rng(4).standard_normal((3, 3, 6, 6)).astype(np.float32)}
    found = side_of(target).intermediates(feeds)
    anchors = Anchors.load(target / "anchors.json").anchors
    assert [record["name"] for record, _ in found] == [each.hub for each in anchors]
    reference = onnx_file.load({"path": str(source), "format": "onnx", "inputs": []})
    names = {record["source"]: value for record, value in found if record["source"]}
    expected = {record["name"]: value for record, value, *_ in reference.intermediates(feeds)}
    assert {"convolved", "normal", "scaled"} <= set(names) & set(expected)
    for name in set(names) & set(expected):
        np.testing.assert_allclose(names[name], expected[name], rtol=1e-7, atol=1e-9, err_msg=name)


def write_onnx(path: Path) -> Path:
    rng = np.random.default_rng(5)

    def tensor(name: str, array: Array) -> Any:
        return numpy_helper.from_array(array.astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "conv.weight", "conv.bias"], ["convolved"], pads=[1, 1, 1, 1]),
        helper.make_node(
            "BatchNormalization",
            ["convolved", "norm.weight", "norm.bias", "norm.mean", "norm.var"],
            ["normal"],
            epsilon=1e-3,
        ),
        helper.make_node("Mul", ["normal", "tenth"], ["scaled"]),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("Gemm", ["features", "fc.weight", "fc.bias"], ["y"], transB=1),
    ]
    weights = [
        tensor("conv.weight", rng.standard_normal((4, 3, 3, 3))),
        tensor("conv.bias", rng.standard_normal(4)),
        tensor("norm.weight", rng.standard_normal(4)),
        tensor("norm.bias", rng.standard_normal(4)),
        tensor("norm.mean", rng.standard_normal(4)),
        tensor("norm.var", rng.uniform(0.5, 2, 4)),
        tensor("fc.weight", rng.standard_normal((5, 4))),
        tensor("fc.bias", rng.standard_normal(5)),
        tensor("tenth", np.array(0.1)),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    save(model, path)
    return path
