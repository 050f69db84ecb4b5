"""Recurrences as ONNX's operators in a traced graph, whichever version of Keras has the layers.

This module also runs in an old environment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from bridge.worker.compatible import zip_equal
from bridge_converters.tf_to_onnx.markers import mark, mark_several

ORDERS: Mapping[str, tuple[int, ...]] = {"LSTM": (0, 3, 1, 2), "GRU": (0, 1, 2), "RNN": (0,)}
"""Where Keras has the gates of an operator: i o f c among i f c o."""


@dataclass(frozen=True)
class Cell:
    """One cell: its operator with the attributes that say what it computes, and Keras' weights.

    The kernels are (inputs, gates * units) and (units, gates * units), the bias (gates * units), (2, gates *
    units) or None. `states` is how many states it has.
    """

    operator: str
    attributes: Mapping[str, Any]
    units: int
    states: int
    kernel: Any
    recurrent_kernel: Any
    bias: Any


def attributes_of(
    units: int,
    functions: Sequence[Any],
    known: Mapping[Any, tuple[str, float | None, float | None]],
    **more: Any,
) -> dict[str, Any] | None:
    """The attributes of an operator whose gates have these activation functions, with `more` of its own.

    `known` tells ONNX's name of a function, with its alpha and beta where it has them; None for another.
    """
    if any(function not in known for function in functions):
        return None
    names, alphas, betas = zip_equal(*(known[function] for function in functions))
    attributes = dict(more, hidden_size=units, activations=list(names))
    for name, values in (("activation_alpha", alphas), ("activation_beta", betas)):
        given = [value for value in values if value is not None]
        if given:
            attributes[name] = given
    return attributes


def recur(
    cells: Sequence[Cell],
    sequences: tf.Tensor,
    first: Sequence[tf.Tensor],
    mask: tf.Tensor | None,
    *,
    go_backwards: bool,
    return_sequences: bool,
    zero_output_for_mask: bool,
) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
    """The last output of stacked cells, all outputs (batch, steps, units), and the last states, flat.

    `sequences` are (batch, steps, size), `first` the first states, flat, and `mask` (batch, steps) says
    which steps count. With a mask those come first, which is all that `sequence_lens` can say, and the
    results are spread over all steps. Where they go backwards, all outputs begin with that of the last step.
    """
    held = mask is not None and return_sequences and not zero_output_for_mask
    reverse = go_backwards and len(cells) == 1 and not held
    flipped = go_backwards and not reverse
    steps = None
    if mask is not None:
        kept = tf.cast(mask, tf.bool)
        steps = _Mask(tf.reverse(kept, [1]) if flipped else kept)
    x = tf.reverse(sequences, [1]) if flipped else sequences
    x = x if steps is None else steps.kept_first(x)
    remaining = list(first)
    last: list[list[tf.Tensor]] = []
    given: list[tf.Tensor] = []
    for cell in cells:
        given, remaining = remaining[: cell.states], remaining[cell.states :]
        x, states = _run(cell, x, given, steps, reverse=reverse)
        last.append(states)
    final = [state for states in last for state in states]
    if steps is None:
        return last[-1][0], tf.reverse(x, [1]) if reverse else x, final
    if not return_sequences and not zero_output_for_mask:
        return steps.zero_if_empty(last[-1][0], given[0]), x, final
    series = steps.spread(x) if zero_output_for_mask else steps.held(x)
    series = tf.reverse(series, [1]) if reverse else series
    return series[:, -1], series, final


@dataclass(frozen=True)
class _Mask:
    """Which steps (batch, steps) of sequences count, and in which order the others come after them."""

    kept: tf.Tensor

    @property
    def counts(self) -> tf.Tensor:
        """How many steps count up to each one."""
        return tf.cumsum(tf.cast(self.kept, tf.int32), axis=1)

    @property
    def lengths(self) -> tf.Tensor:
        return tf.reduce_sum(tf.cast(self.kept, tf.int32), axis=1)

    def kept_first(self, sequences: tf.Tensor) -> tf.Tensor:
        """The sequences with the steps that count before the others, in their order."""
        size = tf.shape(self.kept, out_type=tf.int64)[1:]
        key = tf.cast(self.kept, tf.int32)
        shape = self.kept.shape
        _, order = mark_several(
            "TopK", [key, size], shapes=[shape, shape], dtype=[tf.int32, tf.int64], attributes={"axis": 1}
        )
        return _steps(sequences, order)

    def held(self, series: tf.Tensor) -> tf.Tensor:
        """What a recurrence gave for the steps that count, at every step: the last so far, zero before."""
        return tf.compat.v2.where(
            tf.expand_dims(self.counts > 0, 2), self._last(series), tf.zeros((), series.dtype)
        )

    def spread(self, series: tf.Tensor) -> tf.Tensor:
        """What a recurrence gave for the steps that count, at these steps; zero at the others."""
        return tf.compat.v2.where(
            tf.expand_dims(self.kept, 2), self._last(series), tf.zeros((), series.dtype)
        )

    def _last(self, series: tf.Tensor) -> tf.Tensor:
        return _steps(series, tf.cast(tf.maximum(self.counts - 1, 0), tf.int64))

    def unless_empty(self, state: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """A last state; the first one where no step counts."""
        return (
            state
            if _is_zeros(first)
            else tf.compat.v2.where(tf.expand_dims(self.lengths > 0, 1), state, first)
        )

    def zero_if_empty(self, state: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
        """A last state as the last output, which is zero where no step counts."""
        if _is_zeros(first):
            return state
        return tf.compat.v2.where(tf.expand_dims(self.lengths > 0, 1), state, tf.zeros((), state.dtype))


def _run(
    cell: Cell,
    x: tf.Tensor,
    first: Sequence[tf.Tensor],
    steps: _Mask | None,
    *,
    reverse: bool,
) -> tuple[tf.Tensor, list[tf.Tensor]]:
    """All outputs (batch, steps, units) of one cell at their steps, and its last states."""
    order = ORDERS[cell.operator]
    options = dict(cell.attributes, **({"direction": "reverse"} if reverse else {}))
    inputs = [
        tf.transpose(x, (1, 0, 2)),
        tf.expand_dims(tf.transpose(_reordered(cell.kernel, order)), 0),
        tf.expand_dims(tf.transpose(_reordered(cell.recurrent_kernel, order)), 0),
        _bias(cell.bias, order),
        None if steps is None else steps.lengths,
        *(tf.expand_dims(state, 0) for state in first),
    ]
    last = tf.TensorShape([1, x.shape[0], cell.units])
    y, *states = mark_several(
        cell.operator,
        inputs,
        shapes=[tf.TensorShape([x.shape[1], 1, x.shape[0], cell.units]), *[last] * len(first)],
        dtype=x.dtype,
        attributes=options,
    )
    series = tf.transpose(tf.squeeze(y, 1), (1, 0, 2))
    final = [tf.squeeze(state, 0) for state in states]
    if steps is not None:
        final = [steps.unless_empty(*each) for each in zip_equal(final, first)]
    return series, final


def _steps(sequences: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """The steps of sequences (batch, steps, size) at places (batch, steps)."""
    return mark(
        "GatherND",
        [sequences, tf.expand_dims(places, 2)],
        shape=sequences.shape,
        dtype=sequences.dtype,
        attributes={"batch_dims": 1},
    )


def _is_zeros(state: tf.Tensor) -> bool:
    """Whether a state is made of zeros in the graph itself."""
    operation = state.op
    while operation.type in ("Identity", "Cast", "Reshape"):
        operation = operation.inputs[0].op
    if operation.type == "ZerosLike":
        return True
    if operation.type == "Const":
        return not tf.get_static_value(operation.outputs[0]).any()
    filled = tf.get_static_value(operation.inputs[1]) if operation.type == "Fill" else None
    return filled is not None and not filled.any()


def _reordered(kernel: Any, order: tuple[int, ...]) -> tf.Tensor:
    tensor = tf.convert_to_tensor(kernel)
    if order == tuple(range(len(order))):
        return tensor
    gates = tf.split(tensor, len(order), axis=-1)
    return tf.concat([gates[index] for index in order], -1)


def _bias(bias: Any, order: tuple[int, ...]) -> tf.Tensor | None:
    """Keras' bias and zeros for ONNX's second one; a GRU that resets after the product has both."""
    if bias is None:
        return None
    tensor = tf.convert_to_tensor(bias)
    if tensor.shape.rank == 2:
        return tf.reshape(tensor, (1, -1))
    reordered = _reordered(tensor, order)
    return tf.expand_dims(tf.concat([reordered, tf.zeros(reordered.shape, reordered.dtype)], 0), 0)
