"""Cases of normalisation and dropout."""

import numpy as np

from operator_cases.case import case, draw, scalar


def _batch(shape, dtype=np.float32, **attributes):
    c = shape[1] if len(shape) > 1 else 1
    return case(
        "BatchNormalization",
        draw(*shape, dtype=dtype),
        draw(c, dtype=dtype, seed=1),
        draw(c, dtype=dtype, seed=2),
        draw(c, dtype=dtype, seed=3),
        draw(c, dtype=dtype, seed=4, low=0.1, high=3),
        **attributes,
    )


CASES = [
    _batch((4, 3)),
    _batch((4, 3, 5)),
    _batch((4, 3, 5, 6), epsilon=1e-3),
    _batch((4, 3, 3, 4, 2)),
    _batch((4, 3, 5, 6), dtype=np.float64),
    _batch((4, 3, 5, 6), training_mode=1, outputs=3, momentum=0.8),
    _batch((4, 3), training_mode=1, outputs=3),
    _batch((4, 3, 5), dtype=np.float64, training_mode=1, outputs=3, tolerance=1e-7),
    _batch((4, 3, 5), training_mode=1),
    case(
        "BatchNormalization",
        draw(2, 3, 4, dtype=np.float16),
        *(draw(3, low=0.5, seed=seed) for seed in range(1, 5)),
        label="half-with-wide-statistics",
        oracle="reference",
    ),
    case("InstanceNormalization", draw(2, 3, 7), draw(3, seed=1), draw(3, seed=2)),
    case("InstanceNormalization", draw(2, 3, 4, 5), draw(3, seed=1), draw(3, seed=2), epsilon=1e-3),
    case("InstanceNormalization", draw(2, 3, 4, 5, 2), draw(3, seed=1), draw(3, seed=2)),
    case("LayerNormalization", draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2)),
    case("LayerNormalization", draw(2, 3, 8), draw(8, seed=1), epsilon=1e-3),
    case("LayerNormalization", draw(2, 3, 8), draw(3, 8, seed=1), draw(3, 8, seed=2), axis=1),
    case("LayerNormalization", draw(2, 3, 8), draw(3, 8, seed=1), draw(3, 8, seed=2), axis=-2),
    case("LayerNormalization", draw(2, 3, 4), draw(2, 3, 4, seed=1), axis=0),
    case("LayerNormalization", draw(2, 3, 8), draw(8, seed=1), draw(8, seed=2), outputs=3),
    case("LayerNormalization", draw(2, 3, 8), draw(3, 8, seed=1), axis=1, outputs=3),
    case("LayerNormalization", draw(2, 8, dtype=np.float64), draw(8, dtype=np.float64)),
    case("LayerNormalization", draw(2, 8, dtype=np.float16), draw(8, dtype=np.float16)),
    case("GroupNormalization", draw(2, 6, 4, 5), draw(6, seed=1), draw(6, seed=2), num_groups=2),
    case("GroupNormalization", draw(2, 6, 4), draw(6, seed=1), draw(6, seed=2), num_groups=6, epsilon=1e-2),
    case("GroupNormalization", draw(2, 4, 2, 3, 2), draw(4, seed=1), draw(4, seed=2), num_groups=1),
    case("RMSNormalization", draw(2, 3, 8), draw(8, seed=1)),
    case("RMSNormalization", draw(2, 3, 8), draw(3, 8, seed=1), axis=1, epsilon=1e-3),
    case("LRN", draw(2, 7, 3, 4), size=3),
    case("LRN", draw(7, 7, 3, 4), size=4, alpha=0.5, beta=0.6, bias=2.0, oracle="reference"),
    case("LpNormalization", draw(2, 3, 4)),
    case("LpNormalization", draw(2, 3, 4), p=1, axis=1),
    case("LpNormalization", np.zeros((2, 3), np.float32), label="zeros"),
    case("MeanVarianceNormalization", draw(2, 3, 4, 5)),
    case("MeanVarianceNormalization", draw(2, 3, 4, 5), axes=(1, 2)),
    case("Dropout", draw(2, 3)),
    case("Dropout", draw(2, 3), scalar(0.3)),
    case("Dropout", draw(2, 3), scalar(0.3), scalar(False, np.bool_), outputs=2),
]
