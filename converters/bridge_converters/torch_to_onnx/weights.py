"""Parameters, buffers and constants of a program as the hub records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from bridge.hub.metadata import WeightInfo, WeightKind

_KINDS: Mapping[InputKind, WeightKind] = {
    InputKind.PARAMETER: "parameter",
    InputKind.BUFFER: "buffer",
    InputKind.CONSTANT_TENSOR: "constant",
}
_BATCH_COUNTER = "num_batches_tracked"


def weight_records(
    program: ExportedProgram, kinds: Mapping[str, WeightInfo] | None = None
) -> dict[str, WeightInfo]:
    """The record of every parameter, buffer and constant of a program, by each of its paths.

    Tied tensors share one record: its path is the first in the module's order, the others are its
    aliases. `kinds` overrides kind and trainable flag by path.
    """
    records: dict[str, WeightInfo] = {}
    first: dict[object, str] = {}
    for spec in program.graph_signature.input_specs:
        kind = _KINDS.get(spec.kind)
        if kind is None or spec.target is None:
            continue
        tensor = tensor_of(program, spec.target)
        own = (kinds or {}).get(spec.target)
        record = own or WeightInfo(spec.target, kind, kind == "parameter" and tensor.requires_grad)
        key = identity(tensor)
        if key in first:
            owner = records[first[key]]
            tied = replace(
                owner, trainable=owner.trainable or record.trainable, aliases=(*owner.aliases, spec.target)
            )
            for path in (tied.path, *tied.aliases):
                records[path] = tied
            continue
        records[spec.target] = record
        if key is not None:
            first[key] = spec.target
    return records


def tensor_of(program: ExportedProgram, path: str) -> torch.Tensor:
    """A parameter, buffer (persistent or not) or constant of a program by its path."""
    found = program.state_dict.get(path)
    if found is None:
        found = program.constants[path]
    assert isinstance(found, torch.Tensor)
    return found


def is_batch_counter(path: str) -> bool:
    """Whether a buffer is batch normalization's count of batches, which no output ever depends on."""
    return path.rsplit(".", 1)[-1] == _BATCH_COUNTER


def identity(tensor: torch.Tensor) -> object:
    """Equal for two names of the same memory seen in the same way; None for tensors without memory."""
    if tensor.numel() == 0 or tensor.data_ptr() == 0:
        return None
    return (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tuple(tensor.stride()))
