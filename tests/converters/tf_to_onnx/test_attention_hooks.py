"""Keras' attention and projections arrive as the operators that they are, with Keras' numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import onnx_ir as ir
import pytest
from bridge_converters.tf_to_onnx.attention_hooks import _new_axes
from bridge_converters.tf_to_onnx.keras_source import trace_keras
from bridge_converters.tf_to_onnx.reader import convert
from keras import layers
from onnx.reference import ReferenceEvaluator

from bridge.hub import metadata

WIDTH = 12


def attention_model(layer: layers.Layer, **options: Any) -> keras.Model:
    query, value = keras.Input((None, WIDTH), name="query"), keras.Input((None, WIDTH), name="value")
    model = keras.Model([query, value], layer(query, value, **options))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.normal(0.0, 0.5, weight.shape))
    return model


def read(model: keras.Model) -> ir.Model:
    return convert(trace_keras(model))


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def check_numbers(model: keras.Model, hub: ir.Model, *inputs: np.ndarray[Any, Any]) -> None:
    run = ReferenceEvaluator(ir.to_proto(hub))
    names = [each.name for each in hub.graph.inputs]
    ours = run.run(None, dict(zip(names, inputs, strict=True)))
    theirs = keras.tree.flatten(model(list(inputs) if len(inputs) > 1 else inputs[0]))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, np.asarray(other), rtol=2e-5, atol=2e-5)


def draw(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "layer",
    [
        lambda dropout: layers.MultiHeadAttention(3, 4, dropout=dropout),
        lambda dropout: layers.MultiHeadAttention(2, 4, value_dim=6, use_bias=False, dropout=dropout),
        lambda dropout: layers.GroupQueryAttention(4, 4, 2, dropout=dropout),
        lambda dropout: layers.GroupQueryAttention(4, 2, 1, dropout=dropout),
    ],
)
def test_attention_is_one_operator(
    layer: Callable[[float], layers.Layer], causal: bool, dropout: float
) -> None:
    model = attention_model(layer(dropout), use_causal_mask=causal)
    hub = read(model)
    assert operators(hub).count("Attention") == 1
    assert not {"Softmax", "Einsum", "Tile", "Where"} & {*operators(hub)}
    node = next(each for each in hub.graph if each.op_type == "Attention")
    assert node.attributes.get_int("is_causal", 0) == int(causal)
    assert metadata.attention_dropout(node) == pytest.approx(dropout)
    assert hub.graph.opset_imports[""] == 23
    for query, value in ((1, 4), (5, 5), (6, 3)):
        check_numbers(model, hub, draw(2, query, WIDTH), draw(2, value, WIDTH))


@pytest.mark.parametrize(("dropout", "added"), [(0.0, True), (0.1, False)])
def test_rows_without_keys_are_as_keras_has_them(dropout: float, added: bool) -> None:
    query, value = keras.Input((None, WIDTH), name="query"), keras.Input((None, WIDTH), name="value")
    mask = keras.Input((None, None), dtype="bool", name="mask")
    result = layers.MultiHeadAttention(3, 4, dropout=dropout)(query, value, attention_mask=mask)
    model = keras.Model([query, value, mask], result)
    hub = read(model)
    node = next(each for each in hub.graph if each.op_type == "Attention")
    maker = None if node.inputs[3] is None else node.inputs[3].producer()
    assert maker is not None
    assert (maker.op_type == "Where") == added
    hidden = np.random.default_rng(2).random((2, 5, 4)) < 0.5
    hidden[0, 2] = False
    if added:
        check_numbers(model, hub, draw(2, 5, WIDTH), draw(2, 4, WIDTH), hidden)


def test_scores_that_are_returned_stay_computed() -> None:
    hub = read(attention_model(layers.MultiHeadAttention(3, 4), return_attention_scores=True))
    assert "Attention" not in operators(hub)
    assert "Softmax" in operators(hub)


def test_repeated_heads_stay_where_scores_are_returned() -> None:
    model = attention_model(layers.GroupQueryAttention(4, 4, 2), return_attention_scores=True)
    hub = read(model)
    assert "Attention" not in operators(hub)
    check_numbers(model, hub, draw(2, 5, WIDTH), draw(2, 3, WIDTH))


@pytest.mark.parametrize(
    ("equation", "new"),
    [
        ("abc,cde->abde", 2),
        ("abcd,cde->abe", 1),
        ("...x,xy->...y", 1),
        ("ab,bc->ac", 1),
        ("abc,dce->abde", None),
        ("abc,cd->adb", None),
        ("abc,bcd->abd", None),
        ("abc,bc->abc", None),
    ],
)
def test_projections_are_told_by_their_equation(equation: str, new: int | None) -> None:
    assert _new_axes(equation) == new


def test_a_projection_is_a_product_with_a_matrix() -> None:
    x = keras.Input((None, WIDTH), name="x")
    layer = layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="de", activation="relu")
    model = keras.Model(x, layer(x))
    hub = read(model)
    assert "Einsum" not in operators(hub)
    check_numbers(model, hub, draw(2, 7, WIDTH))


def test_a_bias_along_one_axis_is_left_to_keras() -> None:
    x = keras.Input((None, WIDTH), name="x")
    model = keras.Model(x, layers.EinsumDense("abc,cde->abde", (None, 3, 5), bias_axes="e")(x))
    check_numbers(model, read(model), draw(2, 7, WIDTH))


def test_an_embedding_is_a_gather() -> None:
    ids = keras.Input((None,), dtype="int32", name="ids")
    model = keras.Model(ids, layers.Embedding(9, 4)(ids))
    hub = read(model)
    assert operators(hub).count("Gather") == 1
    assert not {"Where", "Less", "Add"} & {*operators(hub)}
    run = ReferenceEvaluator(ir.to_proto(hub))
    numbers = np.array([[0, 8, -1, -9]], np.int32)
    (ours,) = run.run(None, {"ids": numbers})
    np.testing.assert_array_equal(ours, np.asarray(model(numbers)))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("options", [{}, {"use_scale": True}, {"dropout": 0.3}])
def test_attention_without_heads_is_one_operator(options: dict[str, Any], causal: bool) -> None:
    layer = layers.Attention(**options)
    query, value = keras.Input((None, WIDTH), name="query"), keras.Input((None, WIDTH), name="value")
    model = keras.Model([query, value], layer([query, value], use_causal_mask=causal))
    for weight in layer.weights:
        weight.assign(np.full(weight.shape, 0.7))
    hub = read(model)
    assert operators(hub).count("Attention") == 1
    for steps in (4, 6):
        check_numbers(model, hub, draw(2, steps, WIDTH), draw(2, 5, WIDTH))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_without_heads_leaves_masked_keys_out(causal: bool) -> None:
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = layers.Embedding(9, WIDTH, mask_zero=True)(ids)
    model = keras.Model(ids, layers.Attention()([x, x], use_causal_mask=causal))
    hub = read(model)
    assert ("Attention" in operators(hub)) != causal
    check_numbers(model, hub, np.array([[1, 4, 0, 0], [0, 0, 0, 0], [0, 2, 3, 4]], np.int32))


def test_sums_of_queries_and_keys_stay_computed() -> None:
    query, value = keras.Input((None, WIDTH), name="query"), keras.Input((None, WIDTH), name="value")
    for layer in (layers.AdditiveAttention(), layers.Attention(score_mode="concat")):
        model = keras.Model([query, value], layer([query, value]))
        hub = read(model)
        assert "Attention" not in operators(hub)
        check_numbers(model, hub, draw(2, 4, WIDTH), draw(2, 5, WIDTH))
