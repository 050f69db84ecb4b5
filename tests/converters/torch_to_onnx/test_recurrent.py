"""PyTorch's recurrent modules and cells as ONNX's operators."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnxruntime as ort
import pytest
import torch
from bridge_converters.torch_to_onnx import reader
from torch import Tensor, nn
from torch.export import Dim

from bridge.formats.request import ReadRequest
from bridge.hub import metadata

FEATURES, HIDDEN = 3, 4


class Sequences(nn.Module):
    """A recurrent module with everything that it gives."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.rnn = getattr(nn, kind)(FEATURES, HIDDEN, **options)

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, last = self.rnn(x, (states if len(states) == 2 else states[0]) if states else None)
        return (y, *last) if isinstance(last, tuple) else (y, last)


class Unrolled(nn.Module):
    """A cell called three times."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__()
        self.cell = getattr(nn, kind)(FEATURES, HIDDEN, **options)

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], HIDDEN)
        states: Any = (state, state) if isinstance(self.cell, nn.LSTMCell) else state
        for step in range(3):
            states = self.cell(x[:, step], states)
        return states[0] if isinstance(states, tuple) else states


def read(module: nn.Module, inputs: tuple[Tensor, ...], directory: Path) -> ir.Model:
    """What the reader makes of a module; the batch is dynamic."""
    path = directory / "model.pt2"
    shapes: list[Any] = [{0: Dim.AUTO, 1: Dim.AUTO}, *({1: Dim.AUTO} for _ in inputs[1:])]
    arguments = (shapes[0], tuple(shapes[1:])) if inputs[1:] else (shapes[0],)
    torch.export.save(torch.export.export(module.eval(), inputs, dynamic_shapes=arguments), path)
    return reader.read(ReadRequest(str(path), "pt2"))


def check(model: ir.Model, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    names = [each.name for each in session.get_inputs()]
    results = session.run(None, {name: each.numpy() for name, each in zip(names, inputs, strict=True)})
    with torch.no_grad():
        expected = module(*inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    for result, tensor in zip(results, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(result), tensor)


def count(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in ir.traversal.RecursiveGraphIterator(model.graph))


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "no bias, batch first": {"bias": False, "batch_first": True},
    "two layers of two directions": {"num_layers": 2, "bidirectional": True, "dropout": 0.25},
}


@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.filterwarnings("ignore")
def test_modules_are_one_operator_a_layer(kind: str, options: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    given = OPTIONS[options]
    layers, directions = given.get("num_layers", 1), 1 + given.get("bidirectional", False)
    module = Sequences(kind, **given)

    def states(batch: int) -> list[Tensor]:
        shape = (layers * directions, batch, HIDDEN)
        return [torch.randn(shape) for _ in range(2 if kind == "LSTM" else 1)]

    first = "first" in options

    def inputs(batch: int) -> tuple[Tensor, ...]:
        return torch.randn(batch, 5, FEATURES) if first else torch.randn(5, batch, FEATURES), *states(batch)

    model = read(module, inputs(6), tmp_path)
    assert count(model)[kind] == layers
    assert count(model)["Dropout"] == layers - 1
    check(model, module, inputs(2))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.filterwarnings("ignore")
def test_a_projected_state_is_a_scan(layers: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Sequences("LSTM", proj_size=2, num_layers=layers, bidirectional=layers == 2, bias=layers == 2)
    model = read(module, (torch.randn(5, 6, FEATURES),), tmp_path)
    assert count(model)["Scan"] == (4 if layers == 2 else 1)
    assert "LSTM at rnn is a composed loop" in " ".join(metadata.source_info(model).notes)
    check(model, module, (torch.randn(5, 7, FEATURES),))


@pytest.mark.filterwarnings("ignore")
def test_rectified_recurrences(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Sequences("RNN", nonlinearity="relu", bidirectional=True)
    model = read(module, (torch.randn(5, 6, FEATURES),), tmp_path)
    assert count(model)["RNN"] == 1
    check(model, module, (torch.randn(5, 2, FEATURES),))


@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTMCell", {}), ("LSTMCell", {"bias": False}), ("GRUCell", {}), ("RNNCell", {"nonlinearity": "relu"})],
)
@pytest.mark.filterwarnings("ignore")
def test_cells_are_operators_over_one_step(kind: str, options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Unrolled(kind, **options)
    model = read(module, (torch.randn(2, 3, FEATURES),), tmp_path)
    assert count(model)[kind.removesuffix("Cell")] == 3
    check(model, module, (torch.randn(5, 3, FEATURES),))
