"""Whether a departure from what a case expects is rounding: judged by the model in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx

from bridge.worker.sides.onnx_double import DoubleModel
from scripts.onnx_suite.compare import difference


def is_rounding(
    model: onnx.ModelProto, inputs: Sequence[Any], outputs: Sequence[Any], expected: Sequence[Any]
) -> bool:
    """Whether outputs of the right types and shapes are at least as near to the exact ones as the case's are.

    Exact is what ONNX's reference evaluator computes in float64. A case's numbers hold the roundings of one
    order of operations in a narrow type; another order departs from them without being wrong.
    """
    if difference(list(outputs), list(expected), rtol=0.0, atol=0.0, values=False) is not None:
        return False
    if not all(isinstance(each, np.ndarray) for each in (*inputs, *expected)):
        return False
    try:
        names = [each.name for each in model.graph.input]
        exact = DoubleModel(model).run(dict(zip(names, inputs, strict=False)))
    except Exception:  # what the evaluator cannot compute in float64 is not judged
        return False
    return all(
        right.shape == theirs.shape and _distance(ours, right) <= _distance(theirs, right)
        for ours, theirs, right in zip(outputs, expected, exact, strict=True)
    )


def _distance(array: Any, exact: Any) -> float:
    """The largest difference; infinite where not both are finite, unless they are the same there."""
    wide = np.complex128 if exact.dtype.kind == "c" else np.float64
    ours, right = np.asarray(array).astype(wide), np.asarray(exact).astype(wide)
    same = (ours == right) | (np.isnan(ours) & np.isnan(right))
    with np.errstate(invalid="ignore"):
        apart = np.where(same, 0.0, np.abs(ours - right))
    return float(np.nan_to_num(apart, nan=np.inf, posinf=np.inf).max(initial=0.0))
