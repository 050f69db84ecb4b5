"""Activations arrive as one operator each, and hold where an exponential overflows."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import onnxruntime
import pytest
import torch
from bridge_converters.torch_to_onnx.export import export_module
from bridge_converters.torch_to_onnx.reader import read
from torch import nn

from bridge.formats.request import ReadRequest


@pytest.mark.parametrize(
    ("module", "operators"),
    [
        (nn.Softplus(), ["Softplus"]),
        (nn.Softplus(2.0, 5.0), None),
        (nn.LogSigmoid(), ["Neg", "Softplus", "Neg"]),
        (nn.ELU(0.5), ["Elu"]),
        (nn.SELU(), ["Selu"]),
        (nn.Hardswish(), ["HardSwish"]),
        (nn.Mish(), ["Mish"]),
        (nn.GELU("tanh"), ["Gelu"]),
    ],
)
def test_activations(module: nn.Module, operators: list[str] | None, tmp_path: Path) -> None:
    x = torch.linspace(-200, 200, 90).reshape(9, 10)
    export_module(module, x, tmp_path / "net.pt2")
    model = read(ReadRequest(str(tmp_path / "net.pt2"), "pt2"))
    if operators is not None:
        assert [node.op_type for node in model.graph] == operators
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (got,) = session.run(None, {"input": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-5, atol=1e-6)
