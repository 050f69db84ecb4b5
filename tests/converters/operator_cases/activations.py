"""Cases of activations and softmax."""

import numpy as np

from operator_cases.case import SPECIAL, case, draw

CASES = []
for _op in (
    *("Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Sigmoid", "HardSigmoid", "HardSwish", "Softplus"),
    *("Softsign", "Tanh", "Mish", "ThresholdedRelu", "Shrink"),
):
    CASES += [
        case(_op, draw(2, 3, 4, low=-8, high=8)),
        case(_op, draw(low=-8, high=8)),
        case(_op, draw(0, 3)),
        case(_op, draw(2, 3, low=-5, high=5, dtype=np.float64), tolerance=3e-7),
        case(_op, SPECIAL[1:-2], label="halves"),
        case(_op, np.array([-100, 100, -1e4, 1e4], np.float32), label="large"),
    ]
CASES += [
    case("Relu", SPECIAL, label="special"),
    case("Relu", draw(3, 4, dtype=np.int32, low=-9, high=9)),
    *(case("Swish", draw(3, 4, dtype=dtype), opset=24) for dtype in (np.float32, np.float64, np.float16)),
    case("Swish", draw(2, 5, low=-9, high=9), opset=24, alpha=0.5),
    case("Swish", np.array([-200, 200, 0, -0.0], np.float32), opset=24, alpha=2.0, label="large"),
    case("SwiGLU", draw(3, 4), draw(3, 4, seed=1), opset=28),
    case("SwiGLU", draw(3, 4), draw(3, 4, seed=1), opset=28, alpha=1.7),
    case("SwiGLU", draw(3, 4, dtype=np.float16), draw(3, 4, dtype=np.float16, seed=1), opset=28),
    case("LeakyRelu", draw(3, 4), alpha=0.3),
    case("LeakyRelu", draw(3, 4), alpha=0.0),
    case("Elu", draw(3, 4), alpha=0.5),
    case("Elu", draw(3, 4), alpha=2.0),
    case("Selu", draw(3, 4), alpha=1.5, gamma=2.0),
    case("Celu", draw(3, 4), alpha=0.5),
    case("Celu", draw(3, 4), alpha=3.0),
    case("Gelu", draw(3, 4, low=-6, high=6), approximate="tanh"),
    case("Gelu", draw(3, 4, low=-6, high=6, dtype=np.float64), approximate="tanh", tolerance=3e-7),
    case("HardSigmoid", draw(3, 4, low=-6, high=6), alpha=1 / 6, beta=0.5),
    case("HardSigmoid", draw(3, 4, low=-6, high=6), alpha=0.3, beta=0.4),
    case("ThresholdedRelu", draw(3, 4), alpha=0.5),
    case("Shrink", draw(3, 4), bias=0.3, lambd=1.0),
    case("Shrink", draw(3, 4, dtype=np.int32, low=-5, high=5), lambd=2.0),
    case("PRelu", draw(2, 3, 4), draw(3, 1, seed=1)),
    case("PRelu", draw(2, 3, 4, 5), draw(3, 1, 1, seed=1)),
    case("PRelu", draw(2, 3), draw(1, seed=1)),
    case("PRelu", draw(2, 3, dtype=np.float64), draw(3, seed=1, dtype=np.float64)),
]
for _op in ("Softmax", "LogSoftmax", "Hardmax"):
    CASES += [
        case(_op, draw(3, 4)),
        case(_op, draw(2, 3, 4), axis=0),
        case(_op, draw(2, 3, 4), axis=1),
        case(_op, draw(2, 3, 4, 2), axis=-2),
        case(_op, draw(3, 4, dtype=np.float64)),
        case(_op, np.array([[1e4, -1e4, 0]], np.float32), label="large"),
    ]
CASES.append(case("Hardmax", np.array([[1, 3, 3], [2, 2, 2]], np.float32), label="ties"))
