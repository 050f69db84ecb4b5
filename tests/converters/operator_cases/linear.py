"""Cases of matrix products."""

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
    case("Einsum", draw(3, 3), equation="ii->i"),
]
