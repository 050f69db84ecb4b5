"""Which axes of the inputs vary: what is tried, and what running the module says about it.

torch.export finds out which sizes a program can leave open, but not that two inputs must agree where its
operators do not check it (a mask that is only indexed), nor where a table of positions ends. So the module
is run with axes a little longer and shorter.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch.export import ExportedProgram

from bridge_converters.torch_to_onnx import names
from bridge_converters.torch_to_onnx.inputs import Examples
from bridge_converters.torch_to_onnx.shapes import input_values

Free = Mapping[int, Collection[int]]
"""Axes to leave open, by position of the tensor among the inputs."""
Label = str | int
"""What an axis is called, or the size that it is fixed to."""
Bounds = tuple[int, int | None]
"""The least and, if known, the greatest size of an axis."""
Run = Callable[[Sequence[torch.Tensor]], Any]

_SERIES_RANK = 3
_SHORT, _LONG = 16, 32
"""Lengths that whoever uses the converted model is likely to try."""
_PARTNERS = 3
_MOST_RUNS = 80
_ENDLESS = 2**31


@dataclass(frozen=True)
class Axes:
    """What is known about the open axes of a program, by position of the input and axis.

    Axes with the same label always have the same size.
    """

    labels: Mapping[int, Mapping[int, Label]] = field(default_factory=dict)
    bounds: Mapping[int, Mapping[int, Bounds]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def attempts(examples: Examples) -> list[dict[int, set[int]]]:
    """The sets of axes to leave open, the widest first.

    The axes that the user named and axis 0 of every tensor come with, first, those that are likely to be
    lengths: all of an input of integers (ids, masks) or of floating-point numbers in up to 3 axes (steps
    and features; what a layer fixes, torch.export finds), and axes as long as such a length in any other
    input. Sides of images are fixed, and so is what the user stated.
    """
    tensors = examples.tensors()
    batch = {position: {0} for position, tensor in enumerate(tensors) if tensor.ndim}
    named = _union(batch, {position: set(axes) for position, axes in examples.axes.items()})
    lengths: dict[int, set[int]] = {}
    seen: set[int] = set()
    for position, tensor in enumerate(tensors):
        if position in examples.stated:
            seen.update(tensor.shape[axis] for axis in examples.axes.get(position, ()) if axis > 0)
        elif tensor.ndim <= _SERIES_RANK or not _is_inexact(tensor):
            lengths[position] = {axis for axis, size in enumerate(tensor.shape) if axis > 0 and size > 1}
            if not _is_inexact(tensor):
                seen.update(tensor.shape[axis] for axis in lengths[position])
    for position, tensor in enumerate(tensors):
        if position not in examples.stated and position not in lengths:
            lengths[position] = {axis for axis, size in enumerate(tensor.shape) if axis > 0 and size in seen}
    found: list[dict[int, set[int]]] = []
    for wanted in (_union(named, lengths), named, batch):
        if wanted not in found:
            found.append(wanted)
    return found


def settle(program: ExportedProgram, examples: Examples, run: Run | None, *, fixing: bool = True) -> Axes:
    """Name the open axes of a program, tie those that only work together, and find the ends of their range.

    `run` calls what was exported with tensors in the order of `examples` and raises where it refuses them;
    without it the axes are only named.
    If `fixing`, an axis that neither grows nor shrinks is fixed, unless it is a batch or the user named it.
    """
    places = _places(program)
    asked = {symbol: name for symbol in places if (name := _asked(places[symbol], examples)) is not None}
    batches = [symbol for symbol, found in places.items() if symbol not in asked and found[0][1] == 0]
    lengths = [symbol for symbol in places if symbol not in asked and symbol not in batches]
    groups = _Groups(_Probe(run or _refuse, examples.tensors(), places), asked)
    tried = () if run is None else (*(batches if len(batches) + len(asked) > 1 else ()), *lengths)
    for symbol in tried:
        if symbol not in groups.heads:
            groups.settle(symbol, fixing=fixing and symbol in lengths)
    return _described(program, places, groups)


def _refuse(tensors: Sequence[torch.Tensor]) -> Any:
    raise NotImplementedError


def _union(one: Free, other: Free) -> dict[int, set[int]]:
    return {position: {*one.get(position, ()), *other.get(position, ())} for position in {**one, **other}}


def _is_inexact(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


Place = tuple[int, int]
Places = Mapping[str, Sequence[Place]]


def _places(program: ExportedProgram) -> dict[str, list[Place]]:
    """Where torch's symbols stand alone among the axes of the inputs: (input, axis) by symbol."""
    found: dict[str, list[Place]] = {}
    for position, value in enumerate(input_values(program)):
        for axis, size in enumerate(value.shape):
            if str(size).isidentifier():
                found.setdefault(str(size), []).append((position, axis))
    return found


def _asked(places: Sequence[Place], examples: Examples) -> str | None:
    """The user's own name of an axis."""
    return next(
        (name for position, axis in places if (name := examples.axes.get(position, {}).get(axis))), None
    )


Verdict = Literal["both", "shorter", "longer"]


class _Probe:
    """Runs with some sizes changed."""

    def __init__(self, run: Run, tensors: Sequence[torch.Tensor], places: Places) -> None:
        self._run = run
        self._tensors = tensors
        self._places = places
        self.symbols = list(places)
        self._known: dict[tuple[frozenset[str], int], bool] = {}

    def size(self, symbol: str) -> int:
        position, axis = self._places[symbol][0]
        return self._tensors[position].shape[axis]

    def verdict(self, group: Collection[str]) -> Verdict | None:
        """In which directions the sizes of a group can change together."""
        size = self.size(next(iter(group)))
        longer = self.works(group, size + 1)
        shorter = size <= 2 or self.works(group, size - 1)
        if longer and shorter:
            return "both"
        if longer and self.works(group, size + 2):
            return "longer"
        if shorter and size > 3 and self.works(group, size - 2):
            return "shorter"
        return None

    def works(self, group: Collection[str], size: int) -> bool:
        """Whether the sizes of a group can be `size`; nothing more is tried after very many runs."""
        key = (frozenset(group), size)
        if key not in self._known:
            self._known[key] = len(self._known) < _MOST_RUNS and self._try(group, size)
        return self._known[key]

    def _try(self, group: Collection[str], size: int) -> bool:
        tensors = list(self._tensors)
        for symbol in group:
            for position, axis in self._places[symbol]:
                tensors[position] = _resized(tensors[position], axis, size)
        try:
            self._run(tensors)
        except Exception:  # the module's code runs and may raise anything
            return False
        return True


def _resized(tensor: torch.Tensor, axis: int, size: int) -> torch.Tensor:
    """The first elements along an axis, repeated from the start where there are too few."""
    indices = torch.arange(size) % tensor.shape[axis]
    return tensor.index_select(axis, indices)


class _Groups:
    """Symbols that stand for one size: the head of each symbol's group, and the ends of a group's range."""

    def __init__(self, probe: _Probe, asked: Mapping[str, str]) -> None:
        self.probe = probe
        self.asked = asked
        self.heads: dict[str, str] = {}
        self.bounds: dict[str, Bounds] = {}
        self.fixed: set[str] = set()

    def head(self, symbol: str) -> str:
        return self.heads.get(symbol, symbol)

    def settle(self, symbol: str, *, fixing: bool) -> None:
        """Find the group of a symbol; a symbol that cannot change is fixed or left as it is."""
        group, verdict = self._group(symbol)
        joined = {self.head(each) for each in group}
        head = next((each for each in group if each in self.asked), symbol)
        members = [*group, *(each for each, other in self.heads.items() if other in joined)]
        self.heads.update(dict.fromkeys(members, head))
        if verdict is not None:
            self.bounds[head] = self._range(group, verdict)
        elif fixing:
            self.fixed.add(head)

    def _group(self, symbol: str) -> tuple[tuple[str, ...], Verdict | None]:
        """The smallest group that can change in both directions, else the first that can in one.

        Where a symbol alone can change in one direction, a group that includes one which cannot is meant:
        ids may be shorter than their mask, but not longer.
        """
        best: tuple[tuple[str, ...], Verdict | None] = ((symbol,), None)
        for partners in self._partners(symbol):
            group = (symbol, *partners)
            verdict = self.probe.verdict(group)
            if verdict == "both":
                return group, verdict
            if verdict is not None and (
                best[1] is None
                or (best[0] == (symbol,) and all(self._hinders(each, best[1]) for each in partners))
            ):
                best = (group, verdict)
        return best

    def _hinders(self, symbol: str, verdict: Verdict) -> bool:
        return self.probe.verdict((symbol,)) not in ("both", verdict)

    def _partners(self, symbol: str) -> Iterator[tuple[str, ...]]:
        """Sets of symbols that have the same size in the example, small ones first."""
        equal = [
            each
            for each in self.probe.symbols
            if each != symbol and self.probe.size(each) == self.probe.size(symbol)
        ]
        for count in range(min(len(equal), _PARTNERS) + 1):
            yield from itertools.combinations(equal, count)
        if len(equal) > _PARTNERS:
            yield tuple(equal)

    def _range(self, group: tuple[str, ...], verdict: Verdict) -> Bounds:
        """The ends of the range as far as common lengths show them, found by halving."""
        size = self.probe.size(group[0])
        least, most = (size, None) if verdict == "longer" else (1, None if verdict == "both" else size)
        if verdict != "longer" and size > _SHORT and not self.probe.works(group, _SHORT):
            least = self._end(group, works=size, fails=_SHORT)
        if verdict != "shorter" and size < _LONG and not self.probe.works(group, _LONG):
            most = self._end(group, works=size, fails=_LONG)
        return least, most

    def _end(self, group: tuple[str, ...], *, works: int, fails: int) -> int:
        while abs(works - fails) > 1:
            middle = (works + fails) // 2
            if self.probe.works(group, middle):
                works = middle
            else:
                fails = middle
        return works


def _described(program: ExportedProgram, places: Places, groups: _Groups) -> Axes:
    inputs = names.input_names(program)
    heads = [symbol for symbol in places if groups.head(symbol) == symbol]
    lengths = [each for each in heads if places[each][0][1] > 0 and each not in groups.fixed]
    chosen: dict[str, Label] = dict(groups.asked)
    for symbol in heads:
        position, axis = places[symbol][0]
        if symbol in groups.fixed:
            chosen[symbol] = groups.probe.size(symbol)
        elif symbol not in chosen:
            label = _label(inputs[position], axis, alone=len(lengths) == 1)
            chosen[symbol] = names.unique(label, map(str, chosen.values()))
    ranges = {str(symbol): each for symbol, each in program.range_constraints.items()}
    labels: dict[int, dict[int, Label]] = {}
    bounds: dict[int, dict[int, Bounds]] = {}
    for symbol, found in places.items():
        head = groups.head(symbol)
        ends = _narrowed(ranges.get(symbol), *groups.bounds.get(head, (1, None)))
        for position, axis in found:
            labels.setdefault(position, {})[axis] = chosen[head]
            if ends != (1, None) and head not in groups.fixed:
                bounds.setdefault(position, {})[axis] = ends
    return Axes(labels, bounds, _fixed_note(places, groups, inputs))


def _fixed_note(places: Places, groups: _Groups, inputs: Sequence[str]) -> tuple[str, ...]:
    fixed = [
        f"axis {axis} of {inputs[position]}"
        for symbol, found in places.items()
        if groups.head(symbol) in groups.fixed
        for position, axis in found
    ]
    if not fixed:
        return ()
    return (f"fixed to the size in the example, as the model refuses others: {', '.join(fixed)}",)


def _narrowed(constraint: Any, least: int, most: int | None) -> Bounds:
    """A range within what torch.export found; it takes sizes of 2 and more for granted."""
    if constraint is not None:
        if constraint.lower > 2:
            least = max(least, int(constraint.lower))
        if constraint.upper < _ENDLESS:
            most = min(most or _ENDLESS, int(constraint.upper))
    return least, most


def _label(name: str, axis: int, *, alone: bool) -> str:
    if axis == 0:
        return "batch"
    if axis == 1:
        return "sequence" if alone else f"{name}_sequence"
    return "length" if alone else f"{name}_axis{axis}"
