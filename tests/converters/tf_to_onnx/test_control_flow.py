"""Choices among branches, and arrays that loops fill in other orders than from first to last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.tf_to_onnx.objects import trace_object
from bridge_converters.tf_to_onnx.reader import convert

from bridge.errors import UnsupportedOps

from .conftest import runtime, weights

SIZE, UNITS = 3, 4


class Model(tf.Module):
    """A function of x (batch, length, SIZE) and two trained tensors."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        generator = np.random.default_rng(3)
        self.kernel = tf.Variable(generator.normal(size=(SIZE, UNITS)), dtype=tf.float32)
        self.recurrent = tf.Variable(generator.normal(size=(UNITS, UNITS)), dtype=tf.float32)
        self._function = function

    @tf.function(input_signature=[tf.TensorSpec([None, None, SIZE], tf.float32, name="x")])
    def __call__(self, x: tf.Tensor) -> Any:
        return self._function(x, self.kernel, self.recurrent)


def compare(function: Callable[..., Any], lengths: tuple[int, ...] = (1, 5)) -> None:
    model = Model(function)
    hub = convert(trace_object(model))
    for batch in (1, 2, 3):
        for length in lengths:
            x = np.random.default_rng([batch, length]).normal(size=(batch, length, SIZE)).astype(np.float32)
            expected = tf.nest.flatten(model(tf.constant(x)))
            for wanted, got in zip(expected, runtime(hub, {"x": x}), strict=True):
                np.testing.assert_allclose(got, wanted.numpy(), rtol=2e-5, atol=1e-6)
    assert {info.kind for info in weights(hub).values()} == {"parameter"}


@pytest.mark.parametrize("branches", [1, 2, 3, 5])
@pytest.mark.parametrize("offset", [-2, 0, 1])
def test_choices_among_branches(branches: int, offset: int) -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        def branch(number: int) -> Callable[[], Any]:
            return lambda: (x @ kernel * (number + 1.0), tf.reduce_sum(x @ (kernel @ recurrent)) + number)

        return tf.switch_case(tf.shape(x)[0] + offset, [branch(each) for each in range(branches)])

    compare(function)


def test_a_choice_in_a_branch_of_a_choice() -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        def inner() -> tf.Tensor:
            return tf.switch_case(
                tf.shape(x)[1] - 4, [lambda: x @ kernel, lambda: tf.tanh(x @ kernel), lambda: -x @ kernel]
            )

        branches = [inner, lambda: tf.nn.relu(x @ kernel), lambda: x @ (kernel @ recurrent)]
        return tf.switch_case(tf.shape(x)[0] - 1, branches)

    compare(function, (4, 5, 7))


def filling(
    first: Callable[[tf.Tensor], Any],
    again: Callable[[tf.Tensor, tf.Tensor], Any],
    step: int,
    *,
    before: int = 0,
    grows: bool = False,
    going: Callable[[tf.Tensor], Any] = lambda h: True,
    shift: int = 0,
    most: int | None = None,
) -> Callable[..., Any]:
    """A recurrence whose loop counts from `first` by `step` and writes at the counter and `shift`."""

    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        steps = tf.transpose(x, [1, 0, 2])
        length = tf.shape(steps)[0]
        array = tf.TensorArray(
            tf.float32, size=0 if grows else length, dynamic_size=grows, element_shape=[None, UNITS]
        )
        for index in range(before):
            array = array.write(index, steps[index] @ kernel + 1.0)

        def body(i: tf.Tensor, h: tf.Tensor, array: Any) -> tuple[Any, ...]:
            h = tf.tanh(steps[i + shift] @ kernel + h @ recurrent)
            return i + step, h, array.write(i + shift, h)

        start = tf.zeros([tf.shape(x)[0], UNITS])
        _, h, array = tf.while_loop(
            lambda i, h, array: tf.logical_and(again(i, length), going(h)),
            body,
            (first(length), start, array),
            maximum_iterations=most,
        )
        return array.stack(), h

    return function


CASES = {
    "in order": filling(lambda n: 0, lambda i, n: i < n, 1),
    "from its end": filling(lambda n: n - 1, lambda i, n: i >= 0, -1),
    "from its end, by another counter": filling(lambda n: n, lambda i, n: i > 0, -1, shift=-1),
    "from its end, not to its start": filling(lambda n: n - 1, lambda i, n: i > 1, -1),
    "after one before": filling(lambda n: 1, lambda i, n: i < n, 1, before=1),
    "growing after two before": filling(lambda n: 2, lambda i, n: i < n, 1, before=2, grows=True),
    "growing, with a hole": filling(lambda n: 2, lambda i, n: i < n, 1, before=1, grows=True),
    "over what was written before": filling(lambda n: 0, lambda i, n: i < n - 1, 1, before=3),
    "every other": filling(lambda n: 1, lambda i, n: i < n, 2),
    "ended by the data": filling(lambda n: 0, lambda i, n: i < n, 1, going=lambda h: tf.reduce_sum(h) < 1.0),
    "ended by a number": filling(lambda n: 0, lambda i, n: i < n, 1, most=2),
}


@pytest.mark.parametrize("case", CASES)
def test_arrays_are_filled(case: str) -> None:
    compare(CASES[case], (1, 4, 7) if case == "after one before" else (3, 4, 7))


def test_a_scan_without_a_first_state_and_one_backwards() -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        steps = tf.transpose(x, [1, 0, 2]) @ kernel
        return [
            tf.scan(lambda h, each: tf.tanh(each + h @ recurrent), steps, reverse=reverse)
            for reverse in (False, True)
        ]

    compare(function)


def test_an_array_of_one_item_holds_what_was_written_last() -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        steps = tf.transpose(x, [1, 0, 2]) @ kernel
        h, array = tf.zeros_like(steps[0]), tf.TensorArray(tf.float32, size=1)
        for index in tf.range(tf.shape(steps)[0]):
            h = tf.tanh(steps[index] + h @ recurrent)
            array = array.write(0, h * 2.0)
        whole = array.stack()
        return whole, whole[-1], h

    compare(tf.autograph.to_graph(function))


def test_what_a_loop_reads_of_what_it_wrote_is_refused() -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        steps = tf.transpose(x, [1, 0, 2]) @ (kernel @ recurrent)
        array = tf.TensorArray(tf.float32, size=tf.shape(steps)[0], clear_after_read=False).write(0, steps[0])
        found = tf.while_loop(
            lambda i, _: i < tf.shape(steps)[0],
            lambda i, array: (i + 1, array.write(i, steps[i] + array.read(i - 1))),
            (1, array),
        )
        return found[1].stack()

    with pytest.raises(UnsupportedOps, match="reads what it wrote"):
        convert(trace_object(Model(function)))


def test_positions_that_depend_on_data_are_refused() -> None:
    def function(x: tf.Tensor, kernel: tf.Variable, recurrent: tf.Variable) -> Any:
        steps = tf.transpose(x, [1, 0, 2]) @ (kernel @ recurrent)
        order = tf.argsort(tf.reduce_sum(steps, [1, 2]))
        array = tf.TensorArray(tf.float32, size=tf.shape(steps)[0])
        found = tf.while_loop(
            lambda i, _: i < tf.shape(steps)[0],
            lambda i, array: (i + 1, array.write(order[i], steps[i])),
            (0, array),
        )
        return found[1].stack()

    with pytest.raises(UnsupportedOps, match="positions that depend on data"):
        convert(trace_object(Model(function)))
