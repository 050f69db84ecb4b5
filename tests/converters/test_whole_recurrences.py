"""Exported recurrent layers take sequences of every length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from bridge_converters._whole_recurrences import whole_recurrences
from torch import Tensor, nn


class Net(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y, states = self.layer(x)
        return y, *(states if isinstance(states, tuple) else (states,))


LAYERS = {
    "lstm": nn.LSTM(4, 3, batch_first=True),
    "time first": nn.LSTM(4, 3),
    "stacked": nn.LSTM(4, 3, num_layers=2, bidirectional=True, bias=False, batch_first=True),
    "projected": nn.LSTM(4, 3, proj_size=2, bidirectional=True, batch_first=True),
    "gru": nn.GRU(4, 3, bidirectional=True, batch_first=True),
    "tanh": nn.RNN(4, 3, batch_first=True),
    "relu": nn.RNN(4, 3, nonlinearity="relu", num_layers=2),
}


@pytest.mark.parametrize("name", LAYERS)
def test_length_and_batch_stay_dynamic(name: str, tmp_path: Path) -> None:
    module = Net(LAYERS[name]).eval()
    axes = {0: torch.export.Dim("first"), 1: torch.export.Dim("second")}
    with whole_recurrences():
        program = torch.export.export(module, (torch.randn(3, 6, 4),), dynamic_shapes=(axes,), strict=False)
    torch.export.save(program, tmp_path / "net.pt2")
    loaded = torch.export.load(tmp_path / "net.pt2").module()
    for batch, steps in ((1, 1), (7, 3), (2, 40)):
        x = torch.randn(batch, steps, 4, requires_grad=True)
        for got, wanted in zip(loaded(x), module(x), strict=True):
            torch.testing.assert_close(got, wanted, rtol=0, atol=0)
        got, wanted = (torch.autograd.grad(each(x)[0].sum(), x)[0] for each in (loaded, module))
        torch.testing.assert_close(got, wanted, rtol=0, atol=0)


def test_kernels_are_restored() -> None:
    before = dict(torch.ops.aten.lstm.input.py_kernels)
    with pytest.raises(ZeroDivisionError), whole_recurrences():
        raise ZeroDivisionError
    assert torch.ops.aten.lstm.input.py_kernels == before
    assert before
