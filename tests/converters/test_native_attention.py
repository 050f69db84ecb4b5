"""What the targets' kernels do where a mask hides all keys from a query, gradients included."""

from __future__ import annotations

import math

import numpy as np
import pytest

Array = np.ndarray


def operands(seed: int = 0) -> tuple[Array, Array, Array, Array]:
    """Queries, keys, values, and what is seen: nothing for query 1 of sample 0, some keys elsewhere."""
    random = np.random.default_rng(seed)
    q, k, v = (random.standard_normal((2, heads, 6, 4)) for heads in (4, 2, 2))
    seen = random.random((2, 1, 6, 6)) > 0.3
    seen[..., 0] = True
    seen[0, 0, 1] = False
    return q, k, v, seen


@pytest.mark.parametrize("number", [-1e9, -1e38, float(np.finfo(np.float32).min)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_low_rows_in_pytorch(number: float, dtype: str) -> None:
    torch = pytest.importorskip("torch")
    from bridge_converters.onnx_to_torch.attention import biased_attention, seen_attention

    kind = getattr(torch, dtype)
    q, k, v, seen = (torch.from_numpy(each) for each in operands())
    q, k, v = (each.to(kind).requires_grad_() for each in (q, k, v))
    bias = torch.zeros(seen.shape, dtype=kind).masked_fill(~seen, number)
    wide = [each.repeat_interleave(2, 1) for each in (k, v)]
    scores = (q @ wide[0].mT / math.sqrt(4)).masked_fill(~seen, number)
    exact = number > -1e30 and dtype == "float64"
    weights = torch.softmax(q @ wide[0].mT / math.sqrt(4) + bias if exact else scores, -1)
    expected = weights @ wide[1]
    right = torch.autograd.grad((expected**2).sum(), (q, k, v))
    mine = [biased_attention(q, k, v, bias, enable_gqa=True)]
    if not exact:
        mine.append(seen_attention(q, k, v, seen, enable_gqa=True))
    if number > -1e30 and not exact:
        mine = mine[1:]
    for y in mine:
        torch.testing.assert_close(y, expected)
        for a, b in zip(torch.autograd.grad((y**2).sum(), (q, k, v)), right, strict=True):
            torch.testing.assert_close(a, b)


def test_rows_of_minus_infinity_are_not_a_number_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    from bridge_converters.onnx_to_torch.attention import biased_attention

    q, k, v, seen = (torch.from_numpy(each) for each in operands())
    bias = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, -math.inf)
    wide = [each.repeat_interleave(2, 1) for each in (k, v)]
    expected = torch.softmax(q @ wide[0].mT / 2 + bias, -1) @ wide[1]
    torch.testing.assert_close(biased_attention(q, k, v, bias, enable_gqa=True), expected, equal_nan=True)
    assert bool(expected[0, :, 1].isnan().all())


def test_queries_that_see_nothing_get_zeros_in_tensorflow() -> None:
    tf = pytest.importorskip("tensorflow")
    from bridge_converters.onnx_to_tf.attention import masked_attention, scaled_dot_product_attention

    q, k, v, seen = (tf.constant(each) for each in operands())
    with tf.GradientTape() as tape:
        tape.watch((q, k, v))
        y = masked_attention(q, k, v, seen)
        loss = tf.reduce_sum(y**2)
    gradients = tape.gradient(loss, (q, k, v))
    assert not np.any(y[0, :, 1])
    assert all(np.all(np.isfinite(each)) for each in gradients)
    assert not np.any(gradients[0][0, :, 1])
    plain = scaled_dot_product_attention(q, k, v, seen)
    assert np.all(np.isnan(plain[0, :, 1]))
    np.testing.assert_allclose(y[1], plain[1])
