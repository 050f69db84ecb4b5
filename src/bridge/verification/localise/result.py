"""What localising a fault gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Blame = Literal["reader", "pass", "writer", "artifact"]
How = Literal["anchors", "values", "rounding", "gradients", "weights"]

OUTPUT = "output"
"""The operator of a place that is an output of the whole model, where no node is wrong."""


@dataclass(frozen=True)
class Place:
    """One node of one model: the name of its value, its operator, its module and its line of source."""

    name: str
    operator: str
    scope: str | None = None
    location: str | None = None

    def __str__(self) -> str:
        inside = f" in {self.scope}" if self.scope else ""
        line = f" ({self.location})" if self.location else ""
        return f"{self.operator} {self.name}{inside}{line}"


@dataclass(frozen=True)
class Localisation:
    """The first node that is wrong.

    `target` is its place in the target, `source` that of the node which it should equal, if that is known.
    `source_block` and `target_block` are the nodes between the last equal values and the first that must
    be equal and is not; they have several members where the two models spell an operation differently.
    `error` is the relative distance of the two values (`inf` for another shape or special values in other
    places), None where no value of the source is the wrong one's counterpart. `blame` says
    which part of a conversion is wrong. `how` says what told the place: recorded anchors, equal values,
    rounding errors, gradients or weights. `last_equal` are the names, in the source and the target, of the
    equal values that the node was fed with. `notes` are sentences.
    """

    source: Place | None
    target: Place
    error: float | None
    how: How
    blame: Blame | None = None
    source_block: tuple[Place, ...] = ()
    target_block: tuple[Place, ...] = ()
    last_equal: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One sentence for the terminal."""
        if self.how == "weights":
            return f"{self.target} has a wrong weight: {'; '.join(self.notes)}"
        if self.target.operator == OUTPUT:
            return f"the values inside are right, {self.target.name} is not: {'; '.join(self.notes)}"
        kind = "gradient" if self.how == "gradients" else "value"
        wrong = "wrong" if self.how != "rounding" else "much less exact"
        away = "" if self.error is None else f", {self.error:.1e} away"
        counterpart = "" if self.source is None else f"; in the source {self.source}"
        blamed = "" if self.blame is None else f"; the fault lies in {_BLAME[self.blame]}"
        return f"the first {wrong} {kind} is that of {self.target}{away}{counterpart}{blamed}"

    def to_json(self) -> dict[str, Any]:
        record = asdict(self)
        if self.error is not None and self.error == float("inf"):
            record["error"] = "inf"
        return record

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Localisation:
        return cls(
            source=None if record["source"] is None else Place(**record["source"]),
            target=Place(**record["target"]),
            error=None if record["error"] is None else float(record["error"]),
            how=record["how"],
            blame=record["blame"],
            source_block=_places(record["source_block"]),
            target_block=_places(record["target_block"]),
            last_equal=tuple((first, second) for first, second in record["last_equal"]),
            notes=tuple(record["notes"]),
        )


_BLAME = {
    "reader": "reading the source",
    "pass": "a pass over the hub graph",
    "writer": "the source that was written",
    "artifact": "the saved artifact; model.py agrees with the source",
}


def _places(records: Sequence[Mapping[str, Any]]) -> tuple[Place, ...]:
    return tuple(Place(**record) for record in records)
