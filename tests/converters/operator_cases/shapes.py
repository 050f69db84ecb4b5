"""Cases of reshaping, joining, splitting and casting."""

import ml_dtypes
import numpy as np
from onnx import TensorProto, numpy_helper

from operator_cases.case import SPECIAL, case, draw, ints, scalar

CASES = [
    case("Identity", draw(2, 3)),
    case("Shape", draw(2, 3, 4)),
    case("Shape", draw(2, 3, 4), start=1),
    case("Shape", draw(2, 3, 4), start=-2, end=-1),
    case("Shape", draw(2, 3, 4), start=-9, end=9),
    case("Shape", draw()),
    case("Size", draw(2, 3, 4)),
    case("Size", draw(0, 4)),
]
for _computed in (False, True):
    CASES += [
        case("Reshape", draw(2, 3, 4), ints(*shape), label=str(shape), computed=_computed, **attributes)
        for shape, attributes in (
            ((6, 4), {}),
            ((-1, 4), {}),
            ((0, -1), {}),
            ((0, 4, 3), {}),
            ((0, 0, 2, 2), {}),
            ((2, 0, -1), {}),
            ((1, 2, 3, 4, 1), {}),
            ((24,), {"allowzero": 1}),
        )
    ]
    CASES += [
        case("Reshape", draw(0, 3), ints(3, 0), allowzero=1, label="empty", computed=_computed),
        case("Reshape", draw(0, 3), ints(0, 3), label="keeps-empty", computed=_computed),
        case("Reshape", draw(1), np.zeros(0, np.int64), label="scalar", computed=_computed),
        case("Expand", draw(3, 1), ints(2, 3, 4), label="3", computed=_computed),
        case("Expand", draw(3, 4), ints(1, 1), label="keeps", computed=_computed),
        case("Expand", draw(1, 3), ints(2, 1), label="both", computed=_computed),
        case("Expand", draw(), ints(2, 2), label="scalar", computed=_computed),
        case("Expand", draw(2, 1, dtype=np.bool_), ints(2, 3), label="bool", computed=_computed),
        case("Tile", draw(2, 3), ints(2, 1), computed=_computed, label="rows"),
        case("Tile", draw(2, 3, dtype=np.int64), ints(1, 3), computed=_computed, label="columns"),
        case("Tile", draw(2, 3), ints(0, 3), computed=_computed, label="empty"),
        case("Split", draw(6, 2), ints(1, 2, 3), outputs=3, computed=_computed, label="sizes"),
        case("Split", draw(2, 6), ints(0, 6), outputs=2, axis=-1, computed=_computed, label="empty"),
        case("ConstantOfShape", ints(2, 3), computed=_computed, label="zero"),
        case(
            "ConstantOfShape",
            ints(2, 3),
            computed=_computed,
            label="int",
            value=numpy_helper.from_array(np.array([7], np.int32)),
        ),
        case("ConstantOfShape", np.zeros(0, np.int64), computed=_computed, label="scalar"),
    ]
CASES += [
    *(case("Flatten", draw(2, 3, 4, 5), axis=axis) for axis in (0, 1, 2, 4, -1, -3)),
    case("Flatten", draw(5)),
    case("Flatten", draw(2, 3)),
    case("Flatten", draw(0, 3, 4), axis=2),
    case("Transpose", draw(2, 3, 4)),
    case("Transpose", draw(2, 3, 4), perm=(1, 2, 0)),
    case("Transpose", draw(2, 3), perm=(1, 0)),
    case("Squeeze", draw(1, 3, 1, 2)),
    case("Squeeze", draw(1, 3, 1, 2), ints(0)),
    case("Squeeze", draw(1, 3, 1, 2), ints(-2), label="negative"),
    case("Squeeze", draw(1, 3, 1, 2), ints(2, 0), label="two"),
    case("Unsqueeze", draw(3, 2), ints(0)),
    case("Unsqueeze", draw(3, 2), ints(-1), label="last"),
    case("Unsqueeze", draw(3, 2), ints(4, 1, 0), label="unsorted"),
    case("Unsqueeze", draw(3, 2), ints(-1, 0), label="mixed"),
    case("Unsqueeze", draw(), ints(0), label="scalar"),
    case("Unsqueeze", draw(3, 2), ints(4, 1, 0), label="unsorted", computed=True),
    case("Unsqueeze", draw(3, 2), ints(-2), label="one", computed=True),
    case("Squeeze", draw(1, 3, 1, 2), ints(-2), label="negative", computed=True),
    case("Squeeze", draw(1, 3, 1, 2), ints(2, 0), label="two", computed=True),
    case("Concat", draw(2, 3), draw(2, 1, seed=1), axis=1),
    case("Concat", draw(2, 3), draw(1, 3, seed=1), draw(3, 3), axis=0),
    case("Concat", draw(2, 3), axis=-1),
    case("Concat", draw(2, 0), draw(2, 2), axis=-1),
    case("Concat", draw(2, dtype=np.int64), draw(3, dtype=np.int64), axis=0),
    case("Split", draw(6, 2), outputs=3, num_outputs=3),
    case("Split", draw(7, 2), outputs=3, num_outputs=3),
    case("Split", draw(2, 4, 3), outputs=2, num_outputs=2, axis=1),
    case("Split", draw(4, 3), ints(4), label="one"),
]
_DTYPES = {
    "FLOAT": np.float32,
    "DOUBLE": np.float64,
    "FLOAT16": np.float16,
    "BFLOAT16": ml_dtypes.bfloat16,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "BOOL": np.bool_,
}
CASES += [
    case("Cast", draw(3, 4, low=0, high=9), label=f"float32-{name}", to=getattr(TensorProto, name))
    for name in _DTYPES
]
CASES += [
    case("Cast", draw(3, 4, dtype=np.int64, low=-9, high=9), to=TensorProto.FLOAT),
    case("Cast", draw(3, 4, dtype=np.bool_), to=TensorProto.FLOAT),
    case("Cast", draw(3, 4, dtype=np.bool_), to=TensorProto.INT64),
    case("Cast", draw(3, 4, dtype=np.float64, low=-9, high=9), to=TensorProto.INT32),
    case("Cast", SPECIAL, label="special-bool", to=TensorProto.BOOL),
    case("Cast", SPECIAL, label="special-double", to=TensorProto.DOUBLE),
    case("CastLike", draw(3, 4, low=-9, high=9), draw(1, dtype=np.int64)),
    case("CastLike", draw(3, 4, dtype=np.int32), draw(1, dtype=np.float16)),
    case("Range", scalar(0, np.int64), scalar(5, np.int64), scalar(1, np.int64), label="int64"),
    case("Range", scalar(10, np.int32), scalar(4, np.int32), scalar(-2, np.int32), label="int32"),
    case("Range", scalar(0.5), scalar(3), scalar(0.5), label="float32"),
    case("Range", scalar(0, np.int16), scalar(5, np.int16), scalar(2, np.int16), label="int16"),
    case("Range", scalar(7.5, np.float64), scalar(3, np.float64), scalar(-1, np.float64), label="float64"),
    *(
        case(
            "Range",
            scalar(1, kind),
            scalar(2, kind),
            scalar(0.1, kind),
            label=f"{np.dtype(kind).name}-{stash}",
            opset=27,
            oracle="reference",
            stash_type=stash,
        )
        for kind in (np.float16, ml_dtypes.bfloat16)
        for stash in (1,)
    ),
    case("EyeLike", draw(3, 4)),
    case("EyeLike", draw(3, 4, dtype=np.int32), label="int32"),
    case("EyeLike", draw(3, 4), dtype=7, k=1, label="above"),
    case("EyeLike", draw(4, 3), dtype=9, k=-2, label="below"),
    case("EyeLike", draw(3, 3), dtype=10, k=5, label="outside"),
    case("Range", scalar(5, np.int64), scalar(0, np.int64), scalar(1, np.int64), label="empty"),
]
