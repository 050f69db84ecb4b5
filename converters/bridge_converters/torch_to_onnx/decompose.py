"""Programs in terms of simpler operators, without mutation."""

from __future__ import annotations

from typing import Any

import torch
from torch._decomp import get_decompositions
from torch.export import ExportedProgram

from bridge_converters._whole_recurrences import whole_recurrences
from bridge_converters.torch_to_onnx import program as program_rewrites
from bridge_converters.torch_to_onnx.attention_dropout import annotate_ratios
from bridge_converters.torch_to_onnx.detached import mark_detached
from bridge_converters.torch_to_onnx.quiet import quiet

_aten = torch.ops.aten

_RECURRENCES = (_aten.lstm.input, _aten.gru.input, _aten.rnn_tanh.input, _aten.rnn_relu.input)
_ROUNDED_INSIDE = (
    _aten.native_layer_norm.default,
    _aten.native_group_norm.default,
    _aten._native_batch_norm_legit.no_stats,
    _aten._softmax.default,
    _aten._log_softmax.default,
    _aten.gelu.default,
)
"""Operators that PyTorch keeps whole, made of several steps that each round."""


def as_the_hub_names_it(program: ExportedProgram) -> ExportedProgram:
    """The program whose nodes the hub's `source_value` names: as the ONNX exporter sees it.

    The rewrites are those of the reader, the decomposition that of torch.onnx. Nodes that autograd does
    not record in the source carry the annotation `program.DETACHED`. The program is left as it is.
    """
    from torch.onnx._internal.exporter._core import _prepare_exported_program_for_export

    from bridge_converters.torch_to_onnx.translate import registry

    program = program_rewrites.copy_graph(program)
    program_rewrites.inline_gradient_switches(program)
    mark_detached(program)
    annotate_ratios(program, ())
    program_rewrites.spell_global_pooling(program)
    program_rewrites.copy_before_views(program)
    program_rewrites.mark_dropouts(program)
    program_rewrites.drop_constant_outputs(program)
    with whole_recurrences(), quiet():
        decomposed: ExportedProgram = _prepare_exported_program_for_export(program, registry=registry())
    return decomposed


def has_recurrences(program: ExportedProgram) -> bool:
    """Whether a program has recurrent layers, which are written step by step only for a known length."""
    return any(node.target in _RECURRENCES for node in program.graph.nodes)


def at_sizes(program: ExportedProgram, args: Any, kwargs: Any) -> ExportedProgram:
    """The program for arguments of exactly these sizes."""
    with torch.enable_grad(), quiet():
        return torch.export.export(program.module(), tuple(args), dict(kwargs), strict=False)


def into_single_roundings(program: ExportedProgram) -> ExportedProgram:
    """The program in operators that round about once for each element of their result."""
    table = {
        **torch.export.default_decompositions(),
        **get_decompositions(_ROUNDED_INSIDE),
        _aten._native_batch_norm_legit_no_training.default: _normalize,
    }
    with quiet():
        decomposed: ExportedProgram = program.run_decompositions(table)
    return decomposed


def _normalize(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor,
    running_var: torch.Tensor,
    momentum: float,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Batch normalization in inference as PyTorch's kernels compute it, by a scale and a shift along axis 1.

    The further results are empty, as PyTorch's are.
    """

    def along(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.reshape(1, -1, *[1] * (input.ndim - 2))

    scale = torch.rsqrt(running_var + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean * scale
    if bias is not None:
        shift = shift + bias
    result = input * along(scale) + along(shift)
    return result, input.new_empty((0,)), input.new_empty((0,))
