"""Sequences and optionals, which are Python lists and None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from bridge_converters.onnx_to_tf._table import lowering

Ints = tuple[int, ...]
Sequence = list[tf.Tensor]


@lowering("SequenceEmpty")
def sequence_empty(*, dtype: int | None = None) -> list[tf.Tensor]:
    """A sequence of no tensors."""
    return []


@lowering("SequenceConstruct")
def sequence_construct(*inputs: tf.Tensor) -> list[tf.Tensor]:
    """The sequence of the tensors."""
    return list(inputs)


@lowering("SequenceAt", const=("position",))
def sequence_at(input_sequence: Sequence, position: int | tf.Tensor) -> tf.Tensor:
    """The tensor at a position, which may count from the end."""
    if isinstance(position, int):
        return input_sequence[position]
    return element(input_sequence, position)


def element(sequence: list[tf.Tensor], position: tf.Tensor) -> tf.Tensor:
    """The tensor of a list at a computed position."""
    known = tf.get_static_value(tf.reshape(position, ()))
    if known is not None:
        return sequence[int(known)]
    index = tf.cast(tf.reshape(position, ()) % len(sequence), tf.int32)
    return tf.switch_case(index, [lambda each=each: each for each in sequence])


@lowering("SequenceInsert", const=("position",))
def sequence_insert(
    input_sequence: Sequence, tensor: tf.Tensor, position: int | tf.Tensor | None = None
) -> list[tf.Tensor]:
    """The sequence with a tensor more, before a position or at the end."""
    if position is None:
        return [*input_sequence, tensor]
    return inserted(input_sequence, tensor, position)


def inserted(sequence: list[tf.Tensor], tensor: tf.Tensor, position: int | tf.Tensor) -> list[tf.Tensor]:
    """A list with a tensor before a position."""
    known = tf.get_static_value(tf.reshape(position, ()))
    count = len(sequence)
    if known is not None:
        place = range(count + 1)[int(known)] if known >= 0 else range(count)[int(known)]
        return [*sequence[:place], tensor, *sequence[place:]]
    place = tf.cast(tf.reshape(position, ()), tf.int32)
    place = tf.where(place < 0, place + count, place)
    padded = [tensor, *sequence, tensor]
    results = []
    for index in range(count + 1):
        choices = (padded[index + 1], tensor, padded[index])
        branches = [lambda each=each: each for each in choices]
        results.append(tf.switch_case(tf.sign(index - place) + 1, branches))
    return results


@lowering("SequenceErase", const=("position",))
def sequence_erase(input_sequence: Sequence, position: int | tf.Tensor | None = None) -> list[tf.Tensor]:
    """The sequence without the tensor at a position, or without the last."""
    if position is None:
        return input_sequence[:-1]
    return erased(input_sequence, position)


def erased(sequence: list[tf.Tensor], position: int | tf.Tensor) -> list[tf.Tensor]:
    """A list without the tensor at a position."""
    known = tf.get_static_value(tf.reshape(position, ()))
    if known is not None:
        place = range(len(sequence))[int(known)]
        return [*sequence[:place], *sequence[place + 1 :]]
    place = tf.cast(tf.reshape(position, ()) % len(sequence), tf.int32)
    return [
        tf.cond(index < place, lambda index=index: sequence[index], lambda index=index: sequence[index + 1])
        for index in range(len(sequence) - 1)
    ]


@lowering("SequenceLength")
def sequence_length(input_sequence: Sequence) -> tf.Tensor:
    """How many tensors a sequence has."""
    return tf.constant(len(input_sequence), tf.int64)


@lowering("SplitToSequence", const=("split",))
def split_to_sequence(
    x: tf.Tensor, split: int | Ints | tf.Tensor | None = None, *, axis: int = 0, keepdims: int = 1
) -> Any:
    """The parts of x along an axis: of given sizes, of one size with a smaller last one, or of size 1."""
    if split is None and not keepdims:
        return tf.unstack(x, axis=axis)
    if isinstance(split, tuple):
        return tf.split(x, split, axis)
    return split_evenly(x, 1 if split is None else split, axis)


def split_evenly(x: tf.Tensor, split: int | tf.Tensor, axis: int) -> Any:
    """The parts of x along an axis: of one size with a smaller last one, or of computed sizes."""
    sizes = tf.convert_to_tensor(split)
    if sizes.shape.rank == 1:
        return tf.split(x, sizes, axis)
    size = tf.get_static_value(sizes)
    length = x.shape[axis]
    if size is None or length is None:
        raise ValueError("the length of a list of tensors is computed: call the model outside tf.function")
    return tf.split(x, [min(int(size), length - first) for first in range(0, length, int(size))], axis)


@lowering("ConcatFromSequence")
def concat_from_sequence(input_sequence: Sequence, *, axis: int, new_axis: int = 0) -> tf.Tensor:
    """The tensors of a sequence joined along an axis, or along a new one."""
    if new_axis:
        return tf.stack(input_sequence, axis)
    return tf.concat(input_sequence, axis)


@lowering("SequenceMap")
def sequence_map(
    input_sequence: Sequence, *additional_inputs: Any, body: Callable[..., Any], outputs: int
) -> Any:
    """The sequences of what the body gives for each tensor; further tensors are the same for all."""
    results = mapped(body, input_sequence, additional_inputs, outputs)
    return results[0] if outputs == 1 else results


def mapped(
    body: Callable[..., Any], sequence: list[tf.Tensor], others: tuple[Any, ...], outputs: int
) -> tuple[list[tf.Tensor], ...]:
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
def optional_has_element(x: Any = None) -> tf.Tensor:
    """Whether there is a tensor or sequence."""
    return tf.constant(x is not None)


@lowering("OptionalGetElement")
def optional_get_element(x: Any) -> Any:
    """The tensor or sequence that an optional has."""
    return x
