"""Cases of the steps of optimizers."""

from __future__ import annotations

import numpy as np

from operator_cases.case import Array, Case, case, draw, scalar


def _tensors(groups: int, *shapes: tuple[int, ...], dtype: type = np.float32) -> list[Array]:
    """Parameters and gradients of these shapes, and states that are positive."""
    return [
        draw(*shape, dtype=dtype, low=0.1 if group > 1 else -1, high=1, seed=group)
        for group in range(groups)
        for shape in shapes
    ]


def _adam(
    rate: float,
    step: int,
    shapes: tuple[tuple[int, ...], ...],
    dtype: type,
    label: str,
    *,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> Case:
    """The formula of the specification; the reference changes the types of its results."""
    count = len(shapes)
    tensors = _tensors(4, *shapes, dtype=dtype)
    adjusted = rate * np.sqrt(1 - beta**step) / (1 - alpha**step) if step > 0 else rate
    results: list[list[Array]] = [[], [], []]
    for i in range(count):
        x, g, v, h = (each.astype(np.float64) for each in tensors[i::count])
        g = norm_coefficient * x + g
        v = alpha * v + (1 - alpha) * g
        h = beta * h + (1 - beta) * g * g
        x = (1 - norm_coefficient_post) * (x - adjusted * v / (np.sqrt(h) + epsilon))
        for result, value in zip(results, (x, v, h), strict=True):
            result.append(np.asarray(value, dtype))
    attributes = {
        "alpha": alpha,
        "beta": beta,
        "epsilon": epsilon,
        "norm_coefficient": norm_coefficient,
        "norm_coefficient_post": norm_coefficient_post,
    }
    return case(
        "Adam",
        scalar(rate, dtype),
        scalar(step, np.int64),
        *tensors,
        outputs=3 * count,
        expected=tuple(value for result in results for value in result),
        label=label,
        tolerance=1e-6,
        **_TRAINING,
        **attributes,
    )


_TRAINING = {"domain": "ai.onnx.preview.training", "opset": 1}
_DECAY = {"alpha": 0.8, "beta": 0.9, "epsilon": 1e-5, "norm_coefficient": 0.01}

CASES = []
for _label, _step, _shapes, _dtype in (
    ("first", 0, ((3, 2),), np.float32),
    ("later", 4, ((3, 2),), np.float32),
    ("two", 3, ((3, 2), (4,)), np.float32),
    ("float64", 3, ((2,), (), (2, 2)), np.float64),
):
    _inputs = (
        scalar(0.1, _dtype),
        scalar(_step, np.int64),
        *_tensors(3, *_shapes, dtype=_dtype),
    )
    _options = {"outputs": 2 * len(_shapes), "oracle": "reference", **_TRAINING}
    CASES += [
        case(
            "Momentum",
            *_inputs,
            label=f"{_label}-{_mode}",
            alpha=0.95,
            beta=0.85,
            mode=_mode,
            norm_coefficient=0.01,
            **_options,
        )
        for _mode in ("standard", "nesterov")
    ]
    CASES += [
        case("Adagrad", *_inputs, label=_label, **_options),
        case(
            "Adagrad",
            *_inputs,
            label=f"{_label}-decay",
            norm_coefficient=0.01,
            decay_factor=0.1,
            epsilon=1e-5,
            **_options,
        ),
        _adam(0.1, _step, _shapes, _dtype, _label),
        _adam(0.1, _step, _shapes, _dtype, f"{_label}-decay", norm_coefficient_post=0.02, **_DECAY),
    ]
