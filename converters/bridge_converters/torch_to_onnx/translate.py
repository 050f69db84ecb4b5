"""From an ExportedProgram to an ONNX graph by PyTorch's own exporter, nothing optimised away."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import onnx_ir as ir
import torch
from onnxscript import opset23 as op
from onnxscript.function_libs.torch_lib.ops.core import (
    aten_convolution,
    aten_div_mode,
    aten_floor_divide,
)
from torch.export import ExportedProgram
from torch.onnx._internal.exporter._registration import ONNXRegistry
from torch.onnx._internal.exporter._torchlib.ops.hop import higher_order_scan
from torch.onnx.errors import OnnxExporterError

from bridge_converters._whole_recurrences import whole_recurrences
from bridge_converters.torch_to_onnx.activations import translations as activation_translations
from bridge_converters.torch_to_onnx.attention import translations as attention_translations
from bridge_converters.torch_to_onnx.failures import translation_failure
from bridge_converters.torch_to_onnx.program import detached_marker, dropout_marker
from bridge_converters.torch_to_onnx.quiet import quiet
from bridge_converters.torch_to_onnx.recurrent import translations as recurrent_translations

OPSET = 23


@dataclass(frozen=True)
class Translation:
    """The exporter's graph, the decomposed program whose nodes it names, and the seconds it took."""

    model: ir.Model
    program: ExportedProgram
    seconds: float


def translate(program: ExportedProgram) -> Translation:
    """Export a program to ONNX at the hub's opset.

    Raises UnsupportedOps listing every operator that the exporter has no translation for, and
    BridgeError with the user's source line for any other failure of the exporter.
    """
    start = time.perf_counter()
    with whole_recurrences(), quiet():
        try:
            result = torch.onnx.export(
                program,
                (),
                dynamo=True,
                optimize=False,
                verbose=False,
                opset_version=OPSET,
                custom_translation_table=_translations(),
            )
        except OnnxExporterError as error:
            raise translation_failure(error, program) from error
    assert result is not None
    assert result.exported_program is not None
    return Translation(result.model, result.exported_program, time.perf_counter() - start)


def registry() -> ONNXRegistry:
    """The operators that `translate` has a translation for; which decides what it decomposes."""
    known = ONNXRegistry.from_torchlib(opset_version=OPSET)
    for target, function in _translations().items():
        known.register_op(target, function, is_complex=False)
    return known


def _translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    aten = torch.ops.aten
    return {
        dropout_marker(): _dropout,
        detached_marker(): _detached,
        aten.conv1d.default: _convolution,
        aten.conv2d.default: _convolution,
        aten.conv3d.default: _convolution,
        aten.div.Tensor_mode: _divide,
        aten.div.Scalar_mode: _divide,
        torch.ops.higher_order.map_impl: _map,
        **activation_translations(),
        **attention_translations(),
        **recurrent_translations(),
    }


def _divide(self: ir.Value, other: Any, rounding_mode: str | None = None) -> ir.Value:
    """Integers divided as integers: the exporter's own translation passes through float32, exact to 2^24."""
    integers = self.dtype is not None and self.dtype.is_integer()
    both = integers and (isinstance(other, int) or (other.dtype is not None and other.dtype.is_integer()))
    if rounding_mode is None or not both:
        return cast(ir.Value, aten_div_mode(self, other, rounding_mode))
    if rounding_mode == "floor":
        return cast(ir.Value, aten_floor_divide(self, other))
    divide: Any = op.Div
    return cast(ir.Value, divide(self, other))


def _map(body: ir.Function, xs: Sequence[ir.Value], constants: Sequence[ir.Value]) -> Sequence[ir.Value]:
    """A function of each element along axis 0, as a Scan without states."""
    return higher_order_scan(body, [], xs, constants)


def _dropout(input: ir.Value, ratio: float) -> ir.Value:
    # While the exporter records, onnxscript's operators take and return graph values, unlike their types.
    dropout: Any = op.Dropout
    output: ir.Value
    output, _ = dropout(input, op.Constant(value_float=ratio))
    return output


def _detached(input: ir.Value) -> ir.Value:
    """A copy, which `annotate` says the meaning of."""
    identity: Any = op.Identity
    output: ir.Value = identity(input)
    return output


def _convolution(
    input: ir.Value,
    weight: ir.Value,
    bias: ir.Value | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> ir.Value:
    """A convolution that leaves a missing bias out; the exporter's own for these operators computes zeros."""
    convolution: Any = aten_convolution
    result: ir.Value = convolution(input, weight, bias, stride, padding, dilation, False, (0,), groups)
    return result
