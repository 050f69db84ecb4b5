"""Fit the inputs that are drawn to what both versions of a model take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from bridge.verification.inputs import TOKEN_LIMITS, InputPlan, Role, with_limit
from bridge.worker.side import Description, TensorSpec

Runs = Callable[[Sequence[InputPlan], str], bool]


def common_sizes(
    specs: Sequence[TensorSpec], target: Description, names: Mapping[str, str]
) -> tuple[list[TensorSpec], list[str]]:
    """The source's inputs with what only the target knows or fixes about them, and notes about that.

    `names` are the target's names by the source's. A type or rank that the source does not state is the
    target's; a size that the source leaves open and the target fixes is fixed.
    """
    others = {each.name: each for each in target.inputs}
    fitted, notes = [], []
    for spec in specs:
        other = others[names[spec.name]]
        known = replace(spec, dtype=spec.dtype or other.dtype, shape=spec.shape or other.shape)
        fixed = _fix(known, other)
        if fixed != known:
            notes.append(f"the target takes the input {spec.name!r} with fixed sizes only: {fixed.shape}")
        fitted.append(fixed)
    return fitted, notes


def _fix(spec: TensorSpec, other: TensorSpec) -> TensorSpec:
    if spec.shape is None or other.shape is None or len(spec.shape) != len(other.shape):
        return spec
    shape = tuple(
        theirs if isinstance(theirs, int) and not isinstance(ours, int) else ours
        for ours, theirs in zip(spec.shape, other.shape, strict=True)
    )
    return replace(spec, shape=shape)


def vocabularies(plans: Sequence[InputPlan], runs: Runs) -> tuple[list[InputPlan], list[str]]:
    """The plans with the largest of a few vocabularies that the source runs, and notes about that.

    `runs` tries plans on the source; its second argument names the trial.
    """
    fitted, notes = list(plans), []
    for number, each in enumerate(plans):
        if each.role is not Role.TOKENS:
            continue
        for limit in TOKEN_LIMITS:
            trial = with_limit(fitted, each.name, limit)
            if limit == TOKEN_LIMITS[-1] or runs(trial, f"trial-{number}-{limit}"):
                fitted = trial
                notes.append(f"the values of the input {each.name!r} are drawn from 0 to {limit - 1}")
                break
    return fitted, notes
