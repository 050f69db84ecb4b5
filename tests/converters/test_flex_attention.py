"""FlexAttention with functions of its scores and weights, as the emitter hands subgraphs over."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import torch
from bridge_converters.onnx_to_tf.attention import flex_attention as tf_attention
from bridge_converters.onnx_to_torch.attention import flex_attention as torch_attention
from operator_cases.case import draw

_Q, _K, _V = draw(2, 4, 3, 8), draw(2, 2, 5, 8, seed=1), draw(2, 2, 5, 6, seed=2)


def _expected() -> np.ndarray:
    keys, values = _K.repeat(2, axis=1), _V.repeat(2, axis=1)
    scores = np.tanh(_Q @ keys.swapaxes(-1, -2) / np.sqrt(8)) + 0.5 * np.arange(5)
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    return weights**2 @ values


def test_torch_changes_scores_and_weights() -> None:
    y = torch_attention(
        *map(torch.from_numpy, (_Q, _K, _V)),
        score_mod=lambda scores: torch.tanh(scores) + 0.5 * torch.arange(5),
        prob_mod=lambda weights: weights**2,
    )
    np.testing.assert_allclose(y.numpy(), _expected(), rtol=1e-5, atol=1e-6)


def test_tensorflow_changes_scores_and_weights() -> None:
    y = tf_attention(
        *map(tf.constant, (_Q, _K, _V)),
        score_mod=lambda scores: tf.tanh(scores) + 0.5 * tf.range(5.0),
        prob_mod=lambda weights: weights**2,
    )
    np.testing.assert_allclose(y.numpy(), _expected(), rtol=1e-5, atol=1e-6)
