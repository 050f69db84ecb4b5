"""Cases of classification losses."""

import ml_dtypes
import numpy as np

from operator_cases.case import case, draw

_LABELS = {
    "N": ((3, 5), np.array([1, 0, 4])),
    "N1": ((3, 5, 2), np.array([[1, 0], [4, 2], [3, 3]])),
    "N2": ((2, 4, 3, 2), draw(2, 3, 2, dtype=np.int64, low=0, high=3)),
    "N3": ((2, 4, 1, 3, 2), draw(2, 1, 3, 2, dtype=np.int64, low=0, high=3)),
}
_WEIGHTS = np.array([0.5, 1.0, 2.0, 0.1, 1.5], np.float32)

CASES = []
for _op, _outputs in (
    ("NegativeLogLikelihoodLoss", 1),
    ("SoftmaxCrossEntropyLoss", 1),
    ("SoftmaxCrossEntropyLoss", 2),
):
    for _label, (_shape, _target) in _LABELS.items():
        _weight = _WEIGHTS[: _shape[1]]
        for _reduction in ("none", "sum", "mean"):
            CASES += [
                case(
                    _op,
                    draw(*_shape),
                    _target,
                    outputs=_outputs,
                    label=f"{_label}-{_reduction}",
                    reduction=_reduction,
                ),
                case(
                    _op,
                    draw(*_shape),
                    _target.astype(np.int32),
                    _weight,
                    outputs=_outputs,
                    label=f"{_label}-{_reduction}-weights-ignore",
                    reduction=_reduction,
                    ignore_index=1,
                ),
            ]
    CASES += [
        case(
            _op, draw(3, 5), np.array([1, -7, 4]), outputs=_outputs, label="ignored-outside", ignore_index=-7
        ),
        case(_op, draw(3, 5), np.array([1, 9, 9]), outputs=_outputs, label="ignored-beyond", ignore_index=9),
        case(_op, draw(3, 5, dtype=np.float64), np.array([1, 0, 4]), outputs=_outputs, label="float64"),
        case(
            _op,
            draw(3, 5, dtype=np.float16),
            np.array([1, 0, 4]),
            outputs=_outputs,
            label="float16",
            oracle="reference",
        ),
        case(
            _op,
            draw(3, 5).astype(ml_dtypes.bfloat16),
            np.array([1, 0, 4]),
            outputs=_outputs,
            label="bfloat16",
            oracle="reference",
        ),
    ]
