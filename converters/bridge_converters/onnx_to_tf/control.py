"""Branches and loops: bodies are functions, which TensorFlow's own control flow calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from bridge_converters._control import loop_refusal
from bridge_converters.onnx_to_tf._table import lowering

Body = Callable[..., Any]


@lowering("If")
def if_(cond: tf.Tensor, *, then_branch: Body, else_branch: Body, outputs: int) -> Any:
    """What the branch gives that the condition chooses."""
    if cond.shape.rank == 0:
        return tf.cond(cond, then_branch, else_branch)
    return tf.cond(tf.reshape(cond, ()), then_branch, else_branch)


@lowering("Loop", const=("M", "cond"), supports=loop_refusal)
def loop(
    M: int | tf.Tensor | None = None,
    cond: bool | tf.Tensor | None = None,
    *v_initial: Any,
    body: Body,
    outputs: int,
    input_types: tuple[str, ...],
) -> Any:
    """The last values of what the body carries from step to step, then its other results stacked."""
    results = repeat(body, M, cond, v_initial)
    return results[0] if outputs == 1 else results


def repeat(
    body: Callable[..., Any],
    limit: int | tf.Tensor | None,
    condition: bool | tf.Tensor | None,
    carried: tuple[Any, ...],
) -> tuple[Any, ...]:
    """Run `body(step, condition, *carried)` at most `limit` times, while the condition it gives is true.

    The body also gives the next carried, and slices; this gives the last carried and the stacked slices.
    """
    if any(each is None or isinstance(each, list) for each in carried):
        return repeat_on_lists(body, limit, condition, carried)
    carried = tuple(map(tf.convert_to_tensor, carried))
    shapes, slices = loop_shapes(body, carried)
    size = 0 if condition is not None or limit is None else tf.cast(tf.reshape(limit, ()), tf.int32)
    arrays = tuple(
        tf.TensorArray(each.dtype, size, dynamic_size=condition is not None, element_shape=each.shape)
        for each in slices
    )
    going = tf.reshape(True if condition is None else condition, ())

    def unfinished(step: tf.Tensor, going: tf.Tensor, *state: Any) -> tf.Tensor:
        return going

    def advance(step: tf.Tensor, going: tf.Tensor, values: Any, arrays: Any) -> tuple[Any, ...]:
        again, *results = body(step, going, *values)
        values, slices = tuple(results[: len(values)]), results[len(values) :]
        arrays = tuple(
            array.write(tf.cast(step, tf.int32), each) for array, each in zip(arrays, slices, strict=True)
        )
        going = going if condition is None else tf.reshape(again, ())
        return step + 1, going, values, arrays

    _, _, values, arrays = tf.while_loop(
        unfinished,
        advance,
        (tf.constant(0, tf.int64), going, carried, arrays),
        shape_invariants=(tf.TensorShape([]), tf.TensorShape([]), shapes, (None,) * len(arrays)),
        maximum_iterations=None if limit is None else tf.cast(tf.reshape(limit, ()), tf.int32),
    )
    return *values, *map(stacked, arrays)


def loop_shapes(
    body: Callable[..., Any], carried: tuple[tf.Tensor, ...]
) -> tuple[tuple[tf.TensorShape, ...], tuple[tf.Tensor, ...]]:
    """The static shapes that hold for what a loop carries in every step, and what a step gives besides."""

    def one_step(step: tf.Tensor, *values: tf.Tensor) -> Any:
        return tuple(body(step, tf.constant(True), *values)[1:])

    shapes = tuple(each.shape for each in carried)
    while True:
        specs = [tf.TensorSpec(shape, each.dtype) for shape, each in zip(shapes, carried, strict=True)]
        traced = tf.function(one_step, autograph=False)
        results = traced.get_concrete_function(tf.TensorSpec((), tf.int64), *specs).structured_outputs
        wider = tuple(
            shape.most_specific_compatible_shape(each.shape)
            for shape, each in zip(shapes, results, strict=False)
        )
        if wider == shapes:
            return shapes, tuple(results[len(shapes) :])
        shapes = wider


def stacked(array: tf.TensorArray) -> tf.Tensor:
    """The slices in an array as one tensor, which may have none."""
    if array.element_shape.is_fully_defined():
        return array.stack()
    sizes = [0 if size is None else size for size in array.element_shape.as_list()]
    return tf.cond(array.size() > 0, array.stack, lambda: tf.zeros((0, *sizes), array.dtype))


def repeat_on_lists(
    body: Callable[..., Any],
    limit: int | tf.Tensor | None,
    condition: bool | tf.Tensor | None,
    carried: tuple[Any, ...],
) -> tuple[Any, ...]:
    """A loop that carries lists of tensors, which Python runs: its steps must be known while it is traced."""
    slices = []
    limit = None if limit is None else known_now(limit)
    going = True if condition is None else known_now(condition)
    step = 0
    while going and (limit is None or step < limit):
        again, *results = body(tf.constant(step, tf.int64), tf.constant(True), *carried)
        carried = tuple(results[: len(carried)])
        slices.append(results[len(carried) :])
        going = True if condition is None else known_now(again)
        step += 1
    return *carried, *(tf.stack(each) for each in zip(*slices, strict=True))


def known_now(value: int | bool | tf.Tensor) -> int | bool:
    """A number of one element. Raises ValueError while a function is traced that computes it."""
    found: int | bool | None = tf.get_static_value(tf.reshape(value, ()))
    if found is None:
        raise ValueError("the length of a list of tensors is computed: call the model outside tf.function")
    return found


@lowering("Scan", since=9)
def scan(
    *initial_state_and_scan_inputs: tf.Tensor,
    body: Body,
    num_scan_inputs: int,
    scan_input_axes: tuple[int, ...] | None = None,
    scan_input_directions: tuple[int, ...] | None = None,
    scan_output_axes: tuple[int, ...] | None = None,
    scan_output_directions: tuple[int, ...] | None = None,
    outputs: int,
) -> Any:
    """The last states, then the stacked results, of a body that is run along an axis of each scan input."""
    results = scan_along(
        body,
        initial_state_and_scan_inputs,
        num_scan_inputs,
        input_axes=scan_input_axes,
        input_directions=scan_input_directions,
        output_axes=scan_output_axes,
        output_directions=scan_output_directions,
    )
    return results[0] if outputs == 1 else results


def scan_along(
    body: Callable[..., Any],
    values: tuple[tf.Tensor, ...],
    num_scanned: int,
    *,
    input_axes: tuple[int, ...] | None = None,
    input_directions: tuple[int, ...] | None = None,
    output_axes: tuple[int, ...] | None = None,
    output_directions: tuple[int, ...] | None = None,
) -> tuple[tf.Tensor, ...]:
    """Run `body(*states, *slices)` over the slices of the last values; it gives the next states and slices.

    Gives the last states and the stacked slices. Directions of 1 go backwards.
    """
    states, scanned = values[:-num_scanned], list(values[-num_scanned:])
    for index, axis in enumerate(input_axes or ()):
        scanned[index] = keras.ops.moveaxis(scanned[index], axis, 0) if axis else scanned[index]
    for index, direction in enumerate(input_directions or ()):
        scanned[index] = tf.reverse(scanned[index], (0,)) if direction else scanned[index]

    length = scanned[0].shape[0]
    length = tf.shape(scanned[0])[0] if length is None else length

    def one_step(step: tf.Tensor, condition: tf.Tensor, *states: tf.Tensor) -> tuple[Any, ...]:
        results = body(*states, *(tf.gather(each, step) for each in scanned))
        return condition, *(results if isinstance(results, tuple) else (results,))

    results = list(repeat(one_step, length, None, states))
    for index in range(len(states), len(results)):
        if output_directions is not None and output_directions[index - len(states)]:
            results[index] = tf.reverse(results[index], (0,))
        if output_axes is not None and output_axes[index - len(states)]:
            results[index] = keras.ops.moveaxis(results[index], 0, output_axes[index - len(states)])
    return tuple(results)
