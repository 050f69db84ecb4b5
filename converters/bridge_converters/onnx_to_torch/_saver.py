"""Saving an emitted PyTorch module as `.pt2`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram

from bridge.emit.dialect import Signature
from bridge.emit.imported import load_emitted
from bridge.errors import BridgeError
from bridge_converters._whole_recurrences import whole_recurrences

ARTIFACT = "model.pt2"
_TRIED_SIZES = (32, 64, 128, 224, 512, 8)
_TRIED_INTEGERS = ((0, 2), (1, 2), (0, 1))
"""Bounds of the integers to try: indices may be 0, divisors may not, of one element there is no second."""


def save(directory: Path, inputs: Signature, outputs: Signature) -> list[str]:
    """Write `model.pt2` beside `model.py`, dynamic where the model is.

    Raises BridgeError with the reason and the line of model.py if the module cannot be exported.
    """
    return save_module(load_emitted(directory), directory, inputs)


def save_module(module: nn.Module, directory: Path, inputs: Signature) -> list[str]:
    """Write `model.pt2` of a module that takes these inputs into a directory. Raises as `save` does."""
    if inputs.others:
        raise BridgeError(
            f"a .pt2 takes tensors, and these are lists or may be None: {', '.join(inputs.others)}",
            hint="model.py and its weights are complete without model.pt2; choose a directory as output",
        )
    failure: Exception | None = None
    for size, integers in itertools.product(_TRIED_SIZES, _TRIED_INTEGERS):
        examples = tuple(
            _example(shape, dtype, size, integers)
            for shape, dtype in zip(inputs.shapes, inputs.carriers, strict=True)
        )
        try:
            with torch.no_grad():
                module(*examples)
        except (RuntimeError, IndexError, ValueError) as error:
            failure = error
            if integers == _TRIED_INTEGERS[-1] and not _has_free_sizes(inputs):
                break
            continue
        return _export(module, examples, inputs, directory)
    raise BridgeError(
        f"the emitted module does not run on example inputs: {_first_line(failure)}",
        where=_line_of(failure, directory),
        hint="model.py and its weights are complete without model.pt2; choose a directory as output",
    )


def _export(
    module: nn.Module, examples: tuple[torch.Tensor, ...], inputs: Signature, directory: Path
) -> list[str]:
    dims: dict[str, Any] = {}
    shapes: list[dict[int, Any]] = []
    for shape in inputs.shapes:
        axes = {axis: size for axis, size in enumerate(shape or ()) if isinstance(size, str)}
        shapes.append(
            {axis: dims.setdefault(name, torch.export.Dim(f"d{len(dims)}")) for axis, name in axes.items()}
        )
    notes: list[str] = []
    try:
        with whole_recurrences():
            program = torch.export.export(module, examples, dynamic_shapes=tuple(shapes), strict=False)
    except Exception as error:  # torch.export fails with many types, and each is reported
        automatic = tuple(dict.fromkeys(each, torch.export.Dim.AUTO) for each in shapes)
        try:
            with whole_recurrences():
                program = torch.export.export(module, examples, dynamic_shapes=automatic, strict=False)
        except Exception as second:
            raise BridgeError(
                f"torch.export cannot export the emitted module: {_first_line(second)}",
                where=_line_of(second, directory),
                hint="model.py and its weights are complete without model.pt2; choose a directory as output",
            ) from second
        if _dynamic_axes(program) < sum(map(len, shapes)):
            notes.append(f"model.pt2 has fewer dynamic axes than model.py: {_first_line(error)}")
    try:
        torch.export.save(program, directory / ARTIFACT)
    except Exception as error:  # serialising fails with many types, for operators that it does not know
        (directory / ARTIFACT).unlink(missing_ok=True)
        raise BridgeError(
            f"torch.export cannot save the emitted module: {_first_line(error)[:200]}",
            hint="model.py and its weights are complete without model.pt2; choose a directory as output",
        ) from error
    return notes


def _dynamic_axes(program: ExportedProgram) -> int:
    """How many axes of the inputs of a program are dynamic."""
    inputs = set(program.graph_signature.user_inputs)
    return sum(
        isinstance(size, torch.SymInt) and not str(size).isdigit()
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in inputs and isinstance(node.meta["val"], torch.Tensor)
        for size in node.meta["val"].shape
    )


def _has_free_sizes(inputs: Signature) -> bool:
    """Whether an axis other than the first is dynamic, so that another size may be tried."""
    return any(isinstance(size, str) for shape in inputs.shapes for size in (shape or ())[1:])


def _example(
    shape: tuple[int | str, ...] | None, dtype: str, size: int, integers: tuple[int, int]
) -> torch.Tensor:
    """A batch of 2 (1 would be taken for a constant), other dynamic axes of the size to try."""
    if shape is None:
        raise BridgeError("an input of unknown rank has no example", hint="convert with --input NAME=SHAPE")
    sizes = [each if isinstance(each, int) else 2 if axis == 0 else size for axis, each in enumerate(shape)]
    kind = getattr(torch, dtype)
    generator = torch.Generator().manual_seed(0)
    if kind.is_floating_point:
        return torch.rand(sizes, generator=generator).to(kind)
    return torch.randint(*integers, sizes, generator=generator).to(kind)


def _first_line(error: Exception | None) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _line_of(error: Exception | None, directory: Path) -> str | None:
    """The line of model.py at which an error was raised."""
    traceback = None if error is None else error.__traceback__
    line = None
    while traceback is not None:
        if traceback.tb_frame.f_code.co_filename == str(directory / "model.py"):
            line = f"model.py:{traceback.tb_lineno}"
        traceback = traceback.tb_next
    return line
