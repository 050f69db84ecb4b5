"""Compare the weights of two loaded versions: through the weight map, or by their values without one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bridge.hub.weights import WeightMap
from bridge.verification.matching import ValueMatch, match_by_value
from bridge.verification.measure import Array
from bridge.verification.parties import Party
from bridge.verification.weights import WeightsResult, compare_weights, is_of
from bridge.worker.failures import TaskFailure
from bridge.worker.side import Side
from bridge.worker.standalone import read_tensors


@dataclass(frozen=True)
class Weights:
    """What was found about the weights, and what gradients and training need of it.

    `result` is the comparison through the map of a converted model, `match` that by values of two models
    that bridge did not convert; `note` says why there is neither. `unread` says why weights that should
    have been compared could not be. `map` says which tensor is which; it is not `complete` where it rests
    on values.
    """

    result: WeightsResult | None = None
    match: ValueMatch | None = None
    note: str = ""
    unread: str | None = None
    map: WeightMap | None = None
    complete: bool = True
    source: Mapping[str, Array] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Requests:
    """The numbers of the requests for the weights of both sides."""

    source: int
    target: int


def submit(source: Side, target: Side) -> Requests:
    """Ask both sides for their weights."""
    return Requests(source.submit_weights(), target.submit_weights())


def settle(source: Side, target: Side, party: Party, requests: Requests) -> Weights:
    """Wait for the weights of both sides and compare them. `party` is the target's."""
    try:
        tensors = source.weights(requests.source)
        found = target.weights(requests.target)
    except TaskFailure as error:
        reason = f"the weights cannot be read: {error.text}"
        return Weights(note=reason, unread=reason)
    if tensors is None:
        return Weights(note="the source has no names for its weights")
    if party.converted is not None:
        weight_map = WeightMap.load(party.converted / "weights.json")
        if is_of(weight_map, tensors):
            file = party.converted / "model.safetensors"
            stored = read_tensors(str(file)) if found is None else found
            result = compare_weights(weight_map, tensors, stored)
            return Weights(result=result, map=weight_map, source=tensors)
        if found is None:
            return Weights(note="the target's weight map is of another source")
    if found is None:
        return Weights(note="the target has no names for its weights")
    match = match_by_value(tensors, found)
    return Weights(match=match, map=match.weight_map, complete=False, source=tensors)
