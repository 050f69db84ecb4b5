"""Packed sequences arrive as recurrent operators with lengths, and the exported program trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.load import load_runnable
from bridge_converters.torch_to_onnx.packed import operator_for, padded_sequences
from bridge_converters.torch_to_onnx.reader import read
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils import _pytree as pytree

from bridge.errors import BridgeError
from bridge.formats.request import ReadRequest
from bridge.hub import metadata

LAYERS = {
    "lstm": nn.LSTM(4, 3, 2, bidirectional=True, batch_first=True),
    "gru": nn.GRU(4, 3, bidirectional=True),
    "tanh": nn.RNN(4, 3, bias=False),
    "relu": nn.RNN(4, 3, 2, nonlinearity="relu"),
}
PAIRS = ((torch.randn(3, 7, 4), [7, 2, 5]), (torch.randn(2, 9, 4), [4, 8]), (torch.randn(1, 3, 4), [1]))


class Net(nn.Module):
    def __init__(self, layer: nn.Module, *, total: bool = False, padding: float = 0.0) -> None:
        super().__init__()
        self.layer = layer
        self.total = total
        self.padding = padding

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        y, states = self.layer(packed)
        y, again = pad_packed_sequence(
            y,
            batch_first=True,
            padding_value=self.padding,
            total_length=x.shape[1] if self.total else None,
        )
        return y, states, again


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("options", [{}, {"total": True}, {"padding": -1.0}], ids=str)
def test_every_length(layer: str, options: dict[str, Any], tmp_path: Path) -> None:
    module = Net(LAYERS[layer], **options).eval()
    export_module(module, (torch.randn(3, 6, 4), torch.tensor([6, 2, 4])), tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["batch", "sequence", "4"]
    kept = [info.path for info in map(metadata.weight_info, model.graph.initializers.values()) if info]
    assert sorted(kept) == sorted(name for name, _ in module.named_parameters())
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    for x, ends in PAIRS:
        lengths = torch.tensor(ends)
        with torch.no_grad():
            wanted = pytree.tree_leaves(module(x, lengths))
        for got, each in zip(
            session.run(None, {"x": x.numpy(), "lengths": lengths.numpy()}), wanted, strict=True
        ):
            np.testing.assert_allclose(got, each.numpy(), rtol=1e-4, atol=1e-6)


def test_the_exported_program_has_the_gradients_of_its_source(tmp_path: Path) -> None:
    module = Net(LAYERS["lstm"]).eval()
    export_module(module, (torch.randn(3, 6, 4), torch.tensor([6, 2, 4])), tmp_path / "net.pt2")
    runnable = load_runnable(ReadRequest(str(tmp_path / "net.pt2"), "pt2")).double()
    x, lengths = PAIRS[0][0].double(), torch.tensor(PAIRS[0][1])
    found = []
    for run in (runnable.run, module.double()):
        leaf = x.clone().requires_grad_()
        y, *_ = run(leaf, lengths)
        (y**2).sum().backward()
        found.append(leaf.grad)
    module.float()
    torch.testing.assert_close(found[0], found[1])


def test_the_operators_are_sound() -> None:
    x, lengths = torch.randn(4, 2, 3), torch.tensor([2, 4])
    layer = nn.GRU(3, 5)
    torch.library.opcheck(
        operator_for("gru"),
        (x, lengths, [torch.zeros(1, 2, 5)], layer._flat_weights, True, 1, 0.0, False),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


def test_packing_is_as_before_afterwards() -> None:
    x, lengths = torch.randn(2, 3, 4), torch.tensor([3, 1])
    code, forward = pack_padded_sequence.__code__, nn.LSTM.forward
    with padded_sequences():
        assert pack_padded_sequence.__code__ is not code
    assert pack_padded_sequence.__code__ is code
    assert nn.LSTM.forward is forward
    assert pack_padded_sequence(x, lengths, batch_first=True).data.shape == (4, 4)


def test_the_packed_data_cannot_be_read(tmp_path: Path) -> None:
    class Reads(nn.Module):
        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            return PackedSequence(packed.data * 2, packed.batch_sizes).data

    inputs = (torch.randn(3, 6, 4), torch.tensor([6, 2, 4]))
    with pytest.raises(BridgeError, match="depend on its lengths") as caught:
        export_module(Reads(), inputs, tmp_path / "net.pt2")
    assert "test_packed.py" in (caught.value.where or "")


def test_lengths_from_a_specification_are_not_zero(tmp_path: Path) -> None:
    inputs = {"x": "NxTx4", "lengths": "N:int64"}
    export_module(Net(LAYERS["lstm"], total=True), inputs, tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    assert [str(size) for size in model.graph.inputs[0].shape or ()] == ["N", "T", "4"]
