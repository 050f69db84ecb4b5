"""Cases of reductions and running sums."""

import numpy as np

from operator_cases.case import case, draw, ints, scalar

CASES = []
for _op in (
    *("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2"),
    *("ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"),
):
    _low = 0.1 if _op == "ReduceLogSum" else -2
    CASES += [
        case(_op, draw(2, 3, 4, low=_low)),
        case(_op, draw(2, 3, 4, low=_low), keepdims=0),
        case(_op, draw(2, 3, 4, low=_low), ints(1), label="middle"),
        case(_op, draw(2, 3, 4, low=_low), ints(-1, 0), keepdims=0, label="two"),
        case(_op, draw(2, 3, 4, low=_low), ints(2, 1), label="two-kept"),
        case(_op, draw(2, 3, 4, low=_low), np.zeros(0, np.int64), label="empty-axes"),
        case(
            _op,
            draw(2, 3, low=0.2),
            np.zeros(0, np.int64),
            noop_with_empty_axes=1,
            label="no-op",
            oracle="reference",
        ),
        case(_op, draw(2, 3, low=_low, dtype=np.float64), ints(1), label="float64"),
        case(
            _op, draw(2, 3, low=_low if _low > 0 else -3, high=3, dtype=np.int32) + 1, ints(1), label="int32"
        ),
        case(_op, draw(low=0.3), label="scalar"),
    ]
    CASES += [
        case(_op, draw(2, 3, 4, low=_low), ints(-1, 0), keepdims=0, label="two", computed=True),
        case(_op, draw(2, 3, 4, low=_low), ints(1), label="middle", computed=True),
        case(_op, draw(2, 3, low=_low), np.zeros(0, np.int64), label="empty-axes", computed=True),
        case(
            _op,
            draw(2, 3, low=0.2),
            np.zeros(0, np.int64),
            noop_with_empty_axes=1,
            label="no-op",
            oracle="reference",
            computed=True,
        ),
    ]
for _op in ("ReduceSum", "ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceMax", "ReduceMin"):
    CASES.append(case(_op, draw(2, 0, 3), ints(1), label="empty", oracle="reference"))
    CASES.append(case(_op, draw(2, 0, 3), ints(2), keepdims=0, label="empty-stays", oracle="reference"))
for _op in ("ReduceMax", "ReduceMin"):
    CASES.append(case(_op, draw(2, 0, 3, dtype=np.int32), ints(1), label="empty-int32", oracle="reference"))
    CASES.append(case(_op, draw(0, 3, dtype=np.bool_), ints(0), label="empty-bool", oracle="reference"))
CASES += [
    case("ReduceSum", draw(2, 3, dtype=np.int64), ints(1)),
    case("ReduceMax", draw(2, 3, dtype=np.int64), ints(1)),
    case("ReduceMin", draw(2, 3, dtype=np.uint8, high=200), ints(1)),
    case("ReduceMax", draw(2, 3, dtype=np.bool_), ints(1), oracle="reference"),
    case("ReduceMin", draw(2, 3, dtype=np.bool_), ints(1), oracle="reference"),
    case("ReduceLogSumExp", np.array([[1000, 1000.5]], np.float32), ints(1), label="large"),
    case("ReduceMean", np.array([[-3, -4], [3, 4]], np.int32), ints(1), label="int32-truncates"),
]
for _op in ("ArgMax", "ArgMin"):
    CASES += [
        case(_op, draw(2, 3, 4)),
        case(_op, draw(2, 3, 4), axis=-1, keepdims=0),
        case(_op, draw(2, 3, dtype=np.int32, low=-9, high=9), axis=1),
        case(_op, np.array([[2, 2, 1, 1, 2, 1]], np.float32), axis=1, label="ties"),
        case(_op, np.array([[2, 2, 1, 1, 2, 1]], np.float32), axis=1, select_last_index=1, label="last"),
        case(_op, draw(2, 3, dtype=np.float64), axis=1),
    ]
for _computed in (False, True):
    CASES += [
        case("CumSum", draw(2, 5), scalar(1, np.int64), computed=_computed, label=f"{flags}", **flags)
        for flags in ({}, {"exclusive": 1}, {"reverse": 1}, {"exclusive": 1, "reverse": 1})
    ]
CASES += [
    case("CumSum", draw(2, 5), ints(-2), label="negative"),
    *(
        case("CumProd", draw(2, 3, 5), scalar(axis, np.int64), opset=26, label=f"{axis}-{flags}", **flags)
        for axis, flags in (
            (0, {}),
            (-1, {"reverse": 1}),
            (1, {"exclusive": 1}),
            (2, {"exclusive": 1, "reverse": 1}),
        )
    ),
    case("CumProd", draw(2, 5), scalar(1, np.int64), opset=26, computed=True),
    case("CumProd", draw(2, 5, dtype=np.int32), scalar(0, np.int32), opset=26),
    case("CumProd", draw(2, 5, dtype=np.float16), scalar(0, np.int64), opset=26),
    case("CumSum", draw(2, 5, dtype=np.int32), scalar(0, np.int32)),
    case("CumSum", draw(2, 5, dtype=np.float64), scalar(0, np.int64)),
    case("CumSum", np.array([1, np.inf, 2], np.float32), scalar(0, np.int64), label="infinite", exclusive=1),
]
