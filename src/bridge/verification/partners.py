"""Match the tensors of two models: by what the user said, names, types, shapes, values and positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bridge.errors import InputError
from bridge.verification.layouts import Shape, array_layout, spec_layout, transposed
from bridge.verification.mapping import Mapped, find
from bridge.verification.spellings import SPELLINGS, by_spelling, is_generic, split_number
from bridge.worker.standalone import dtype_named

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Tensor:
    """An input or output to be matched: its position in its model, and what is known about it."""

    position: int
    name: str | None
    dtype: str | None
    shape: Shape | None
    optional: bool = False


def _natural(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of numbered names by their numbers: sorted names have `output_10` before `output_2`."""
    names = [each.name or "" for each in tensors]
    if names != sorted(names) or not are_numbered(tensors):
        return list(tensors)
    return sorted(tensors, key=lambda each: split_number(each.name or "")[1])


def are_numbered(tensors: Sequence[Tensor]) -> bool:
    """Whether names differ by a number only, which then tells the order."""
    parts = [split_number(each.name or "") for each in tensors]
    return len({stem for stem, _ in parts}) == 1 and len({number for _, number in parts}) == len(parts)


_VALUE_NEAR = 1e-2
_VALUE_APART = 10.0


class Matching:
    """The pairs found so far, and the tensors of both sides that are left."""

    def __init__(self, ours: Sequence[Tensor], theirs: Sequence[Tensor], what: str, permuting: bool) -> None:
        self.pairs: dict[int, int] = {}
        self.notes: list[str] = []
        self.uncertain: list[str] = []
        self._all = (list(ours), list(theirs))
        self._ours = list(ours)
        self._theirs = list(theirs)
        self._what = what
        self._permuting = permuting

    def take(self, given: Sequence[Mapped]) -> None:
        """The pairs that the user gave."""
        ours, theirs = ([called(each) for each in side] for side in self._all)
        for each in given:
            i = find(each.source, ours, self._what, "source")
            j = find(each.target, theirs, self._what, "target")
            if i in self.pairs or j in self.pairs.values():
                raise InputError(
                    f"the {self._what} {ours[i] if i in self.pairs else theirs[j]!r} is mapped twice",
                    hint="map every tensor once",
                )
            self._add(i, j)

    def match_spellings(self, *, compatible: bool) -> None:
        """By name, if all names that are left fit in some spelling (and the tensors do, if `compatible`).

        Tensors that may be left out need no partner.
        """
        needed = [[each for each in side if not each.optional] for side in (self._ours, self._theirs)]
        for ours, theirs in ((self._ours, self._theirs), needed):
            if not ours or any(each.name is None for each in (*ours, *theirs)):
                continue
            order = by_spelling([called(each) for each in ours], [called(each) for each in theirs])
            if order is None:
                continue
            pairs = [(each, theirs[position]) for each, position in zip(ours, order, strict=True)]
            if not compatible or all(self._fits(one, other) for one, other in pairs):
                self._add_all(pairs)
                return

    def match_distinctive_names(self) -> None:
        """By the names that both sides have and that say what a tensor is."""
        for spelling in SPELLINGS:
            mine = self._distinct(self._ours, spelling)
            other = self._distinct(self._theirs, spelling)
            self._add_all(
                [
                    (each, other[name])
                    for name, each in mine.items()
                    if name in other and self._fits(each, other[name])
                ]
            )

    def _distinct(
        self, tensors: Sequence[Tensor], spelling: Callable[[Sequence[str]], Sequence[str]]
    ) -> dict[str, Tensor]:
        named = [each for each in tensors if each.name is not None]
        spelled = spelling([called(each) for each in named])
        return {
            name: each
            for name, each in zip(spelled, named, strict=True)
            if not is_generic(name) and list(spelled).count(name) == 1
        }

    def drop_optional(self) -> None:
        """Leave out what may be left out where the other side has no partner for it."""
        for side, other in ((self._ours, self._theirs), (self._theirs, self._ours)):
            for each in reversed([one for one in side if one.optional]):
                if len(side) > len(other):
                    side.remove(each)
                    self.notes.append(f"the optional {self._what} {each.name!r} is not given")

    def leave_out_the_rest(self) -> None:
        """Compare what the user mapped and nothing else."""
        for side, whose in ((self._ours, "source"), (self._theirs, "target")):
            if side:
                names = ", ".join(called(each) for each in side)
                self.notes.append(f"not compared: the {self._what}s {names} of the {whose}")
            side.clear()

    def mismatch(self, ours: int, theirs: int) -> str | None:
        """How the numbers differ, where something is left on one side only."""
        if len(self._ours) == len(self._theirs):
            return None
        return f"the source has {ours} {self._what}s, the target {theirs}"

    def match_kinds(self) -> None:
        """By type and shape, as long as some tensor has one possible partner whose only partner it is."""
        for same in (True, False):
            found = True
            while found:
                found = False
                for each in list(self._ours):
                    fitting = [other for other in self._theirs if self._fits(each, other, same=same)]
                    if len(fitting) == 1 and self._is_only(each, fitting[0], same):
                        self._add_all([(each, fitting[0])])
                        found = True

    def _is_only(self, ours: Tensor, theirs: Tensor, same: bool) -> bool:
        return [each for each in self._ours if self._fits(each, theirs, same=same)] == [ours]

    def match_values(self, ours: Sequence[Array], theirs: Sequence[Array]) -> None:
        """By value, where each output is near exactly one of the other side's."""
        pairs = []
        for each in self._ours:
            far = sorted(
                (_relative_distance(ours[each.position], theirs[other.position]), other.position, other)
                for other in self._theirs
                if self._fits(each, other)
            )
            if len(far) < 2 or far[0][0] > _VALUE_NEAR or far[1][0] < _VALUE_APART * max(far[0][0], 1e-6):
                return
            pairs.append((each, far[0][2]))
        if pairs and len({other.position for _, other in pairs}) == len(pairs):
            self._add_all(pairs)
            names = ", ".join(f"{called(one)}={called(other)}" for one, other in pairs)
            self.notes.append(f"the outputs have neither names in common nor an order: {names}, by value")

    def order_is_lost(self, source_sorted: bool, target_sorted: bool) -> bool:
        """Whether the positions of what is left say nothing on a side: it is sorted by names of no number."""
        return any(
            by_name and len(side) > 1 and not are_numbered(side)
            for by_name, side in ((source_sorted, self._ours), (target_sorted, self._theirs))
        )

    def match_positions(self, source_sorted: bool, target_sorted: bool) -> None:
        """In order, what is left."""
        if not self._ours:
            return
        lost = self.order_is_lost(source_sorted, target_sorted)
        pairs = list(zip(_natural(self._ours), _natural(self._theirs), strict=True))
        names = ", ".join(f"{called(one)}={called(other)}" for one, other in pairs)
        if lost:
            self.uncertain.append(
                f"the {self._what}s {names} were matched by position, although one side lists them by name; "
                f"--map-{self._what}s says which belong together"
            )
        elif len(pairs) > 1 and not (are_numbered(self._theirs) or are_numbered(self._ours)):
            self.notes.append(f"the {self._what}s were matched by position: {names}")
        self._add_all(pairs)

    def _fits(self, ours: Tensor, theirs: Tensor, *, same: bool = False) -> bool:
        """Whether two tensors can be the same: their types and shapes, as far as known.

        `same` asks for the same type; otherwise only for the same sort of numbers.
        """
        if ours.dtype is not None and theirs.dtype is not None and ours.dtype != theirs.dtype:
            kinds = {_sort(ours.dtype), _sort(theirs.dtype)}
            if same or len(kinds) > 1:
                return False
        if ours.shape is None or theirs.shape is None:
            return True
        if len(ours.shape) != len(theirs.shape):
            return False
        if _agree(ours.shape, theirs.shape):
            return True
        return self._permuting and spec_layout(ours.shape, theirs.shape) is not None

    def _add(self, i: int, j: int) -> None:
        self.pairs[i] = j
        self._ours = [each for each in self._ours if each.position != i]
        self._theirs = [each for each in self._theirs if each.position != j]

    def _add_all(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        for one, other in pairs:
            self._add(one.position, other.position)


def called(tensor: Tensor) -> str:
    return f"#{tensor.position}" if tensor.name is None else tensor.name


def _sort(dtype: str) -> str:
    kind = dtype_named(dtype).kind if dtype != "string" else "O"
    return {"u": "integer", "i": "integer", "b": "integer", "V": "f"}.get(kind, kind)


def _agree(ours: Shape, theirs: Shape) -> bool:
    return all(
        one == other or not isinstance(one, int) or not isinstance(other, int)
        for one, other in zip(ours, theirs, strict=True)
    )


def _relative_distance(ours: Array, theirs: Array) -> float:
    """The distance of the target's output from the source's, in the better layout; infinite if not finite."""
    permutation, _ = array_layout(ours.shape, theirs.shape)
    moved = transposed(theirs, permutation)
    if moved.shape != ours.shape or ours.dtype.kind == "c":
        return float("inf")
    one, other = ours.astype(np.float64), moved.astype(np.float64)
    size = float(np.linalg.norm(one))
    apart = float(np.linalg.norm(one - other))
    if not np.isfinite(apart):
        return float("inf")
    return apart / size if size else (0.0 if apart == 0.0 else float("inf"))
