"""Activations that the exporter takes apart, or computes where they overflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx_ir as ir
import torch
from onnxscript import opset23
from onnxscript.function_libs.torch_lib.ops.nn import aten_elu, aten_softplus

op: Any = opset23
"""While the exporter records, onnxscript's operators take and return graph values, unlike their types."""

_LINEAR_FROM = 20.0
"""From here on log(1 + exp(x)) is x in single precision, and PyTorch returns x."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The operators of `nn.Softplus`, `nn.LogSigmoid` and `nn.ELU`."""
    aten = torch.ops.aten
    return {
        aten.softplus.default: _softplus,
        aten.log_sigmoid.default: _log_sigmoid,
        aten.elu.default: _elu,
    }


def _softplus(self: ir.Value, beta: float = 1.0, threshold: float = _LINEAR_FROM) -> Any:
    """log(1 + exp(x)), linear from the threshold on."""
    if beta == 1.0 and threshold >= _LINEAR_FROM:
        return op.Softplus(self)
    return aten_softplus(self, beta, threshold)


def _log_sigmoid(self: ir.Value) -> Any:
    """-log(1 + exp(-x)); the logarithm of a sigmoid is infinite where that is 0."""
    return op.Neg(op.Softplus(op.Neg(self)))


def _elu(self: ir.Value, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if scale == 1.0 and input_scale == 1.0:
        return op.Elu(self, alpha=float(alpha))
    return aten_elu(self, alpha, scale, input_scale)
