"""What is timed of a TensorFlow model: inference or a training step on tensors of its device, plain or XLA.

This module is also imported in the environments of old versions.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf

from bridge.worker import device
from bridge.worker.compatible import zip_equal

MOMENTUM = 0.9


class TensorFlowTiming:
    """See docs/worker-protocol.md for what a timing answers."""

    def __init__(self, run: Callable[[], object], *, timed: str, notes: Sequence[str] = ()) -> None:
        """`run` computes once; on an accelerator it need not be finished when it returns."""
        self.timed = timed
        self.device = "cpu" if device.is_cpu() else f"gpu:{device.index()}"
        self.notes = list(notes)
        self._run = run
        self._accelerator = None if device.is_cpu() else self.device.upper()
        if self._accelerator is not None:
            tf.config.experimental.reset_memory_stats(self._accelerator)

    def call(self) -> None:
        if self._accelerator is None:
            self._run()
            return
        with tf.device(self._accelerator):
            self._run()
            tf.test.experimental.sync_devices()

    def device_seconds(self) -> float | None:
        return None

    def device_peak_bytes(self) -> int | None:
        if self._accelerator is None:
            return None
        return int(tf.config.experimental.get_memory_info(self._accelerator)["peak"])

    def threads(self) -> list[int | None]:
        """What was set for TensorFlow, which does not tell what it uses."""
        within = tf.config.threading.get_intra_op_parallelism_threads()
        between = tf.config.threading.get_inter_op_parallelism_threads()
        return [
            within or _number("TF_NUM_INTRAOP_THREADS"),
            between or _number("TF_NUM_INTEROP_THREADS"),
        ]

    def close(self) -> None:
        self._run = _nothing


def time_inference(
    function: Callable[..., Any], positional: Sequence[Any], named: Mapping[str, Any], *, compiled: bool
) -> TensorFlowTiming:
    """Time a call of a traced function with tensors in the structure of its arguments."""
    timed = "a call of the traced function, from tensor to tensor"
    call = function
    if compiled:
        call = tf.function(lambda *given, **others: function(*given, **others), jit_compile=True)
        timed += ", through XLA (jit_compile=True)"
    return TensorFlowTiming(lambda: call(*positional, **named), timed=timed)


def time_training(
    forward: Callable[..., Any],
    variables: Sequence[Any],
    tensors: Sequence[Any],
    *,
    compiled: bool,
    notes: Sequence[str] = (),
) -> TensorFlowTiming:
    """Time a training step of `forward(*tensors)`, whose trainable variables are given.

    Raises NotImplementedError where there is nothing to train.
    """
    trained = list({id(each): each for each in variables}.values())
    if not trained:
        raise NotImplementedError("it has no variables that take a gradient")
    with tf.device(device.tensorflow_device(tf)):
        slots = [tf.Variable(tf.zeros_like(each), trainable=False) for each in trained]

    def step(*given: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = [each for each in tf.nest.flatten(forward(*given)) if each.dtype.is_floating]
            if not outputs:
                raise NotImplementedError("no output is of floating-point numbers, so there is no loss")
            loss = tf.add_n([tf.cast(0.5 * tf.reduce_mean(tf.square(each)), tf.float32) for each in outputs])
        gradients = tape.gradient(loss, trained)
        for variable, slot, gradient in zip_equal(trained, slots, gradients):
            if gradient is not None:
                tf.raw_ops.ResourceApplyMomentum(
                    var=variable.handle,
                    accum=slot.handle,
                    lr=tf.zeros([], variable.dtype),
                    grad=tf.convert_to_tensor(gradient),
                    momentum=tf.constant(MOMENTUM, variable.dtype),
                )
        return loss

    function = tf.function(step, jit_compile=True) if compiled else tf.function(step)
    timed = "forward pass, loss, backward pass and SGD update in one tf.function, from tensor to tensor"
    if compiled:
        timed += ", through XLA (jit_compile=True)"
    return TensorFlowTiming(lambda: function(*tensors), timed=timed, notes=notes)


def _number(variable: str) -> int | None:
    value = os.environ.get(variable, "")
    return int(value) if value.isdigit() else None


def _nothing() -> None:
    return None
