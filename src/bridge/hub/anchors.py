"""Anchors: source tensor, hub value and line of the emitted source, tied together.

anchors.json, version 1. `docs/anchors.md` is the schema in prose. Localisation, error messages and
reports stand on these records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bridge.hub.versioned import read_record, write_record

FORMAT = "bridge.anchors"
VERSION = 1


@dataclass(frozen=True)
class Anchor:
    """One value of the model on all three sides.

    `hub` is the value's name in the canonical hub graph, `source` its name in the source's own graph
    (an fx node, a TensorFlow tensor) where known, `scope` the module path in the source, `location` the
    user's own source line. `line` is the line of model.py that makes it, `variable` the variable there,
    `module` the path of the emitted module whose method that is, `call` the number of its call.
    `permutation` says how the target stores it: stored axis i is hub axis `permutation[i]`.
    `source_permutation` says how the source does: hub axis i is source axis `source_permutation[i]`.
    Either is None where both have the same order; files written before it existed lack the latter.
    `inputs` are the hub names of the anchored values and inputs of the model that it is computed from;
    empty in older files.
    """

    hub: str
    source: str | None
    scope: str
    location: str | None
    operator: str
    module: str
    call: tuple[int, ...]
    line: int
    variable: str
    permutation: tuple[int, ...] | None
    source_permutation: tuple[int, ...] | None = None
    inputs: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {
            "hub": self.hub,
            "source": self.source,
            "scope": self.scope,
            "location": self.location,
            "operator": self.operator,
            "module": self.module,
            "call": list(self.call),
            "line": self.line,
            "variable": self.variable,
            "permutation": None if self.permutation is None else list(self.permutation),
            "source_permutation": None if self.source_permutation is None else list(self.source_permutation),
            "inputs": list(self.inputs),
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Anchor:
        permutation, source_permutation = record["permutation"], record.get("source_permutation")
        return cls(
            **{
                **record,
                "call": tuple(record["call"]),
                "permutation": None if permutation is None else tuple(permutation),
                "source_permutation": None if source_permutation is None else tuple(source_permutation),
                "inputs": tuple(record.get("inputs", ())),
            }
        )


@dataclass(frozen=True)
class Anchors:
    """All anchors of a converted model, in the order in which the target computes the values."""

    file: str
    anchors: tuple[Anchor, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "version": VERSION,
            "file": self.file,
            "anchors": [each.to_json() for each in self.anchors],
        }

    def save(self, path: Path) -> None:
        write_record(path, self.to_json())

    @classmethod
    def load(cls, path: Path) -> Anchors:
        """Read an anchors.json. Raises InputError if it is none, or of a version unknown here."""
        record = read_record(path, format=FORMAT, version=VERSION, what="a file of anchors")
        return cls(record["file"], tuple(Anchor.from_json(each) for each in record["anchors"]))
