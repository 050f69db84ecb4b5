"""What a converted model says about itself in training: which of its tensors train unlike the source's."""

from __future__ import annotations

from bridge.hub.weights import WeightMap

COMPUTED = "computed from the source's tensors; it cannot be moved back"
"""The note of a lossy recipe that says nothing about training."""

_NAMED = 3


def training_notes(weights: WeightMap, *, exact_training: bool) -> list[str]:
    """A sentence for each way in which tensors train by other rules than in the source."""
    groups: dict[str, list[str]] = {}
    for tensor in weights.tensors:
        if tensor.recipe_kind == "lossy" and tensor.note not in (None, COMPUTED):
            groups.setdefault(str(tensor.note), []).append(tensor.target)
    remedy = "" if exact_training else "; exact training (--exact-training) keeps the source's rule"
    return [f"trains unlike the source: {_names(names)}: {note}{remedy}" for note, names in groups.items()]


def _names(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
