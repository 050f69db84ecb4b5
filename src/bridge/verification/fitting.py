"""Fit the inputs that are drawn to what both versions of a model take."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from bridge.verification.inputs import TOKEN_LIMITS, InputPlan, Role, plan
from bridge.verification.layouts import Shape, first_to_last, inverse, last_to_first
from bridge.verification.pairing import Correspondence, PairedInput
from bridge.worker.side import Description, TensorSpec

Runs = Callable[[Sequence[InputPlan], str], bool]


def common_sizes(
    specs: Sequence[TensorSpec], target: Description, names: Mapping[str, str] | Correspondence
) -> tuple[list[TensorSpec], list[str]]:
    """The source's inputs with what only the target knows or fixes about them, and notes about that.

    `names` are the target's names by the source's, or all that is known about what belongs together. A
    type, rank or limit of ids that the source does not state is the target's; a size that the source
    leaves open and the target fixes is fixed.
    """
    if not isinstance(names, Correspondence):
        names = Correspondence({ours: PairedInput(theirs) for ours, theirs in names.items()})
    others = {each.name: each for each in target.inputs}
    fitted, notes = [], []
    for spec in specs:
        if spec.name not in names.inputs:
            continue
        paired = names.inputs[spec.name]
        other = others[paired.target]
        back = inverse(paired.permutation)
        theirs = other.shape if back is None or other.shape is None else tuple(other.shape[i] for i in back)
        known = replace(
            spec,
            dtype=spec.dtype or other.dtype,
            shape=spec.shape if spec.shape is not None else theirs,
            limit=spec.limit if spec.limit is not None else other.limit,
        )
        fixed = replace(known, shape=_fixed(known.shape, theirs))
        if fixed != known:
            notes.append(f"the target takes the input {spec.name!r} with fixed sizes only: {fixed.shape}")
        fitted.append(fixed)
    return fitted, notes


def _fixed(ours: Shape | None, theirs: Shape | None) -> tuple[int | str | None, ...] | None:
    if ours is None or theirs is None or len(ours) != len(theirs):
        return None if ours is None else tuple(ours)
    return tuple(
        other if isinstance(other, int) and not isinstance(one, int) else one
        for one, other in zip(ours, theirs, strict=True)
    )


def unknown_layouts(
    source: Sequence[TensorSpec], target: Sequence[TensorSpec], found: Correspondence
) -> list[str]:
    """The source's inputs of images or volumes of which one side alone states the shape.

    Whether the other side takes them channels first or last, only trying can tell: `other_layout`.
    """
    others = {each.name: each for each in target}
    result = []
    for spec in source:
        paired = found.inputs.get(spec.name)
        if paired is None or paired.permutation is not None:
            continue
        shapes = (spec.shape, others[paired.target].shape)
        known = [shape for shape in shapes if shape is not None]
        if len(known) == 1 and len(known[0]) in (4, 5):
            result.append(spec.name)
    return result


def other_layout(
    source: Sequence[TensorSpec], target: Sequence[TensorSpec], found: Correspondence, name: str
) -> tuple[list[TensorSpec], Correspondence]:
    """The source's inputs and the correspondence if the two sides take an input in different layouts.

    `name` is one of `unknown_layouts`. Channels are where fewer of them are than the axis at the other end
    has, or, if sizes do not tell, first in the source. The shape stays that of the side that states it.
    """
    spec = next(each for each in source if each.name == name)
    paired = found.inputs[name]
    theirs = next(each.shape for each in target if each.name == paired.target)
    stated = spec.shape if spec.shape is not None else theirs
    assert stated is not None
    rank = len(stated)
    last = _channels_are_last(stated, default=spec.shape is None)
    if spec.shape is None:
        permutation = first_to_last(rank) if last else last_to_first(rank)
        back = inverse(permutation)
        assert back is not None
        spec = replace(spec, shape=tuple(stated[axis] for axis in back))
    else:
        permutation = last_to_first(rank) if last else first_to_last(rank)
    note = f"the input {name!r} is transposed for the target: {list(permutation)}"
    inputs = {**found.inputs, name: paired._replace(permutation=permutation)}
    specs = [spec if each.name == name else each for each in source]
    return specs, replace(found, inputs=inputs, notes=(*found.notes, note))


Tries = Callable[[Literal["source", "target"], Sequence[InputPlan], Correspondence, str], bool]


def settle_layouts(
    specs: Sequence[TensorSpec], target: Description, found: Correspondence, tries: Tries
) -> tuple[list[TensorSpec], Correspondence]:
    """The source's inputs and the correspondence, with layouts that no shape tells found by trying.

    Of an image whose shape one side alone states, the other side gets it as stated; if it refuses that
    and runs it in the other layout, that is the one. `tries` runs a side with plans for the source's inputs;
    its last argument names the trial.
    """
    settled = list(specs)
    for name in unknown_layouts(settled, target.inputs, found):
        stated = next(each.shape for each in settled if each.name == name)
        side: Literal["source", "target"] = "source" if stated is None else "target"
        turned, other = other_layout(settled, target.inputs, found, name)
        plans = [
            plan(common_sizes(each, target, one)[0]) for each, one in ((settled, found), (turned, other))
        ]
        if not tries(side, plans[0], found, f"layout-{name}") and tries(
            side, plans[1], other, f"other-layout-{name}"
        ):
            settled, found = turned, other
    return settled, found


def _channels_are_last(shape: Shape, *, default: bool) -> bool:
    first, last = shape[1], shape[-1]
    if isinstance(first, int) and isinstance(last, int) and first != last:
        return last < first
    if isinstance(first, int) != isinstance(last, int):
        return isinstance(last, int)
    return default


_IDS = re.compile(r"(^|[^a-z])(ids?|idx|ind(ex|ices)|tokens?|words?|labels?|class(es)?|categor\w*)([^a-z]|$)")


def vocabularies(plans: Sequence[InputPlan], runs: Runs) -> tuple[list[InputPlan], list[str]]:
    """The plans with the range of every integer input, and notes about ranges that had to be tried.

    Where the graph does not show the limit of ids, the largest of a few that the source runs is taken,
    without zeros if it runs none with them (a division); if it also runs negative ones and the name does
    not speak of ids, they are drawn as boundary values. An input for which nothing runs is tried again
    when the others have their ranges. `runs` tries plans on the source; its second argument names the trial.
    """
    fitted, notes = list(plans), []
    open_ones = [
        number
        for number, each in enumerate(plans)
        if each.role in (Role.TOKENS, Role.TOKEN_TYPES) and not each.bounded
    ]
    refused = []
    for number in open_ones:
        found = _range(fitted, number, runs, f"trial-{number}")
        if found is None:
            refused.append(number)
        else:
            fitted[number] = found
    for number in refused:
        fitted[number] = _range(fitted, number, runs, f"retrial-{number}") or fitted[number]
    for number in open_ones:
        each = fitted[number]
        low = int(each.nonzero)
        notes.append(f"the values of the input {each.name!r} are drawn from {low} to {each.limit - 1}")
        if each.role is Role.TOKENS and _may_be_negative(each):
            negative = _replaced(fitted, replace(each, role=Role.INTEGERS))
            if runs(negative, f"trial-{number}-signed"):
                fitted[number] = replace(each, signed=True)
                notes[-1] += ", and negative ones among the boundary values"
    return fitted, notes


def _range(plans: Sequence[InputPlan], number: int, runs: Runs, name: str) -> InputPlan | None:
    """The plan of one input with the largest range that the source runs; None where it runs none."""
    each = plans[number]
    limits = TOKEN_LIMITS if each.role is Role.TOKENS else TOKEN_LIMITS[-1:]
    for nonzero in (False, True):
        for limit in limits:
            changed = replace(each, limit=limit, nonzero=nonzero)
            if runs(_replaced(plans, changed), f"{name}-{limit}{'-nonzero' * nonzero}"):
                return changed
    return None


def _may_be_negative(each: InputPlan) -> bool:
    return bool(np.iinfo(each.dtype).min < 0) and _IDS.search(each.name.lower()) is None


def _replaced(plans: Sequence[InputPlan], changed: InputPlan) -> list[InputPlan]:
    return [changed if each.name == changed.name else each for each in plans]
