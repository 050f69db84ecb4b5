"""The passes in order: what happens to a graph between the reader and the writer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from bridge.hub.check import check_model
from bridge.passes.constants import lift_constants
from bridge.passes.fold_trained import fold_buffers, fold_moves
from bridge.passes.identity import drop_identities
from bridge.passes.inline import inline_functions
from bridge.passes.naming import name_values
from bridge.passes.opset import to_hub_opset
from bridge.passes.order import order_nodes
from bridge.passes.recipes import attach_recipes
from bridge.passes.shapes import infer_shapes
from bridge.passes.static import fold_static
from bridge.passes.unused import drop_unused
from bridge.passes.zero_bias import drop_zero_bias


@dataclass(frozen=True)
class Pass:
    """A named step, model to model; it may change the model it is given and returns the one to go on with."""

    name: str
    run: Callable[[ir.Model], ir.Model]


PASSES: tuple[Pass, ...] = (
    Pass("inline functions", inline_functions),
    Pass("bring to the hub's opset", to_hub_opset),
    Pass("lift constants to initializers", lift_constants),
    Pass("give trained tensors their recipes", attach_recipes),
    Pass("drop unused nodes", drop_unused),
    Pass("infer shapes and fold what is static", fold_static),
    Pass("drop identities", drop_identities),
    Pass("fold moves of trained tensors", fold_moves),
    Pass("drop biases of zeros", drop_zero_bias),
    Pass("fold computations on buffers", fold_buffers),
    Pass("drop identities again", drop_identities),
    Pass("drop unused nodes again", drop_unused),
    Pass("infer the final shapes", infer_shapes),
    Pass("order nodes", order_nodes),
    Pass("name values", name_values),
)
"""What `canonicalise` does, in order."""


@dataclass(frozen=True)
class PassTime:
    """How long a pass took."""

    name: str
    seconds: float


def canonicalise(model: ir.Model, *, timings: list[PassTime] | None = None) -> ir.Model:
    """The canonical form of what a reader delivered, independent of the target.

    Works on a clone; weights are shared with the reader's model, not copied. `timings` receives the
    time of each pass. Raises BridgeError on a graph that is not valid.
    """
    model = run_passes(model.clone(deep_copy=True), PASSES, timings)
    check_model(model, stage="after canonicalisation")
    return model


def run_passes(model: ir.Model, passes: Sequence[Pass], timings: list[PassTime] | None = None) -> ir.Model:
    """Run passes in order and record their times."""
    for each in passes:
        start = time.perf_counter()
        model = each.run(model)
        if timings is not None:
            timings.append(PassTime(each.name, time.perf_counter() - start))
    return model
