"""The gradients of the TensorFlow lowerings against central differences in float64, over the shared cases."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.onnx_to_tf._table import TABLE
from operator_cases.calls import Call, call
from operator_cases.case import Array, Case
from operator_cases.channels import channels_last
from operator_cases.gradients import IN_FLOAT32, gradient_cases, reason_against, smooth, step

CASES = gradient_cases()

NO_GRADIENT = {("Pad", 2): "TensorFlow's pad gives what it fills with no gradient"}
"""What has none in TensorFlow alone, by operator and input."""


def bind(case: Case) -> Call:
    lowering = TABLE.find(case.op, case.domain, version=case.version)
    assert lowering is not None
    stored = channels_last(case) if lowering.layout == "channels_last" else case
    return call(lowering, stored, tf.convert_to_tensor)


class Function:
    """A case's lowering as a scalar function of its floating-point tensors.

    The scalar is the product of the outputs with fixed numbers, in float64 where the operator takes it.
    """

    def __init__(self, case: Case) -> None:
        self._call = bind(case)
        self.dtype = tf.float32 if case.op in IN_FLOAT32 else tf.float64
        self.step = step(case)
        self.tensors = self._call.tensors()
        positions = [index for index, tensor in enumerate(self._call.is_tensor) if tensor]
        self.free = [
            index
            for index, (position, tensor) in enumerate(zip(positions, self.tensors, strict=True))
            if tensor.dtype == self.dtype
            and tf.size(tensor) > 0
            and reason_against(case, position) is None
            and (case.op, position) not in NO_GRADIENT
        ]
        self.positions = [positions[index] for index in self.free]
        generator = np.random.default_rng(0)
        self.cotangents = [self._drawn(generator, each) for each in self.outputs(self.inputs())]
        self.directions = [self._drawn(generator, each) for each in self.inputs()]

    def _drawn(self, generator: np.random.Generator, like: Any) -> Array:
        return np.asarray(generator.uniform(0.5, 1.5, like.shape), self.dtype.as_numpy_dtype)

    def inputs(self) -> list[Any]:
        return [self.tensors[index] for index in self.free]

    def outputs(self, free: list[Any]) -> list[Any]:
        tensors = list(self.tensors)
        for index, tensor in zip(self.free, free, strict=True):
            tensors[index] = tensor
        return [each for each in self._call.run(tensors) if each.dtype == self.dtype]

    def __call__(self, free: list[Any]) -> Any:
        return tf.add_n(
            [tf.reduce_sum(a * b) for a, b in zip(self.outputs(free), self.cotangents, strict=True)]
        )

    def gradients(self) -> list[Array | None]:
        inputs = self.inputs()
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            total = self(inputs)
        found = tape.gradient(total, inputs)
        return [None if each is None else np.asarray(tf.convert_to_tensor(each)) for each in found]

    def difference(self) -> float:
        """The central difference of the scalar along the directions."""

        def beside(step: float) -> float:
            moved = [x + step * d for x, d in zip(self.inputs(), self.directions, strict=True)]
            return float(self(moved))

        return (beside(self.step) - beside(-self.step)) / (2 * self.step)


def function_of(case: Case) -> Function | None:
    """The case's function at inputs where its outputs are finite; None if there are none."""
    for each in smooth(case):
        function = Function(each)
        if function.free and function.cotangents and np.isfinite(float(function(function.inputs()))):
            return function
    return None


@pytest.mark.parametrize("case", CASES, ids=lambda each: each.name)
def test_gradients_are_central_differences(case: Case) -> None:
    function = function_of(case)
    if function is None:
        pytest.skip("no finite outputs of this precision")
    gradients = function.gradients()
    along = [
        0.0 if gradient is None else float(np.sum(gradient * direction))
        for gradient, direction in zip(gradients, function.directions, strict=True)
    ]
    scale = 1.0 + sum(float(np.abs(each).sum()) for each in gradients if each is not None)
    assert abs(sum(along) - function.difference()) <= (1e-5 if function.dtype == tf.float64 else 1e-4) * scale


def test_every_floating_point_input_has_a_gradient_or_a_reason() -> None:
    reached: defaultdict[tuple[str, int], bool] = defaultdict(bool)
    for case in CASES:
        function = function_of(case)
        if function is None:
            continue
        for position, gradient in zip(function.positions, function.gradients(), strict=True):
            reached[case.op, position] |= gradient is not None and bool((gradient != 0).any())
    assert [key for key, found in reached.items() if not found] == []
