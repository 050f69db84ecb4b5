"""Cases of selecting, gathering, scattering and ordering."""

import numpy as np

from operator_cases.case import case, draw, ints, scalar

_END = np.iinfo(np.int64).max
_BEGIN = np.iinfo(np.int64).min

CASES = []
for _computed in (False, True):
    CASES += [
        case("Slice", draw(20, 10, 5), ints(0), ints(3), label="first", computed=_computed),
        case("Slice", draw(20, 10, 5), ints(0, 0), ints(3, 10), ints(0, 1), label="two", computed=_computed),
        case("Slice", draw(4, 10), ints(1), ints(_END), ints(1), label="to-the-end", computed=_computed),
        case("Slice", draw(4, 10), ints(-3), ints(_END), ints(-1), label="last", computed=_computed),
        case("Slice", draw(4, 10), ints(0), ints(-1), ints(1), label="negative-end", computed=_computed),
        case("Slice", draw(4, 10), ints(1), ints(1000), ints(1), ints(2), label="steps", computed=_computed),
        case(
            "Slice", draw(4, 10), ints(9), ints(0), ints(1), ints(-3), label="backwards", computed=_computed
        ),
        case("Slice", draw(2, 3, 4, 5), ints(1), ints(3), ints(3), label="axis-3", computed=_computed),
        case("Slice", draw(2, 3, 4, 5), ints(1), ints(3), ints(2), label="axis-2", computed=_computed),
        case("Slice", draw(4, 5), ints(3), ints(1), ints(1), label="empty", computed=_computed),
        case("Slice", draw(4, 5), ints(-100), ints(100), ints(0), label="beyond", computed=_computed),
        case(
            "Slice", draw(4, 5, dtype=np.int64), ints(1), ints(2), ints(0), label="int64", computed=_computed
        ),
        case("Gather", draw(5, 4), ints(0, 2, 4), label="rows", computed=_computed),
        case("Gather", draw(5, 4), ints(0, -1), axis=1, label="columns", computed=_computed),
        case("Gather", draw(5, 4), scalar(2, np.int64), label="one-row", computed=_computed),
        case("Gather", draw(5, 4, 3), scalar(-1, np.int64), axis=1, label="one", computed=_computed),
        case("Gather", draw(5, 4, 3), scalar(1, np.int64), axis=-1, label="last", computed=_computed),
        case("Gather", draw(5, 4, 3), scalar(1, np.int64), axis=2, label="third", computed=_computed),
        case("Gather", draw(5, 4, 3), ints(0, 1, 1), axis=-2, label="axis-2", computed=_computed),
        case("Trilu", draw(4, 5), computed=_computed),
        case("Trilu", draw(2, 4, 5), scalar(1, np.int64), computed=_computed, label="above"),
        case("Trilu", draw(2, 4, 5), scalar(-2, np.int64), upper=0, computed=_computed, label="below"),
        case("Trilu", draw(4, 5, dtype=np.int64), scalar(9, np.int64), computed=_computed, label="none"),
        case("TopK", draw(3, 7), ints(2), outputs=2, computed=_computed),
        case("TopK", draw(3, 7), ints(3), outputs=2, axis=0, computed=_computed),
        case("TopK", draw(3, 7), ints(3), outputs=2, largest=0, computed=_computed),
        case("Compress", draw(3, 2), np.array([0, 1, 1], bool), axis=0, computed=_computed, label="rows"),
        case("Compress", draw(3, 2), np.array([0, 1], bool), axis=0, computed=_computed, label="short"),
        case("Compress", draw(3, 2), np.array([0, 1, 0, 0, 1], bool), computed=_computed, label="flat"),
    ]
    CASES += [
        case("OneHot", indices, depth, values, axis=axis, label=f"{label}", computed=_computed)
        for label, indices, depth, values, axis in (
            ("int64", np.array([0, 2, -1, 7]), scalar(3, np.int64), np.array([0, 1], np.float32), -1),
            ("axis-0", np.array([[0, 2], [1, 1]]), scalar(3, np.int64), np.array([2, 5], np.int64), 0),
            ("axis-1", np.array([[0, 2], [1, -3]]), ints(3), np.array([0, 1], np.float32), 1),
            ("float", np.array([1.0, 2.0], np.float32), scalar(3.0), np.array([-1, 1], np.float32), -1),
        )
    ]
CASES += [
    case("Slice", draw(4, 10), ints(_END), ints(_BEGIN), ints(1), ints(-1), label="reversed"),
    case("Slice", draw(3, 4, 5), ints(-1), ints(_BEGIN), ints(-2), ints(-1), label="reversed-from-last"),
    case("Slice", draw(0, 4), ints(-1), ints(_BEGIN), ints(0), ints(-1), label="reversed-empty"),
    case(
        "Slice", draw(4, 6, 5), ints(3, -1), ints(_BEGIN, 0), ints(0, 2), ints(-1, -2), label="two-backwards"
    ),
    case("Gather", draw(5, 4), np.array([[0, 1], [-1, 3]]), label="matrix"),
    case("Gather", draw(5, 4), np.array([[0, 1], [2, 3]]), axis=1, label="matrix-1"),
    case("Gather", draw(5, 4), np.array([[0, 1], [2, 3]], np.int32), axis=1, label="int32"),
    case("Gather", draw(5, 4), np.zeros((0,), np.int64), label="empty"),
    case("Gather", draw(5, 4, dtype=np.bool_), ints(1, 0), label="bool"),
    case("GatherElements", draw(3, 4), np.array([[0, 1, -1, 2], [1, 1, 0, 0]]), label="rows"),
    case("GatherElements", draw(3, 4), np.array([[0, -1], [1, 2], [3, 3]]), axis=1, label="columns"),
    case(
        "GatherElements", draw(2, 3, 4), draw(2, 3, 2, dtype=np.int64, low=0, high=3), axis=-1, label="last"
    ),
    case("GatherElements", draw(3, 4), draw(3, 2, dtype=np.int32, low=0, high=3), axis=1),
    case("GatherND", draw(2, 3, 4), np.array([[0, 1], [1, -1]]), label="two-of-three"),
    case("GatherND", draw(2, 3, 4), np.array([[[0]], [[1]]]), label="rows"),
    case("GatherND", draw(2, 3, 4), np.array([[1], [0]]), batch_dims=1, label="batch-1"),
    case(
        "GatherND",
        draw(2, 3, 4),
        np.array([[[1], [0], [3]], [[2], [2], [-1]]]),
        batch_dims=2,
        label="batch-2",
    ),
    case("ScatterND", draw(5, 3), np.array([[0], [-1]]), draw(2, 3, seed=1), label="rows"),
    case("ScatterND", draw(5, 3), np.array([[0, 1], [4, 2]]), draw(2, seed=1), label="elements"),
    *(
        case("ScatterND", draw(5, 3), np.array([[0], [2], [0]]), draw(3, 3, seed=1), label=r, reduction=r)
        for r in ("add", "mul", "max", "min")
    ),
    *(
        case(
            "ScatterND",
            draw(4, 3),
            np.array([[0, 1], [2, -1], [0, 1]]),
            draw(3, seed=1),
            label=f"{r}-elements",
            reduction=r,
        )
        for r in ("add", "mul", "max", "min")
    ),
    case(
        "ScatterND",
        draw(2, 3, dtype=np.int64),
        np.array([[1]]),
        draw(1, 3, dtype=np.int64, seed=1),
        label="int64",
    ),
    case("ScatterElements", draw(3, 4), np.array([[0, 1, -1, 2]]), draw(1, 4, seed=1), label="rows"),
    case(
        "ScatterElements", draw(3, 4), np.array([[0], [-1], [3]]), draw(3, 1, seed=1), axis=1, label="columns"
    ),
    *(
        case(
            "ScatterElements",
            draw(3, 4),
            np.array([[0, 0], [1, 1], [3, -2]]),
            draw(3, 2, seed=1),
            axis=-1,
            label=r,
            reduction=r,
        )
        for r in ("add", "mul", "max", "min")
    ),
    case("NonZero", np.array([[1, 0, 2], [0, 0, 3]], np.float32), label="float32"),
    case("NonZero", draw(2, 3, 2, dtype=np.bool_), label="bool"),
    case("NonZero", np.zeros((2, 3), np.int64), label="none"),
    case("TopK", np.array([[1, 3, 3, 2, 3]], np.float32), ints(3), outputs=2, label="ties"),
    case(
        "TopK", np.array([[1, 3, 1, 2, 1]], np.float32), ints(3), outputs=2, largest=0, label="smallest-ties"
    ),
    case("TopK", draw(3, 9, dtype=np.int64, low=-5, high=5), ints(4), outputs=2, label="int64"),
    case("TopK", np.array([[5, -(2**31), 7]], np.int32), ints(2), outputs=2, largest=0, label="least-int32"),
    case("TopK", draw(2, 3, 4, 5), ints(2), outputs=2, axis=1, label="axis-1"),
    case("TopK", draw(3, 7, dtype=np.float64), ints(7), outputs=2, label="float64"),
    case("ReverseSequence", draw(4, 3, 2), ints(4, 1, 2), label="time-major"),
    case("ReverseSequence", draw(3, 4), ints(4, 1, 2), batch_axis=0, time_axis=1, label="batch-major"),
    case("Unique", np.array([2.0, 1, 1, 3, 4, 3], np.float32), outputs=4, label="sorted"),
    case("Unique", np.array([[2, 1, 1], [3, 4, 3]], np.int64), outputs=4, sorted=0, label="first-come"),
    case("Unique", np.array([[2, 1, 1], [3, 4, 3]], np.int8), label="values-only"),
    case("Unique", np.array([2.0, 1, 1], np.float64), outputs=3, label="three"),
    case("Unique", np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4], [1, 0, -1]], np.float32), outputs=4, axis=0),
    case(
        "Unique",
        np.array([[2, 3, 4], [1, 0, 0], [1, 0, 0]], np.int64),
        outputs=4,
        axis=0,
        sorted=0,
        label="rows-first-come",
    ),
    case("Unique", draw(2, 6, 2, dtype=np.int64, low=0, high=1), outputs=4, axis=1, label="middle"),
    case("Unique", draw(2, 3, 6, dtype=np.int64, low=0, high=1), outputs=4, axis=-1, label="last"),
    case("Unique", np.array([True, False, True]), outputs=4, label="bool", oracle="reference"),
    case("Unique", np.array([5], np.float32), outputs=4, label="one"),
]
for _label, _slice in {
    "axes": ((20, 10, 5), ints(1, -3), ints(9, 2**40), ints(1, -1), None),
    "steps": ((20, 10, 5), ints(15, 0), ints(2, 10), ints(0, 1), ints(-3, 2)),
    "reversed": ((4, 10), ints(_END), ints(_BEGIN), ints(1), ints(-1)),
    "to-begin": ((4, 10), ints(7), ints(-1000), ints(-1), ints(-1)),
    "no-axes": ((4, 10), ints(1, 2), ints(3, -1), None, ints(1, 3)),
    "int32": ((4, 10), ints(1).astype(np.int32), ints(3).astype(np.int32), ints(1).astype(np.int32), None),
}.items():
    CASES.append(case("Slice", draw(*_slice[0]), *_slice[1:], label=_label, computed=True))
