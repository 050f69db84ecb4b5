"""Names for the dynamic axes of a program."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.export import ExportedProgram

from bridge_converters.torch_to_onnx import names


def symbolic_axes(
    program: ExportedProgram, wanted: Mapping[int, Mapping[int, str]] | None = None
) -> dict[str, str]:
    """A readable name for each of torch's size symbols that stands alone as an input's axis.

    The user's own name where there is one (by position of the input, then axis), `batch` for axis 0,
    `<input>_axis<n>` for any other. The same symbol has one name throughout.
    """
    labels: dict[str, str] = {}
    for position, (name, value) in enumerate(
        zip(names.input_names(program), input_values(program), strict=True)
    ):
        for axis, size in enumerate(value.shape):
            symbol = str(size)
            if symbol in labels or not symbol.isidentifier():
                continue
            label = (wanted or {}).get(position, {}).get(axis)
            if label is None:
                label = "batch" if axis == 0 else f"{name}_axis{axis}"
            labels[symbol] = names.unique(label, labels.values())
    return labels


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
