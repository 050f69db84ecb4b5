"""Cases of resizing and of moving between depth and space."""

import numpy as np
from operator_cases.case import case, draw

CASES = [
    case("DepthToSpace", draw(2, 8, 3, 4), blocksize=2),
    case("DepthToSpace", draw(2, 18, 2, 2), blocksize=3),
    case("DepthToSpace", draw(2, 8, 3, 4), blocksize=2, mode="CRD"),
    case("DepthToSpace", draw(1, 8, 2, 2, dtype=np.float64), blocksize=2),
    case("SpaceToDepth", draw(2, 3, 4, 6), blocksize=2),
    case("SpaceToDepth", draw(2, 2, 6, 3), blocksize=3),
]
