"""Sequences and optionals, which are Python lists and None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bridge_converters.onnx_to_torch._table import lowering

Ints = tuple[int, ...]
Sequence = list[Tensor]


@lowering("SequenceEmpty")
def sequence_empty(*, dtype: int | None = None) -> list[Tensor]:
    """A sequence of no tensors."""
    return []


@lowering("SequenceConstruct")
def sequence_construct(*inputs: Tensor) -> list[Tensor]:
    """The sequence of the tensors."""
    return list(inputs)


@lowering("SequenceAt", const=("position",))
def sequence_at(input_sequence: Sequence, position: int | Tensor) -> Tensor:
    """The tensor at a position, which may count from the end."""
    if isinstance(position, int):
        return input_sequence[position]
    return input_sequence[int(position)]


@lowering("SequenceInsert", const=("position",))
def sequence_insert(
    input_sequence: Sequence, tensor: Tensor, position: int | Tensor | None = None
) -> list[Tensor]:
    """The sequence with a tensor more, before a position or at the end."""
    if position is None:
        return [*input_sequence, tensor]
    return inserted(input_sequence, tensor, position)


def inserted(sequence: list[Tensor], tensor: Tensor, position: int | Tensor) -> list[Tensor]:
    """A list with a tensor before a position."""
    result = list(sequence)
    result.insert(int(position), tensor)
    return result


@lowering("SequenceErase", const=("position",))
def sequence_erase(input_sequence: Sequence, position: int | Tensor | None = None) -> list[Tensor]:
    """The sequence without the tensor at a position, or without the last."""
    if position is None:
        return input_sequence[:-1]
    return erased(input_sequence, position)


def erased(sequence: list[Tensor], position: int | Tensor) -> list[Tensor]:
    """A list without the tensor at a position."""
    result = list(sequence)
    del result[int(position)]
    return result


@lowering("SequenceLength")
def sequence_length(input_sequence: Sequence) -> Tensor:
    """How many tensors a sequence has."""
    return torch.tensor(len(input_sequence))


@lowering("SplitToSequence", const=("split",))
def split_to_sequence(
    x: Tensor, split: int | Ints | Tensor | None = None, *, axis: int = 0, keepdims: int = 1
) -> list[Tensor]:
    """The parts of x along an axis: of given sizes, of one size with a smaller last one, or of size 1."""
    if split is None and keepdims:
        return list(torch.split(x, 1, axis))
    if split is None:
        return list(x.unbind(axis))
    if isinstance(split, tuple):
        return list(torch.split(x, list(split), axis))
    if isinstance(split, int):
        return list(torch.split(x, split, axis))
    return list(torch.split(x, split.tolist(), axis))


@lowering("ConcatFromSequence")
def concat_from_sequence(input_sequence: Sequence, *, axis: int, new_axis: int = 0) -> Tensor:
    """The tensors of a sequence joined along an axis, or along a new one."""
    if new_axis:
        return torch.stack(input_sequence, axis)
    return torch.cat(input_sequence, axis)


@lowering("SequenceMap")
def sequence_map(
    input_sequence: Sequence, *additional_inputs: Any, body: Callable[..., Any], outputs: int
) -> Any:
    """The sequences of what the body gives for each tensor; further tensors are the same for all."""
    results = mapped(body, input_sequence, additional_inputs, outputs)
    return results[0] if outputs == 1 else results


def mapped(
    body: Callable[..., Any], sequence: list[Tensor], others: tuple[Any, ...], outputs: int
) -> tuple[list[Tensor], ...]:
    """For each result of a body, the list of what it is for each tensor of a sequence."""
    columns = [each if isinstance(each, list) else [each] * len(sequence) for each in others]
    rows = [body(*row) for row in zip(sequence, *columns, strict=True)]
    if outputs == 1:
        return (rows,)
    return tuple([row[index] for row in rows] for index in range(outputs))


@lowering("Optional")
def optional(x: Any = None, *, type: Any = None) -> Any:
    """The tensor or sequence itself, or None."""
    return x


@lowering("OptionalHasElement")
def optional_has_element(x: Any = None) -> Tensor:
    """Whether there is a tensor or sequence."""
    return torch.tensor(x is not None)


@lowering("OptionalGetElement")
def optional_get_element(x: Any) -> Any:
    """The tensor or sequence that an optional has."""
    return x
