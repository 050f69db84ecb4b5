"""The distributions of what the TensorFlow lowerings draw, and what seeds do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from bridge_converters.onnx_to_tf import activation, random
from operator_cases.statistics import COUNT, assert_distributed, assert_frequencies, normal, uniform

FLOAT16, INT64, DOUBLE = 10, 7, 11
LIKE = tf.linspace(0.0, 1.0, COUNT)
PROBABILITIES = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
with np.errstate(divide="ignore"):
    LOGITS = tf.convert_to_tensor(np.log(PROBABILITIES) + 3.0)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    tf.random.set_seed(7)


@pytest.mark.parametrize("options", [{}, {"seed": 5.0}])
@pytest.mark.parametrize("dtype", [1, DOUBLE])
def test_normal_and_uniform_numbers(dtype: int, options: dict[str, float]) -> None:
    drawn = random.random_normal(shape=(COUNT,), dtype=dtype, mean=2.0, scale=3.0, **options)
    assert_distributed(drawn.numpy(), normal(2.0, 3.0))
    drawn = random.random_normal_like(LIKE, dtype=dtype, mean=-1.0, scale=0.5, **options)
    assert_distributed(drawn.numpy(), normal(-1.0, 0.5))
    drawn = random.random_uniform(shape=(COUNT,), dtype=dtype, low=-2.0, high=5.0, **options)
    assert_distributed(drawn.numpy(), uniform(-2.0, 5.0))
    drawn = random.random_uniform_like(LIKE, dtype=dtype, low=1.0, high=2.0, **options)
    assert_distributed(drawn.numpy(), uniform(1.0, 2.0))


def test_half_precision_has_the_right_moments() -> None:
    drawn = random.random_normal(shape=(COUNT,), dtype=FLOAT16, mean=1.0, scale=2.0).numpy()
    assert drawn.dtype == np.float16
    assert abs(drawn.astype(np.float64).mean() - 1) < 4.5 * 2 / np.sqrt(COUNT)
    assert abs(drawn.astype(np.float64).std() - 2) < 0.05


@pytest.mark.parametrize("options", [{}, {"seed": 5.0}])
def test_draws_of_classes(options: dict[str, float]) -> None:
    drawn = random.multinomial(LOGITS, dtype=INT64, sample_size=COUNT, **options)
    assert_frequencies(drawn.numpy(), PROBABILITIES)
    for kind in (np.float16, np.float32, np.float64):
        ones = random.bernoulli(tf.convert_to_tensor(np.full(COUNT, 0.3, kind)), dtype=INT64, **options)
        assert_frequencies(ones.numpy(), np.array([[0.7, 0.3]]))


@pytest.mark.parametrize("options", [{}, {"seed": 5}])
@pytest.mark.parametrize("training", [True, tf.constant(True)])
def test_dropout_keeps_the_expectation(training: Any, options: dict[str, int]) -> None:
    y, mask = activation.dropout(LIKE, 0.3, training, outputs=2, **options)
    assert_frequencies(mask.numpy().astype(np.int64), np.array([[0.3, 0.7]]))
    np.testing.assert_allclose(
        y.numpy(), np.where(mask.numpy(), LIKE.numpy() / np.float32(0.7), 0), rtol=1e-6
    )


DRAWS: dict[str, Callable[..., Any]] = {
    "normal": lambda **seed: random.random_normal(shape=(8,), **seed),
    "normal like": lambda **seed: random.random_normal_like(LIKE, **seed),
    "uniform": lambda **seed: random.random_uniform(shape=(8,), **seed),
    "uniform like": lambda **seed: random.random_uniform_like(LIKE, **seed),
    "bernoulli": lambda **seed: random.bernoulli(LIKE, **seed),
    "multinomial": lambda **seed: random.multinomial(LOGITS, sample_size=50, **seed),
    "dropout": lambda **seed: activation.dropout(LIKE, 0.5, True, **seed),
}


@pytest.mark.parametrize("name", DRAWS)
def test_a_seed_repeats_and_without_one_the_global_seed_does(name: str) -> None:
    draw = DRAWS[name]
    first = draw(seed=3).numpy()
    np.testing.assert_array_equal(draw(seed=3).numpy(), first)
    assert not np.array_equal(draw(seed=4).numpy(), first)
    tf.random.set_seed(7)
    one, two = draw().numpy(), draw().numpy()
    assert not np.array_equal(one, two)
    tf.random.set_seed(7)
    np.testing.assert_array_equal(draw().numpy(), one)
