"""How much a sum may be rounded, for noise of the size of rounding."""

from __future__ import annotations

import math

_PER_ROOT = 0.25


def units_of_sum(terms: float) -> float:
    """The relative noise of a sum of so many terms, in units of the last place; at least one unit.

    A quarter of the square root of their number. The root is the growth of the rounding error that holds
    with high probability where terms are added one after another (Higham and Mary, "A new approach to
    probabilistic rounding error analysis", SIAM J. Sci. Comput. 41(5), 2019); the quarter was measured
    (docs/calibration.md).
    """
    return max(1.0, _PER_ROOT * math.sqrt(terms))
