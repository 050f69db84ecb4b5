"""Which weight is which where no map says so: by their values.

Two models that hold the same weights hold the same bits, up to the order of axes and of what is along
them. What is equal to no tensor of the other side but nearly so is a suspect.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from bridge.hub.recipe import Recipe, Source, step
from bridge.hub.weights import TensorMap, WeightMap
from bridge.verification.weights import WeightDifference

Array = np.ndarray[Any, np.dtype[Any]]
_Print = tuple[str, int, int]

MOSTLY_EQUAL = 0.5
"""The share of equal elements (zeros aside) from which two tensors are one of which some elements differ."""
PERTURBED = 1e-3
"""The relative distance within which all elements of a perturbed tensor are."""
_PIECE = 2**15
_SAMPLES = 512
_MOST_AXES = 6
_MOST_SUMMANDS = 64
_ROLES = {
    "beta": "bias",
    "gamma": "weight",
    "kernel": "weight",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "offset": "bias",
    "scale": "weight",
}
"""What frameworks call the same tensor of a layer, by the name it is compared under."""


@dataclass(frozen=True)
class Suspect:
    """A tensor of the target that is nearly one of the source.

    `decides` says whether nothing but a fault explains it: a folded or summed weight may be near its source,
    but does not share its bits.
    """

    target: str
    source: str
    reason: str
    decides: bool


@dataclass(frozen=True)
class ValueMatch:
    """What was matched: `weight_map` has a record for each matched tensor of the target.

    `rearranged` are those of them whose elements are in another order along an axis, `ambiguous` target
    tensors that equal several of the source (all zeros, all ones) with nothing to tell which is meant.
    """

    weight_map: WeightMap
    elements: int
    rearranged: tuple[str, ...]
    ambiguous: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    unmatched_source: tuple[str, ...]
    unmatched_target: tuple[str, ...]

    @property
    def matched(self) -> int:
        return len(self.weight_map.tensors)

    @property
    def differences(self) -> tuple[WeightDifference, ...]:
        """The suspects that decide the verdict."""
        return tuple(WeightDifference(each.target, each.reason) for each in self.suspects if each.decides)

    @property
    def passed(self) -> bool:
        return not self.differences


def match_by_value(source: Mapping[str, Array], target: Mapping[str, Array]) -> ValueMatch:
    """Find for every tensor of the target the one of the source that holds the same bits.

    Axes may be in another order, axes of size 1 may be added or left out, and the elements may be in another
    order along an axis, as the gates of a recurrent layer or the channels of a flattened image are. A sum of
    two tensors of the source is found too, as of the two biases of a recurrent layer.
    """
    return _Matcher(source, target).match()


@dataclass(frozen=True)
class _Relation:
    """How one tensor is made of another: `take` holds the order along each axis that is not as it was."""

    permutation: tuple[int, ...]
    take: tuple[tuple[int, tuple[int, ...]], ...] = ()

    def recipe(self, made: Recipe, source: Sequence[int], target: Sequence[int]) -> Recipe:
        """What makes the target's shape of `made`, which has the source's."""
        squeezed = [size for size in source if size != 1]
        if len(squeezed) != len(source):
            made = step("reshape", made, shape=squeezed)
        made = step("transpose", made, perm=self.permutation)
        for axis, indices in self.take:
            made = step("take", made, axis=axis, indices=indices)
        if 1 in target:
            made = step("reshape", made, shape=tuple(target))
        return made


class _Matcher:
    def __init__(self, source: Mapping[str, Array], target: Mapping[str, Array]) -> None:
        self._source, self._source_prints, self._aliases = _without_copies(source)
        self._target = {name: np.asarray(array) for name, array in target.items()}
        self._source_bits = {name: _bits(array) for name, array in self._source.items()}
        self._target_bits = {name: _bits(array) for name, array in self._target.items()}
        self._found: dict[str, tuple[tuple[str, ...], _Relation]] = {}
        self._modules: dict[str, set[str]] = {}

    def match(self) -> ValueMatch:
        by_print: dict[_Print, list[str]] = {}
        for name, known in self._source_prints.items():
            by_print.setdefault(known, []).append(name)
        prints = {name: _print(self._target[name], bits) for name, bits in self._target_bits.items()}
        candidates = {name: by_print.get(known, []) for name, known in prints.items()}
        constant = {name for name, bits in self._target_bits.items() if _is_constant(bits)}
        for name in self._target:
            if name not in constant:
                self._match_exactly(name, candidates[name])
        for name in self._target:
            if name in constant:
                alone = len(candidates[name]) == 1 == list(prints.values()).count(prints[name])
                self._match_constant(name, candidates[name], alone=alone)
        ambiguous = tuple(name for name in sorted(constant) if candidates[name] and name not in self._found)
        used = self._used()
        equal = {each for name in ambiguous for each in candidates[name]}
        left_source = sorted(set(self._source) - used - equal)
        left_target = sorted(set(self._target) - set(self._found) - set(ambiguous))
        for name in left_target:
            self._match_sum(name, left_source)
        left_source = [name for name in left_source if name not in self._used()]
        left_target = [name for name in left_target if name not in self._found]
        suspects = tuple(self._suspects(left_source, left_target))
        suspected = {each.target for each in suspects}, {each.source for each in suspects}
        return ValueMatch(
            self._weight_map(),
            sum(self._target[name].size for name in self._found),
            tuple(sorted(name for name, (_, relation) in self._found.items() if relation.take)),
            ambiguous,
            suspects,
            tuple(each for each in left_source if each not in suspected[1]),
            tuple(each for each in left_target if each not in suspected[0]),
        )

    def _match_exactly(self, name: str, candidates: Sequence[str]) -> None:
        for source in sorted(candidates, key=lambda each: not self._alike(each, name)):
            relation = _relation(self._source_bits[source], self._target_bits[name])
            if relation is not None:
                self._found[name] = (source,), relation
                self._modules.setdefault(_module(name), set()).add(_module(source))
                return

    def _match_constant(self, name: str, candidates: Sequence[str], *, alone: bool) -> None:
        """Equal constants are told apart by the layer that they belong to, or left out.

        A number that only one tensor of each side holds is as good as a name, but for zero and one.
        """
        if alone and np.any(self._target[name] != 0) and np.any(self._target[name] != 1):
            self._match_exactly(name, candidates)
            return
        used = self._used()
        fitting = []
        for source in candidates:
            orders = list(_orders(self._source_bits[source], self._target_bits[name]))
            if len(orders) == 1 and source not in used and _role(source) == _role(name):
                fitting.append((source, _Relation(orders[0])))
        known = self._modules.get(_module(name), set())
        for near in (
            [each for each in fitting if _module(each[0]) in known],
            [each for each in fitting if _words(_module(each[0])) == _words(_module(name))],
        ):
            if len(near) == 1:
                source, relation = near[0]
                self._found[name] = (source,), relation
                return

    def _match_sum(self, name: str, candidates: Sequence[str]) -> None:
        """The sum of two tensors, as one framework has one bias where the other has two."""
        target = self._target[name]
        fitting = [
            each
            for each in candidates
            if self._source[each].dtype == target.dtype
            and self._source[each].size == target.size
            and _is_float(target)
        ]
        if len(fitting) > _MOST_SUMMANDS:
            return
        for pair in itertools.combinations(fitting, 2):
            first, second = (self._source[each] for each in pair)
            if first.shape == second.shape and pair[0] not in self._used():
                bits = _bits(first + second)
                if _print(target, bits) == _print(target, self._target_bits[name]):
                    relation = _relation(bits, self._target_bits[name])
                    if relation is not None:
                        self._found[name] = pair, relation
                        return

    def _used(self) -> set[str]:
        return {name for names, _ in self._found.values() for name in names}

    def _alike(self, source: str, target: str) -> bool:
        return _words(_module(source)) == _words(_module(target)) and _role(source) == _role(target)

    def _weight_map(self) -> WeightMap:
        tensors = []
        for name in sorted(self._found):
            sources, relation = self._found[name]
            array = self._target[name]
            made: Recipe = Source(sources[0])
            for other in sources[1:]:
                made = step("add", made, Source(other))
            recipe = relation.recipe(made, self._source[sources[0]].shape, array.shape)
            tensors.append(
                TensorMap(
                    name,
                    array.shape,
                    array.dtype.name,
                    "parameter",
                    True,
                    recipe,
                    "bijective" if len(sources) == 1 else "lossy",
                )
            )
        used = self._used()
        return WeightMap(
            "unknown",
            "unknown",
            tuple(tensors),
            {name: aliases for name, aliases in self._aliases.items() if name in used},
        )

    def _suspects(self, source: Sequence[str], target: Sequence[str]) -> Iterator[Suspect]:
        """The nearly equal pairs of which neither has another partner."""
        near: list[tuple[str, str, _Nearness]] = []
        for name in target:
            for other in source:
                found = _nearness(self._source[other], self._target[name])
                if found is not None:
                    near.append((name, other, found))
        of_target = [name for name, _, _ in near]
        of_source = [other for _, other, _ in near]
        unique = [each for each in near if of_target.count(each[0]) == 1 == of_source.count(each[1])]
        explained = {name for name, _, _ in unique}, {other for _, other, _ in unique}
        complete = set(target) <= explained[0] and all(
            other in explained[1] or not _is_float(self._source[other]) for other in source
        )
        for name, other, found in near:
            decides = (name, other, found) in unique and found.is_fault(complete=complete)
            yield Suspect(name, other, f"{found.text} {other!r}{found.rest}", decides)


@dataclass(frozen=True)
class _Nearness:
    """How near two tensors are, in words around the source's name. `bits` says that they share bits."""

    text: str
    rest: str
    bits: bool
    offset: bool = False

    def is_fault(self, *, complete: bool) -> bool:
        """Whether only a fault explains it.

        What shares bits with its source was copied and changed. What is merely near may have been computed
        from it and others, unless every other one is accounted for, or have had an epsilon added.
        """
        return self.bits or (complete and not self.offset)


def _nearness(source: Array, target: Array) -> _Nearness | None:
    if source.dtype != target.dtype or source.size != target.size or not _is_float(source):
        return None
    ours, theirs = _squeezed(source), _squeezed(target)
    for order in _fitting_orders(ours.shape, theirs.shape):
        moved = np.transpose(ours, order)
        if theirs.size > _SAMPLES:
            at = np.unravel_index(np.linspace(0, theirs.size - 1, _SAMPLES).astype(np.int64), theirs.shape)
            if _distance(moved[at], theirs[at]) is None:
                continue
        found = _distance(moved, theirs)
        if found is not None:
            return found
    return None


def _distance(ours: Array, theirs: Array) -> _Nearness | None:
    """How near two tensors of one shape are that are not equal."""
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    counted = (a != 0) | (b != 0)
    total = int(np.count_nonzero(counted))
    equal = int(np.count_nonzero(counted & (a == b)))
    for narrow in (np.float16, ml_dtypes.bfloat16):
        if (
            ours.dtype.itemsize > 2
            and total > 1
            and np.array_equal(ours.astype(narrow).astype(ours.dtype), theirs)
        ):
            return _Nearness("it equals", f" rounded to {np.dtype(narrow).name}", bits=True)
    if equal >= 2 and equal >= MOSTLY_EQUAL * total:
        return _Nearness("it differs from", f" in {total - equal} of {a.size} elements", bits=True)
    if total > 1 and bool(np.all(np.abs(b - a) <= PERTURBED * np.abs(a))):
        shift = (b - a).reshape(-1)
        spread = float(np.ptp(shift))
        offset = spread <= 0.05 * float(np.max(np.abs(shift))) and float(np.ptp(a)) > 0
        largest = float(np.max(np.abs(b - a)[counted] / np.abs(a)[counted]))
        return _Nearness("it is near", f", every element within {largest:.1g}", bits=False, offset=offset)
    return None


def _without_copies(
    tensors: Mapping[str, Array],
) -> tuple[dict[str, Array], dict[str, _Print], dict[str, tuple[str, ...]]]:
    """Tensors that hold the same, varying elements count as one under several names, as tied ones are.

    Returns them by their first name, their prints, and their further names.
    """
    kept: dict[str, Array] = {}
    prints: dict[str, _Print] = {}
    aliases: dict[str, tuple[str, ...]] = {}
    first: dict[tuple[tuple[int, ...], _Print], list[str]] = {}
    for name, value in tensors.items():
        array = np.asarray(value)
        bits = _bits(array)
        known = _print(array, bits)
        same = first.setdefault((array.shape, known), [])
        original = next((each for each in same if np.array_equal(_bits(kept[each]), bits)), None)
        if original is not None and not _is_constant(bits):
            aliases[original] = (*aliases.get(original, ()), name)
            continue
        kept[name] = array
        prints[name] = known
        same.append(name)
    return kept, prints, aliases


def _bits(array: Array) -> Array:
    """The elements' bits as unsigned numbers; those of 16 bytes fold into 8."""
    raw = np.ascontiguousarray(array).reshape(array.shape)
    if raw.dtype.itemsize == 16:
        halves = raw.reshape(-1).view(np.uint64).reshape(*raw.shape, 2)
        return np.asarray(halves[..., 0] * np.uint64(3) + halves[..., 1])
    return raw.view(np.dtype(f"u{raw.dtype.itemsize}"))


def _mixed(bits: Array) -> Array:
    """A scrambled number for each element: sums of them tell sets of elements apart in any order."""
    wide = np.array(bits, np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        wide ^= wide >> np.uint64(shift)
        wide *= np.uint64(factor)
    wide ^= wide >> np.uint64(31)
    return wide


def _print(array: Array, bits: Array) -> _Print:
    """What tensors of the same elements have in common, in whatever order those are."""
    flat = bits.reshape(-1)
    total = sum(int(_mixed(flat[at : at + _PIECE]).sum()) for at in range(0, flat.size, _PIECE))
    return array.dtype.name, array.size, total % 2**64


def _is_constant(bits: Array) -> bool:
    return bits.size == 0 or bool(np.all(bits == bits.reshape(-1)[0]))


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def _squeezed(array: Array) -> Array:
    return array.reshape([size for size in array.shape if size != 1])


def _fitting_orders(source: Sequence[int], target: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """The orders of axes that bring one shape into the other; that which changes nothing is the first."""
    if len(source) != len(target) or len(source) > _MOST_AXES:
        return
    for order in itertools.permutations(range(len(source))):
        if all(source[axis] == size for axis, size in zip(order, target, strict=True)):
            yield order


def _orders(source: Array, target: Array) -> Iterator[tuple[int, ...]]:
    """The orders of axes that make one tensor equal the other."""
    ours, theirs = _squeezed(source), _squeezed(target)
    for order in _fitting_orders(ours.shape, theirs.shape):
        if np.array_equal(np.transpose(ours, order), theirs):
            yield order


def _relation(source: Array, target: Array) -> _Relation | None:
    """How the target's bits are the source's, or None."""
    for order in _orders(source, target):
        return _Relation(order)
    ours, theirs = _squeezed(source), _squeezed(target)
    if ours.ndim:
        mixed_target = _mixed(theirs)
        for order in _fitting_orders(ours.shape, theirs.shape):
            moved = np.transpose(ours, order)
            take = _rearrangement(_mixed(moved), mixed_target)
            if take is None:
                continue
            for axis, indices in take:
                moved = np.take(moved, indices, axis=axis)
            if np.array_equal(moved, theirs):
                return _Relation(order, take)
    return None


def _rearrangement(source: Array, target: Array) -> tuple[tuple[int, tuple[int, ...]], ...] | None:
    """For each axis whose slices are in another order, that order.

    None where one side's slices are not the other's, or are alike.
    """
    take = []
    for axis in range(source.ndim):
        others = tuple(each for each in range(source.ndim) if each != axis)
        ours, theirs = (each.sum(axis=others, dtype=np.uint64) for each in (source, target))
        if np.array_equal(ours, theirs):
            continue
        if len(np.unique(ours)) != len(ours) or not np.array_equal(np.sort(ours), np.sort(theirs)):
            return None
        places = np.argsort(ours)[np.argsort(np.argsort(theirs))]
        take.append((axis, tuple(int(each) for each in places)))
    return tuple(take)


def _parts(path: str) -> list[str]:
    return re.split(r"[./]", path.removesuffix(":0"))


def _module(path: str) -> str:
    """The path of the layer that a tensor belongs to."""
    return "/".join(_parts(path)[:-1])


def _role(path: str) -> str:
    leaf = _parts(path)[-1]
    return _ROLES.get(leaf, leaf)


def _words(path: str) -> str:
    return re.sub(r"[^a-z0-9]", "", path.lower())
