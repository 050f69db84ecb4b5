"""Cases of matrix products."""

import ml_dtypes
import numpy as np

from operator_cases.case import case, draw

CASES = [
    case("Gemm", draw(2, 3), draw(3, 4)),
    case("Gemm", draw(2, 3), draw(3, 4), draw(4)),
    case("Gemm", draw(2, 3), draw(4, 3), draw(4), transB=1),
    case("Gemm", draw(2, 3), draw(4, 3), transB=1),
    case("Gemm", draw(3, 2), draw(3, 4), draw(2, 1), transA=1),
    case("Gemm", draw(3, 2), draw(4, 3), draw(1, 4), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", draw(2, 3), draw(3, 4), draw(), alpha=0.25),
    case("Gemm", draw(2, 3, dtype=np.float64), draw(3, 4, dtype=np.float64), draw(4, dtype=np.float64)),
    case("MatMul", draw(2, 3), draw(3, 4)),
    case("MatMul", draw(2, 5, 3), draw(3, 4)),
    case("MatMul", draw(2, 1, 5, 3), draw(4, 3, 2)),
    case("MatMul", draw(3), draw(3)),
    case("MatMul", draw(3), draw(3, 4)),
    case("MatMul", draw(2, 3), draw(3)),
    case("MatMul", draw(5, 2, 3), draw(3)),
    case("MatMul", draw(3), draw(5, 3, 2)),
    case("MatMul", draw(2, 3, dtype=np.int32), draw(3, 4, dtype=np.int32)),
    case("MatMul", draw(2, 3, dtype=np.int64), draw(3, 4, dtype=np.int64)),
    case("Einsum", draw(2, 3), draw(3, 4), equation="ij,jk->ik"),
    case("Einsum", draw(2, 3, 4), draw(2, 4, 5), equation="bij,bjk->bik"),
    case("Einsum", draw(2, 3), equation="ij->ji"),
    case("Einsum", draw(2, 3), equation="ij->i"),
    case("Einsum", draw(2, 3, 4), draw(5, 4), equation="...d,ed->...e"),
    case("Einsum", draw(2, 3, 4, dtype=np.float16), draw(5, 4, dtype=np.float16), equation="...d,ed->...e"),
    case("Einsum", draw(3, 3), equation="ii->i"),
    case("Einsum", draw(2, 3, 3), equation="bii->bi", label="batch-diagonal"),
    case("Einsum", draw(3), draw(3), equation="i,i", label="implicit-scalar"),
    case("Einsum", draw(2, 3), draw(3), equation=" b a , a ", label="spaces"),
    case("Einsum", draw(3, 2), equation="jK", label="implicit-order"),
    case("Einsum", draw(2, 4, 3), draw(1, 3, 5), equation="...ij,...jk", label="broadcast"),
    case("Einsum", draw(), draw(2), equation=",i->i", label="scalar"),
    case("Einsum", draw(2, 3), draw(3, 4), draw(4, 2), equation="ij,jk,kl->li", label="three"),
    case(
        "Einsum", draw(2, 3, dtype=np.int32), draw(3, 4, dtype=np.int32), equation="ij,jk->ik", label="int32"
    ),
    case(
        "Einsum",
        draw(2, 3, dtype=np.int8, high=90),
        draw(3, 4, dtype=np.int8, high=90),
        equation="ij,jk->ik",
        label="int8-wraps",
        oracle="reference",
    ),
    case(
        "Einsum",
        draw(2, 3, dtype=np.float16),
        draw(3, 4, dtype=np.float16),
        equation="ij,jk->ik",
        label="f16",
    ),
    case(
        "Einsum",
        draw(2, 3).astype(ml_dtypes.bfloat16),
        equation="ij->ji",
        label="bfloat16",
        opset=28,
        oracle="reference",
    ),
    case("Det", draw(4, 4)),
    case("Det", draw(2, 3, 3, 3)),
    case("Det", draw(2, 3, 3, dtype=np.float64)),
    case(
        "Det",
        draw(3, 3, dtype=np.float16),
        oracle="reference",
        label="float16",
        expected=(np.linalg.det(draw(3, 3, dtype=np.float16).astype(np.float32)).astype(np.float16),),
    ),
]
