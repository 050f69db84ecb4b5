"""How far the values inside both versions are apart, in the order in which they are computed."""

from __future__ import annotations

import math

from bridge.verification.localise.locate import Evidence
from bridge.verification.localise.rounding import own_errors
from bridge.verification.localise.trace import INPUT, Trace
from bridge.verification.report.depth import Depth, DepthPoint


def depth(
    evidence: Evidence, inputs: str, own: tuple[Trace, Trace] | None = None, *, first_wrong: str | None = None
) -> Depth:
    """The distances of all values of the target that have a counterpart and depend on the inputs.

    `inputs` is the name of the inputs that were looked at, `own` are the traces of the source and the target
    in their own precisions. `first_wrong` is the name of the target's value that a localisation found.
    """
    source, target = evidence.source, evidence.target
    of_source = None if own is None else own_errors(source, own[0])
    of_target = None if own is None else own_errors(target, own[1])
    points = []
    for position, (value, pairing) in enumerate(zip(target.values, evidence.pairings, strict=True)):
        partner = pairing.partner
        if partner is None or value.operator == INPUT or value.array.dtype.kind != "f":
            continue
        if not target.depends_on_inputs[position]:
            continue
        points.append(
            DepthPoint(
                position,
                value.name,
                value.operator,
                value.scope,
                value.location,
                source.values[partner].name,
                pairing.error,
                None if of_source is None else of_source[partner],
                None if of_target is None else of_target[position],
            )
        )
    wrong = next(
        (position for position, value in enumerate(target.values) if value.name == first_wrong), None
    )
    notes = []
    if any(each.function is not None and math.isinf(each.function) for each in points):
        notes.append("values of another shape, or with NaN or infinities in other places, are infinitely far")
    values = sum(value.operator != INPUT for value in target.values)
    return Depth(inputs, values, tuple(points), wrong, tuple(notes))
