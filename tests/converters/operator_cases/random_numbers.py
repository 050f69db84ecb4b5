"""Random operators where chance has no say; what they draw is tested by its distribution."""

import numpy as np

from operator_cases.case import case, draw, scalar

_FLOAT16, _INT64, _DOUBLE, _BOOL = 10, 7, 11, 9
_KINDS = {1: np.float32, _FLOAT16: np.float16, _DOUBLE: np.float64}
_TWO_CLASSES = np.array([[-np.inf, 0.0, -np.inf], [5.0, -np.inf, -np.inf]], np.float32)

CASES = []
for _dtype, _kind in _KINDS.items():
    _like = draw(2, 3, dtype=np.int32)
    _threes = (np.full((2, 3), 3, _kind),)
    for _seed in ({}, {"seed": 7.0}):
        _options = {"dtype": _dtype, **_seed, "expected": _threes}
        CASES += [
            case("RandomNormal", shape=[2, 3], mean=3.0, scale=0.0, **_options),
            case("RandomNormalLike", _like, mean=3.0, scale=0.0, **_options),
            case("RandomUniform", shape=[2, 3], low=3.0, high=3.0, **_options),
            case("RandomUniformLike", _like, low=3.0, high=3.0, **_options),
        ]
for _seed in ({}, {"seed": -2.0}):
    _certain = np.array([[0, 1, 1], [1, 0, 0]], np.float32)
    CASES += [
        case("Bernoulli", _certain, expected=(_certain,), **_seed),
        case("Bernoulli", _certain.astype(np.float16), expected=(_certain.astype(np.float16),), **_seed),
        case("Bernoulli", _certain, dtype=_INT64, expected=(_certain.astype(np.int64),), **_seed),
        case("Bernoulli", _certain, dtype=_BOOL, expected=(_certain.astype(np.bool_),), **_seed),
        case("Multinomial", _TWO_CLASSES, expected=(np.array([[1], [0]], np.int32),), **_seed),
        case(
            "Multinomial",
            _TWO_CLASSES.astype(np.float64),
            sample_size=4,
            dtype=_INT64,
            expected=(np.array([[1] * 4, [0] * 4]),),
            **_seed,
        ),
    ]
CASES += [
    case("RandomNormalLike", draw(4), scale=0.0, expected=(np.zeros(4, np.float32),), label="dtype"),
    case("RandomUniformLike", draw(2, 0), expected=(np.zeros((2, 0), np.float32),), label="empty"),
]
_X = draw(3, 4)
_ALL = np.ones((3, 4), np.bool_)
for _computed in (False, True):
    CASES += [
        case("Dropout", _X, expected=(_X,), computed=_computed),
        case("Dropout", _X, scalar(0.25), outputs=2, expected=(_X, _ALL), computed=_computed),
        case(
            "Dropout",
            _X,
            scalar(0.25),
            scalar(False, np.bool_),
            outputs=2,
            expected=(_X, _ALL),
            label="inference",
            computed=_computed,
        ),
        case(
            "Dropout",
            _X.astype(np.float16),
            scalar(0.0, np.float16),
            scalar(True, np.bool_),
            outputs=2,
            expected=(_X.astype(np.float16), _ALL),
            label="keeps-everything",
            computed=_computed,
        ),
    ]
