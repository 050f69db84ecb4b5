"""Keras' recurrent layers arrive as recurrent operators that compute what Keras computes eagerly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import pytest
from bridge_converters.tf_to_onnx.keras_source import trace_keras
from bridge_converters.tf_to_onnx.reader import convert
from keras import layers

from bridge.passes.shapes import infer_shapes

from .conftest import runtime

KINDS: dict[str, Callable[..., Any]] = {
    "lstm": layers.LSTM,
    "gru": layers.GRU,
    "gru before": lambda units, **more: layers.GRU(units, reset_after=False, **more),
    "rnn": layers.SimpleRNN,
    "cells": lambda units, **more: layers.RNN([layers.GRUCell(units), layers.LSTMCell(2)], **more),
}
FORMS: dict[str, dict[str, Any]] = {
    "last": {},
    "all": {"return_sequences": True, "return_state": True},
    "zeroed": {"return_sequences": True, "zero_output_for_mask": True},
    "zeroed last": {"zero_output_for_mask": True, "return_state": True},
    "backwards": {"return_sequences": True, "go_backwards": True, "return_state": True},
}
SCATTERED = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], np.float32
)
"""Full, padded right, padded left, padded inside, nothing at all."""


def enliven(model: keras.Model) -> keras.Model:
    generator = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(generator.uniform(-1, 1, variable.shape))
    return model


def check(model: keras.Model, inputs: dict[str, Any]) -> list[str]:
    """Compare with Keras; the recurrent operators and loops of the hub."""
    hub = convert(trace_keras(model))
    values = list(inputs.values())
    expected = keras.tree.flatten(model(values if len(values) > 1 else values[0]))
    for wanted, got in zip(expected, runtime(hub, inputs), strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted), rtol=1e-5, atol=1e-5)
    return [node.op_type for node in hub.graph if node.op_type in ("LSTM", "GRU", "RNN", "Loop")]


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_every_shape(kind: str) -> None:
    x = keras.Input((None, 4), name="x")
    masked = layers.Masking()(x)
    results: list[Any] = []
    for form in FORMS.values():
        found = KINDS[kind](3, **form)(masked)
        results += found if isinstance(found, list) else [found]
    model = enliven(keras.Model(x, keras.tree.flatten(results)))
    data = np.random.default_rng(1).normal(size=(5, 5, 4)).astype(np.float32) * SCATTERED[..., None]
    operators = check(model, {"x": data})
    assert "Loop" not in operators
    assert len(operators) == len(FORMS) * (2 if kind == "cells" else 1)


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_first_states_survive_a_sequence_without_steps(kind: str) -> None:
    x = keras.Input((None, 4), name="x")
    first = [keras.Input((3,), name=f"first_{index}") for index in range(2 if kind == "lstm" else 1)]
    outputs = KINDS[kind](3, return_state=True)(layers.Masking()(x), initial_state=first)
    model = enliven(keras.Model([x, *first], outputs))
    generator = np.random.default_rng(1)
    inputs = {"x": generator.normal(size=(5, 5, 4)).astype(np.float32) * SCATTERED[..., None]}
    inputs |= {each.name: generator.normal(size=(5, 3)).astype(np.float32) for each in first}
    check(model, inputs)


@pytest.mark.parametrize(
    "name", ["hard_sigmoid", "leaky_relu", "elu", "linear", "relu", "softsign", "softplus"]
)
def test_activations_that_onnx_has(name: str) -> None:
    x = keras.Input((None, 4), name="x")
    outputs = [
        layers.LSTM(3, recurrent_activation=name)(x),
        layers.GRU(3, recurrent_activation="hard_sigmoid", activation=name)(x),
        layers.SimpleRNN(3, activation=name)(x),
    ]
    data = np.random.default_rng(1).normal(size=(2, 4, 4)).astype(np.float32)
    assert sorted(check(enliven(keras.Model(x, outputs)), {"x": data})) == ["GRU", "LSTM", "RNN"]


def test_states_of_stacked_cells_keep_their_structure() -> None:
    x = keras.Input((None, 4), name="x")
    cells = layers.StackedRNNCells([layers.GRUCell(3), layers.LSTMCell(2), layers.SimpleRNNCell(5)])
    outputs = layers.RNN(cells, return_sequences=True, return_state=True, go_backwards=True)(x)
    model = enliven(keras.Model(x, keras.tree.flatten(outputs)))
    data = np.random.default_rng(1).normal(size=(2, 6, 4)).astype(np.float32)
    assert check(model, {"x": data}) == ["GRU", "LSTM", "RNN"]


def test_recurrences_in_float64() -> None:
    x = keras.Input((None, 4), name="x", dtype="float64")
    kept = layers.Masking(dtype="float64")(x)
    both = layers.Bidirectional(layers.GRU(3, return_sequences=True, dtype="float64"), dtype="float64")(kept)
    model = enliven(keras.Model(x, layers.LSTM(2, dtype="float64")(both)))
    hub = convert(trace_keras(model))
    found = [node for node in hub.graph if node.op_type in ("GRU", "LSTM", "Loop")]
    assert sorted(node.op_type for node in found) == ["GRU", "GRU", "LSTM"]
    typed = infer_shapes(hub)
    assert {node.outputs[0].dtype for node in typed.graph if node in found} == {ir.DataType.DOUBLE}


def test_bfloat16_is_not_taken_for_float16() -> None:
    x = keras.Input((None, 4), name="x")
    model = keras.Model(x, layers.GRU(3, dtype="mixed_bfloat16")(layers.Dense(4, dtype="mixed_bfloat16")(x)))
    hub = convert(trace_keras(model))
    dtypes = {
        dtype
        for node in ir.traversal.RecursiveGraphIterator(hub.graph)
        for dtype in (*(each.dtype for each in node.outputs), _cast_to(node))
    }
    assert ir.DataType.BFLOAT16 in dtypes
    assert ir.DataType.FLOAT16 not in dtypes


def _cast_to(node: ir.Node) -> ir.DataType | None:
    return ir.DataType(node.attributes["to"].as_int()) if node.op_type == "Cast" else None
