"""Exact training: the source's tensors and rules of training in the target, against the source itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx_ir as ir
import pytest
import torch
from bridge_converters.torch_to_onnx import reader
from torch import nn
from torch.export import Dim

from bridge.emit import registry
from bridge.emit.imported import load_emitted
from bridge.emit.training import training_notes
from bridge.emit.writer import Emitted, emit
from bridge.formats.request import ReadRequest
from bridge.hub import metadata
from bridge.hub.recipe import Array
from bridge.passes import pipeline
from bridge.tasks import save_hub
from bridge.worker.standalone import write_tensors

STEPS, RATE, FEATURES = 20, 0.5, 4


class AsPrinted:
    """A formatter that leaves the text as it is printed."""

    def format(self, text: str) -> str:
        return text


class Classifier(nn.Module):
    """The last state of a recurrence, normalized over the batch."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(FEATURES, 5, batch_first=True, **options)
        size = 10 if options.get("bidirectional") else 5
        self.norm = nn.BatchNorm1d(size)
        self.fc = nn.Linear(size, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y, _ = self.rnn(x)
        return self.fc(self.norm(y.mean(1)))


class Steps(nn.Module):
    """A cell over three steps."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(FEATURES, 5)
        self.fc = nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = x.new_zeros(x.shape[0], 5)
        for step in range(3):
            h, c = self.cell(x[:, step], (h, c))
        return self.fc(h)


def to_hub(module: nn.Module, directory: Path) -> ir.Model:
    path = directory / "model.pt2"
    x = torch.randn(6, 3, FEATURES, dtype=torch.float64)
    program = torch.export.export(module.eval(), (x,), dynamic_shapes=({0: Dim.AUTO},))
    torch.export.save(program, path)
    hub = directory / "hub.onnx"
    save_hub(reader.read(ReadRequest(str(path), "pt2")), hub)
    return ir.load(hub)


def convert(hub: ir.Model, target: Literal["torch", "tf"], directory: Path, *, exact: bool) -> Emitted:
    model = pipeline.canonicalise(hub)
    prepared = pipeline.prepare(model, target=target, exact_training=exact)
    emitted = emit(prepared, registry.table(target), registry.dialect(target), AsPrinted())
    (directory / "model.py").write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, np.ascontiguousarray)
    return emitted


def batches() -> list[tuple[Array, Array]]:
    draw = np.random.default_rng(0)
    return [(draw.normal(size=(6, 3, FEATURES)), draw.normal(size=(6, 3))) for _ in range(STEPS)]


def train_torch(module: nn.Module) -> list[float]:
    optimizer = torch.optim.SGD(module.train().parameters(), RATE)
    losses = []
    for x, y in batches():
        optimizer.zero_grad()
        loss = (module(torch.from_numpy(x)) - torch.from_numpy(y)).square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    return losses


def train_keras(model: Any) -> list[float]:
    import tensorflow as tf

    losses = []
    for x, y in batches():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.square(model(tf.constant(x), training=True) - y))
        for variable, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            variable.assign_sub(RATE * gradient)
        losses.append(float(loss))
    return losses


MODULES: dict[str, Callable[[], nn.Module]] = {
    "LSTM": lambda: Classifier("LSTM"),
    "two layers of two directions": lambda: Classifier("LSTM", num_layers=2, bidirectional=True),
    "GRU": lambda: Classifier("GRU", bidirectional=True),
    "RNN": lambda: Classifier("RNN", nonlinearity="relu"),
    "cell": Steps,
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", list(MODULES))
def test_twenty_steps_of_pytorch_in_keras(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = MODULES[name]().double()
    hub = to_hub(module, tmp_path)
    exact = convert(hub, "tf", tmp_path, exact=True)
    assert training_notes(exact.weights, exact_training=True) == []
    assert all(each.recipe_kind == "bijective" for each in exact.weights.tensors)
    expected = train_torch(module)
    model = load_emitted(tmp_path)
    np.testing.assert_allclose(train_keras(model), expected, rtol=1e-8)
    for key, statistic in module.named_buffers():
        if key.startswith("norm.running"):
            slot = {"running_mean": "moving_mean", "running_var": "moving_variance"}[key.partition(".")[2]]
            np.testing.assert_allclose(getattr(model.norm, slot), statistic.numpy(), rtol=1e-8)


@pytest.mark.filterwarnings("ignore")
def test_without_it_what_trains_otherwise_is_named(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Classifier("LSTM").double()
    plain = convert(to_hub(module, tmp_path), "tf", tmp_path, exact=False)
    assert "keras.layers.LSTM(5" in plain.source
    assert "TwoBias" not in plain.source
    lossy = {each.target for each in plain.weights.tensors if each.recipe_kind == "lossy"}
    assert lossy == {"rnn/lstm_cell/bias", "norm/moving_variance"}
    notes = " ".join(training_notes(plain.weights, exact_training=False))
    assert all(name in notes for name in lossy)
    assert "--exact-training" in notes
    expected = train_torch(module)
    losses = train_keras(load_emitted(tmp_path))
    assert losses[0] == pytest.approx(expected[0], rel=1e-9)
    assert abs(losses[-1] - expected[-1]) > 1e-6


def batch_norm_of_keras(shape: Sequence[int | str]) -> ir.Model:
    """What a reader of TensorFlow makes of a batch normalization."""
    channels = 3
    tensors = {
        name: np.linspace(start, start + 1, channels)
        for name, start in (("gamma", 0.5), ("beta", -0.5), ("moving_mean", 0.1), ("moving_variance", 0.7))
    }
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.DOUBLE), shape=ir.Shape(shape))
    weights = []
    for name, array in tensors.items():
        value = ir.Value(name=name, const_value=ir.tensor(array), type=x.type, shape=ir.Shape([channels]))
        trains = name in ("gamma", "beta")
        info = metadata.WeightInfo(f"norm/{name}", "parameter" if trains else "buffer", trains)
        metadata.set_weight_info(value, info)
        weights.append(value)
    node = ir.node("BatchNormalization", [x, *weights], {"epsilon": 1e-3, "momentum": 0.75})
    node.outputs[0].name = "y"
    node.outputs[0].type = x.type
    node.outputs[0].shape = x.shape
    graph = ir.Graph([x], node.outputs, nodes=[node], initializers=weights, opset_imports={"": 23})
    model = ir.Model(graph, ir_version=10)
    metadata.set_source_info(model, metadata.SourceInfo("tf", "keras", inputs=("x",), outputs=("y",)))
    return model


@pytest.mark.parametrize("shape", [("N", 3), ("N", 3, 5), ("N", 3, 4, 5)])
def test_running_statistics_of_keras_in_pytorch(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    emitted = convert(batch_norm_of_keras(shape), "torch", tmp_path, exact=True)
    assert all(each.recipe_kind == "bijective" for each in emitted.weights.tensors)
    model = load_emitted(tmp_path).train()
    x = np.random.default_rng(0).normal(size=(4, *shape[1:]))  # type: ignore[arg-type]
    axes = tuple(axis for axis in range(x.ndim) if axis != 1)
    mean, variance = x.mean(axes), x.var(axes)
    y = model(torch.from_numpy(x)).detach().numpy()
    state = {name.rpartition(".")[2]: value.numpy() for name, value in model.state_dict().items()}
    np.testing.assert_allclose(
        state["running_mean"], 0.75 * np.linspace(0.1, 1.1, 3) + 0.25 * mean, rtol=1e-6
    )
    np.testing.assert_allclose(
        state["running_var"], 0.75 * np.linspace(0.7, 1.7, 3) + 0.25 * variance, rtol=1e-6
    )
    along = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
    normal = (x - mean.reshape(along)) / np.sqrt(variance.reshape(along) + 1e-3)
    scale, shift = np.linspace(0.5, 1.5, 3), np.linspace(-0.5, 0.5, 3)
    np.testing.assert_allclose(y, normal * scale.reshape(along) + shift.reshape(along), rtol=1e-6, atol=1e-9)
    assert model.eval()(torch.from_numpy(x)).shape == x.shape


def test_the_flag_changes_nothing_where_the_rules_agree(tmp_path: Path) -> None:
    hub = batch_norm_of_keras(("N", 3))
    plain, exact = (convert(hub, "torch", tmp_path, exact=flag) for flag in (False, True))
    assert "nn.BatchNorm1d(" in plain.source
    assert "BiasedBatchNorm(" in exact.source
    same = batch_norm_of_keras(("N", 3))
    metadata.set_source_info(same, metadata.SourceInfo("onnx", "onnx", inputs=("x",), outputs=("y",)))
    assert "nn.BatchNorm1d(" in convert(same, "torch", tmp_path, exact=True).source
