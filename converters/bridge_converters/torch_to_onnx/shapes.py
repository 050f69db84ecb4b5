"""Names for the dynamic axes of a program."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.export import ExportedProgram


def symbol_labels(
    program: ExportedProgram, labels: Mapping[int, Mapping[int, str | int]]
) -> dict[str, str | int]:
    """What torch's size symbols are called, from the labels of the inputs' axes (by input, then axis)."""
    return {
        str(size): labels[position][axis]
        for position, value in enumerate(input_values(program))
        for axis, size in enumerate(value.shape)
        if axis in labels.get(position, {})
    }


def dynamic_batch(program: ExportedProgram) -> bool:
    """Whether axis 0 of some input may vary (a program without tensor inputs has nothing that is fixed)."""
    batches = [value.shape[0] for value in input_values(program) if value.ndim]
    return not batches or not all(map(is_fixed, batches))


def is_fixed(size: int | torch.SymInt) -> bool:
    """Whether a size is a number; torch.export leaves a symbolic size that it found to be one symbolic."""
    return str(size).isdigit()


def input_values(program: ExportedProgram) -> list[torch.Tensor]:
    """The fake tensors of a program's tensor inputs, in order."""
    placeholders = {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }
    values = [placeholders.get(name) for name in program.graph_signature.user_inputs if isinstance(name, str)]
    return [value for value in values if isinstance(value, torch.Tensor)]
