"""Keras' layers in two directions become PyTorch's one layer in two directions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from bridge_converters.tf_to_onnx.keras_source import trace_keras
from bridge_converters.tf_to_onnx.reader import convert
from keras import layers
from torch import nn

from bridge.emit import registry
from bridge.emit.imported import load_emitted
from bridge.emit.writer import emit
from bridge.passes import pipeline
from bridge.worker.standalone import write_tensors

KINDS: dict[str, tuple[Callable[..., Any], type[nn.RNNBase]]] = {
    "lstm": (layers.LSTM, nn.LSTM),
    "gru": (layers.GRU, nn.GRU),
    "rnn": (layers.SimpleRNN, nn.RNN),
}
SCATTERED = np.array(
    [[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 1], [0, 1, 0, 1, 0], [0, 0, 0, 0, 0]], np.float32
)
"""Full, padded right, padded left, padded inside, nothing at all."""


class AsPrinted:
    def format(self, text: str) -> str:
        return text


def in_torch(model: keras.Model, directory: Path) -> tuple[Any, str]:
    """The emitted module with its weights, and its text."""
    generator = np.random.default_rng(3)
    for variable in model.trainable_variables:
        variable.assign(generator.uniform(-1, 1, variable.shape))
    prepared = pipeline.prepare(pipeline.canonicalise(convert(trace_keras(model))), target="torch")
    emitted = emit(prepared, registry.table("torch"), registry.dialect("torch"), AsPrinted())
    (directory / "model.py").write_text(emitted.source, encoding="utf-8")
    write_tensors(str(directory / "model.safetensors"), emitted.tensors, np.ascontiguousarray)
    return load_emitted(directory), emitted.source


def recurrent(module: nn.Module) -> list[nn.RNNBase]:
    return [each for each in module.modules() if isinstance(each, nn.RNNBase)]


def assert_same(model: keras.Model, module: Any, arrays: list[Any]) -> None:
    expected = keras.tree.flatten(model(arrays if len(arrays) > 1 else arrays[0]))
    with torch.no_grad():
        found = module(*map(torch.from_numpy, arrays))
    got = [found] if isinstance(found, torch.Tensor) else found
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_allclose(mine.numpy(), np.asarray(theirs), rtol=1e-4, atol=1e-5)


def sequences(batch: int, steps: int, size: int = 4) -> Any:
    return np.random.default_rng(1).normal(size=(batch, steps, size)).astype(np.float32)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_one_layer_whatever_merges_the_directions(kind: str, masked: bool, tmp_path: Path) -> None:
    make, layer = KINDS[kind]
    x = keras.Input((None, 4), name="x")
    given = layers.Masking()(x) if masked else x
    outputs: list[Any] = []
    for mode in ("concat", "sum", "mul", "ave", None):
        for every in (True, False):
            outputs += keras.tree.flatten(
                layers.Bidirectional(make(3, return_sequences=every), merge_mode=mode)(given)
            )
    outputs += layers.Bidirectional(make(3, return_sequences=True, return_state=True))(given)
    model = keras.Model(x, outputs)
    module, _ = in_torch(model, tmp_path)
    count = 22 if masked else 11  # packed sequences, which both directions need, could not be exported
    assert [type(each) for each in recurrent(module)] == [layer] * count
    assert all(each.bidirectional is not masked for each in recurrent(module))
    assert_same(model, module, [sequences(5, 5) * SCATTERED[..., None] if masked else sequences(2, 5)])
    assert_same(model, module, [sequences(1, 2)])


def test_states_are_given_to_both_directions(tmp_path: Path) -> None:
    x = keras.Input((None, 4), name="x")
    states = [keras.Input((3,), name=f"state_{index}") for index in range(4)]
    model = keras.Model(
        [x, *states], layers.Bidirectional(layers.LSTM(3, return_state=True))(x, initial_state=states)
    )
    module, _ = in_torch(model, tmp_path)
    assert [each.bidirectional for each in recurrent(module)] == [True]
    assert_same(
        model, module, [sequences(2, 5), *np.random.default_rng(2).normal(size=(4, 2, 3)).astype("f")]
    )


def test_a_layer_that_is_called_twice_stays_one(tmp_path: Path) -> None:
    x = keras.Input((None, 3), name="x")
    shared = layers.Bidirectional(layers.GRU(3, return_sequences=True), merge_mode="sum")
    model = keras.Model(x, shared(shared(x)))
    module, _ = in_torch(model, tmp_path)
    assert len(recurrent(module)) == 1
    names = {name for name, _ in recurrent(module)[0].named_parameters()}
    assert {"weight_ih_l0", "weight_ih_l0_reverse", "bias_hh_l0", "bias_hh_l0_reverse"} < names
    assert_same(model, module, [sequences(2, 4, 3)])


def test_steps_stay_in_order_between_layers_of_one_mask(tmp_path: Path) -> None:
    x = keras.Input((None, 4), name="x")
    inner = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(layers.Masking()(x))
    inner = layers.GRU(3, return_sequences=True)(inner)
    model = keras.Model(x, layers.SimpleRNN(3)(inner))
    module, source = in_torch(model, tmp_path)
    assert source.count("argsort") == 1
    assert_same(model, module, [sequences(5, 5) * SCATTERED[..., None]])


@pytest.mark.parametrize("what", ["width", "input", "depends", "activation", "bias"])
def test_what_stays_two_layers(what: str, tmp_path: Path) -> None:
    x, other = keras.Input((None, 4), name="x"), keras.Input((None, 4), name="other")

    class Both(layers.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.onwards = layers.GRU(3, return_state=True)
            more: dict[str, Any] = {"activation": {"activation": "relu"}, "bias": {"use_bias": False}}.get(
                what, {}
            )
            self.back = layers.GRU(2 if what == "width" else 3, go_backwards=True, **more)

        def call(self, x: Any, other: Any) -> Any:
            y, state = self.onwards(x)
            first = state if what == "depends" else None
            return y, self.back(other if what == "input" else x, initial_state=first)

    model = keras.Model([x, other], [*Both()(x, other), other[:, 0]])
    module, _ = in_torch(model, tmp_path)
    assert not any(each.bidirectional for each in recurrent(module))
    assert_same(model, module, [sequences(2, 4), sequences(2, 4) + 1])
