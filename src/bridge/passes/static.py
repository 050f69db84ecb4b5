"""Everything about a graph that is known before it runs."""

from __future__ import annotations

import onnx_ir as ir

from bridge.errors import BridgeError
from bridge.passes.branches import take_known_branches
from bridge.passes.computed_shapes import fold_computed_shapes
from bridge.passes.fold_constants import fold_constants
from bridge.passes.shapes import infer_shapes
from bridge.passes.unused import drop_unused

_ROUNDS = 100


def fold_static(model: ir.Model) -> ir.Model:
    """Infer shapes, fold arithmetic on shapes and constants, until nothing more becomes known.

    One can make the other possible: a shape is computed from a constant, which gives a static axis.
    """
    for _ in range(_ROUNDS):
        infer_shapes(model)
        changed = fold_computed_shapes(model)
        changed |= fold_constants(model)
        changed |= take_known_branches(model)
        if not changed:
            return model
        drop_unused(model)
    raise BridgeError(f"shapes of the graph still change after {_ROUNDS} rounds of inference")
