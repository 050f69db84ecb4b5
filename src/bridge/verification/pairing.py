"""Which tensor of the target is which of the source: by name, by type and shape, or by position.

Two models that were written apart spell names otherwise, hold their tensors in another layout (channels
first or last), and count in another width of integers. A `Correspondence` says what belongs together and
moves arrays across; everything here is a pure function of names, shapes and the outputs of one run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bridge.emit.names import Namespace, identifier
from bridge.errors import InputError
from bridge.verification.layouts import Permutation, Shape, array_layout, inverse, spec_layout
from bridge.verification.mapping import Mapped, find
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import dtype_named

Array = np.ndarray[Any, np.dtype[Any]]


class PairedInput(NamedTuple):
    """The target's input for one of the source: its name, and what to do to the array before it is fed.

    The array is transposed by `permutation` and then converted to `dtype`, where they are not None.
    """

    target: str
    permutation: Permutation | None = None
    dtype: str | None = None


class PairedOutput(NamedTuple):
    """An output by its positions on both sides; the target's is transposed to be as the source's."""

    source: int
    target: int
    permutation: Permutation | None = None


@dataclass(frozen=True)
class Correspondence:
    """What belongs together in two models, and how to move arrays from one to the other.

    `outputs` is None until `correspond_outputs` has seen the outputs of a run. `notes` are for the report.
    `uncertain` says in sentences what was matched without a reason to be sure: a difference between the
    outputs of such a pair may be a difference of the matching. `mismatch` says why the models cannot be
    held against each other at all. `strict`: outputs must be of the same type of integers.
    """

    inputs: Mapping[str, PairedInput]
    outputs: tuple[PairedOutput, ...] | None = None
    notes: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    mismatch: str | None = None
    strict: bool = False

    def feeds(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The target's inputs for the source's. Raises InputError for a value that its type cannot hold."""
        return {
            paired.target: _converted(name, _transposed(arrays[name], paired.permutation), paired.dtype)
            for name, paired in self.inputs.items()
        }

    def renames(self) -> bool:
        """Whether `feeds` changes anything: a name or an array."""
        return any(paired != PairedInput(name) for name, paired in self.inputs.items())

    def source_gradients(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Gradients of the target's inputs as those of the source's, by name and in its layout."""
        return {
            name: _transposed(gradients[paired.target], inverse(paired.permutation))
            for name, paired in self.inputs.items()
            if paired.target in gradients
        }

    def source_outputs(self, outputs: Sequence[Array]) -> list[Array]:
        """Those of the source's outputs that have a partner, in the order of `arranged`."""
        return [outputs[paired.source] for paired in self._outputs]

    def arranged(self, outputs: Sequence[Array], like: Sequence[Array]) -> list[Array]:
        """The target's outputs in the order and layout of the source's, `like` (all of the source's).

        Unless `strict`, integers of another width get the type of the source's where all of them fit, so
        that they are compared by value.
        """
        result = []
        for paired in self._outputs:
            array = _transposed(outputs[paired.target], paired.permutation)
            if not self.strict and _both_integers(array.dtype, like[paired.source].dtype):
                array = _fitting(array, like[paired.source].dtype)
            result.append(array)
        return result

    def target_cotangents(self, cotangents: Sequence[Array | None], count: int) -> list[Array | None]:
        """Cotangents in the order of `arranged` as those of the target's `count` outputs, in its layout.

        An output without a partner gets None.
        """
        result: list[Array | None] = [None] * count
        for paired, each in zip(self._outputs, cotangents, strict=True):
            if each is not None:
                result[paired.target] = _transposed(each, inverse(paired.permutation))
        return result

    @property
    def _outputs(self) -> tuple[PairedOutput, ...]:
        if self.outputs is None:
            raise ValueError("the outputs are matched after the first run only")
        return self.outputs


def _transposed(array: Array, permutation: Permutation | None) -> Array:
    return array if permutation is None else np.transpose(array, permutation)


def _converted(name: str, array: Array, dtype: str | None) -> Array:
    """An array as another type: floating point is rounded, integers and booleans must keep their values."""
    if dtype is None or array.dtype.name == dtype:
        return array
    wanted = dtype_named(dtype)
    converted = array.astype(wanted)
    if not (_is_float(array.dtype) and _is_float(wanted)) and not np.array_equal(
        converted.astype(array.dtype), array
    ):
        raise InputError(
            f"the target takes the input {name!r} as {dtype}, which cannot hold all of its values",
            hint=f"give values of {name!r} that both {array.dtype.name} and {dtype} can hold",
        )
    return converted


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fV" or dtype.name == "bfloat16"


def _both_integers(one: np.dtype[Any], other: np.dtype[Any]) -> bool:
    return one != other and one.kind in "iu" and other.kind in "iu"


def _fitting(array: Array, dtype: np.dtype[Any]) -> Array:
    converted = array.astype(dtype)
    same = np.array_equal(converted.astype(array.dtype), array) and np.array_equal(converted < 0, array < 0)
    return converted if same else array


def _spelled(names: Sequence[str]) -> list[str]:
    """Names as an emitted signature spells them: identifiers, each once."""
    taken = Namespace()
    return [taken.claim(identifier(name, default="input")) for name in names]


def _plain(names: Sequence[str]) -> list[str]:
    """Names without what the frameworks add to them or may not contain."""
    return [
        "".join(letter if letter.isalnum() else "_" for letter in name.lower().removesuffix(":0")).strip("_")
        for name in names
    ]


_SPELLINGS: tuple[Callable[[Sequence[str]], Sequence[str]], ...] = (list, _spelled, _plain)


def pair(ours: Sequence[str], theirs: Sequence[str]) -> dict[str, str]:
    """Their name for each of ours: by name if all of them fit in some spelling, else by position.

    Both hold the same number of names, each without repetition.
    """
    named = _by_spelling(ours, theirs)
    if named is not None:
        return {name: theirs[position] for name, position in zip(ours, named, strict=True)}
    return dict(zip(ours, theirs, strict=True))


def _by_spelling(ours: Sequence[str], theirs: Sequence[str]) -> list[int] | None:
    """For each of our names the position of theirs; None unless all of them fit in some spelling."""
    for ours_spelled in _SPELLINGS:
        for theirs_spelled in (list, ours_spelled):
            mine = list(ours_spelled(ours))
            other = {name: position for position, name in enumerate(theirs_spelled(theirs))}
            if len(set(mine)) == len(ours) == len(other) == len(theirs) and set(mine) == set(other):
                return [other[name] for name in mine]
    return None


def output_order(ours: Sequence[str] | None, theirs: Sequence[str] | None, count: int) -> list[int]:
    """For each of our outputs the position of theirs; their own order where either side has no names."""
    if not ours or not theirs or len(set(ours)) != len(ours) or len(set(theirs)) != len(theirs):
        return list(range(count))
    pairs = pair(ours, theirs)
    return [theirs.index(pairs[name]) for name in ours]


_NUMBERED = re.compile(r"^(?P<stem>.*?)_?(?P<number>\d+)?$")
_GENERIC = frozenset(
    {"", "arg", "args", "data", "identity", "in", "input", "input_layer", "inputs", "keras_tensor", "out"}
    | {"output", "outputs", "serving_default", "statefulpartitionedcall", "tensor", "x", "y"}
)
"""Names that say nothing about what a tensor is, once the number behind them is cut off."""


def _split_number(name: str) -> tuple[str, int]:
    match = _NUMBERED.match(name)
    assert match is not None
    return match["stem"], -1 if match["number"] is None else int(match["number"])


def _is_generic(name: str) -> bool:
    stem, _ = _split_number(_plain([name])[0])
    while stem not in _GENERIC and _split_number(stem)[1] >= 0:
        stem, _ = _split_number(stem)
    return stem in _GENERIC


@dataclass(frozen=True)
class _Tensor:
    """An input or output to be matched: its position in its model, and what is known about it."""

    position: int
    name: str | None
    dtype: str | None
    shape: Shape | None
    optional: bool = False


def _natural(tensors: Sequence[_Tensor]) -> list[_Tensor]:
    """Tensors of numbered names by their numbers: sorted names have `output_10` before `output_2`."""
    names = [each.name or "" for each in tensors]
    if names != sorted(names) or not _are_numbered(tensors):
        return list(tensors)
    return sorted(tensors, key=lambda each: _split_number(each.name or "")[1])


def _are_numbered(tensors: Sequence[_Tensor]) -> bool:
    """Whether names differ by a number only, which then tells the order."""
    parts = [_split_number(each.name or "") for each in tensors]
    return len({stem for stem, _ in parts}) == 1 and len({number for _, number in parts}) == len(parts)


def correspond_inputs(
    source: Sequence[TensorSpec],
    target: Sequence[TensorSpec],
    *,
    given: Sequence[Mapped] = (),
    converted: bool = False,
    layouts: bool | None = None,
    source_sorted: bool = False,
    target_sorted: bool = False,
) -> Correspondence:
    """Match the inputs of two models.

    What the user gave comes first; then names, in any usual spelling; then types and shapes, where these
    leave one way only; then positions. `converted`: bridge made the target from the source, so that names
    tell, and types are the same. `layouts`: whether one side may be channels first and the other channels
    last (by default where the target was not converted). `*_sorted`: that side lists its tensors by name,
    as SavedModels do, so that their order says nothing.
    Raises InputError where what the user gave does not fit the models.
    """
    permuting = not converted if layouts is None else layouts
    ours = [_Tensor(i, each.name, each.dtype, each.shape, each.optional) for i, each in enumerate(source)]
    theirs = [_Tensor(i, each.name, each.dtype, each.shape, each.optional) for i, each in enumerate(target)]
    matching = _Matching(ours, theirs, "input", permuting)
    matching.take(given)
    if converted:
        matching.match_spellings(compatible=False)
    else:
        matching.match_spellings(compatible=True)
        matching.match_distinctive_names()
    matching.drop_optional()
    mismatch = matching.mismatch(len(source), len(target))
    if mismatch is None:
        if not converted:
            matching.match_kinds()
        matching.match_positions(source_sorted, target_sorted)
    notes, inputs = list(matching.notes), {}
    mapped = {find(each.source, [one.name for one in source], "input", "source"): each for each in given}
    for i, each in enumerate(source):
        if i in matching.pairs:
            other = target[matching.pairs[i]]
            asked = mapped.get(i)
            permutation = None
            if asked is not None and asked.permutation is not None:
                permutation = _checked(asked.permutation, each.name, each.shape)
            elif permuting:
                permutation = spec_layout(each.shape, other.shape)
                if permutation is not None:
                    notes.append(f"the input {each.name!r} is transposed for the target: {list(permutation)}")
            dtype = other.dtype if other.dtype != each.dtype and each.dtype is not None else None
            if dtype is not None:
                notes.append(f"the input {each.name!r} is {each.dtype} in the source, {dtype} in the target")
            inputs[each.name] = PairedInput(other.name, permutation, dtype)
    return Correspondence(inputs, None, tuple(notes), tuple(matching.uncertain), mismatch, strict=converted)


def correspond_outputs(
    found: Correspondence,
    source_names: Sequence[str] | None,
    target_names: Sequence[str] | None,
    source_outputs: Sequence[Array],
    target_outputs: Sequence[Array],
    *,
    given: Sequence[Mapped] = (),
    converted: bool = False,
    layouts: bool | None = None,
    source_sorted: bool = False,
    target_sorted: bool = False,
) -> Correspondence:
    """Add to a correspondence of inputs that of the outputs, from those of the first run.

    Names come first, then positions: an output at the wrong place is a fault. Where a side lists its
    outputs by name and the names of both sides have nothing in common, there are no places, and types,
    shapes and finally values decide. An output is transposed where its shape asks for it, never where the
    shapes are equal. If the user named some outputs and the numbers differ, those alone are compared.
    Raises InputError where what the user gave does not fit the models.
    """
    permuting = not converted if layouts is None else layouts
    ours = _outputs(source_names, source_outputs)
    theirs = _outputs(target_names, target_outputs)
    matching = _Matching(ours, theirs, "output", permuting)
    matching.take(given)
    mismatch = found.mismatch
    if len(ours) != len(theirs):
        if given:
            matching.leave_out_the_rest()
        else:
            mismatch = mismatch or f"the source has {len(ours)} outputs, the target {len(theirs)}"
    if mismatch is None:
        matching.match_spellings(compatible=False)
        if not converted:
            matching.match_distinctive_names()
            if matching.order_is_lost(source_sorted, target_sorted):
                matching.match_kinds()
                matching.match_values(source_outputs, target_outputs)
        matching.match_positions(source_sorted, target_sorted)
    mapped = {find(each.source, source_names or len(ours), "output", "source"): each for each in given}
    notes, uncertain, pairs = [*found.notes, *matching.notes], [*found.uncertain, *matching.uncertain], []
    turned = any(each.permutation is not None for each in found.inputs.values())
    for i, j in sorted(matching.pairs.items()):
        name, array, other = ours[i].name or f"#{i}", source_outputs[i], target_outputs[j]
        asked = mapped.get(i)
        permutation = None
        if asked is not None and asked.permutation is not None:
            permutation = _checked(asked.permutation, name, other.shape)
        elif permuting:
            permutation, either = array_layout(array.shape, other.shape)
            if permutation is not None:
                notes.append(f"the output {name!r} of the target is transposed: {list(permutation)}")
            elif either and turned:
                uncertain.append(
                    f"the shape {array.shape} of the output {name!r} fits channels first and channels last: "
                    f"both sides were taken for the same; --map-outputs says otherwise"
                )
        if not converted and _both_integers(array.dtype, other.dtype):
            notes.append(
                f"the output {name!r} is {array.dtype} in the source, {other.dtype} in the target; it is "
                "compared by value"
            )
        pairs.append(PairedOutput(i, j, permutation))
    return replace(
        found, outputs=tuple(pairs), notes=tuple(notes), uncertain=tuple(uncertain), mismatch=mismatch
    )


def _outputs(names: Sequence[str] | None, arrays: Sequence[Array]) -> list[_Tensor]:
    known = names if names is not None and len(names) == len(arrays) else [None] * len(arrays)
    return [
        _Tensor(position, name, array.dtype.name, array.shape)
        for position, (name, array) in enumerate(zip(known, arrays, strict=True))
    ]


def _checked(permutation: Permutation, name: str, shape: Shape | None) -> Permutation | None:
    if shape is not None and len(shape) != len(permutation):
        raise InputError(
            f"the permutation {''.join(map(str, permutation))} does not fit {name!r}, which has "
            f"{len(shape)} axes",
            hint="name every axis once, for example x=image:0231",
        )
    return permutation


_VALUE_NEAR = 1e-2
_VALUE_APART = 10.0


class _Matching:
    """The pairs found so far, and the tensors of both sides that are left."""

    def __init__(
        self, ours: Sequence[_Tensor], theirs: Sequence[_Tensor], what: str, permuting: bool
    ) -> None:
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
        ours, theirs = ([_name(each) for each in side] for side in self._all)
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
            order = _by_spelling([_name(each) for each in ours], [_name(each) for each in theirs])
            if order is None:
                continue
            pairs = [(each, theirs[position]) for each, position in zip(ours, order, strict=True)]
            if not compatible or all(self._fits(one, other) for one, other in pairs):
                self._add_all(pairs)
                return

    def match_distinctive_names(self) -> None:
        """By the names that both sides have and that say what a tensor is."""
        for spelling in _SPELLINGS:
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
        self, tensors: Sequence[_Tensor], spelling: Callable[[Sequence[str]], Sequence[str]]
    ) -> dict[str, _Tensor]:
        named = [each for each in tensors if each.name is not None]
        spelled = spelling([_name(each) for each in named])
        return {
            name: each
            for name, each in zip(spelled, named, strict=True)
            if not _is_generic(name) and list(spelled).count(name) == 1
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
                names = ", ".join(_name(each) for each in side)
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

    def _is_only(self, ours: _Tensor, theirs: _Tensor, same: bool) -> bool:
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
            names = ", ".join(f"{_name(one)}={_name(other)}" for one, other in pairs)
            self.notes.append(f"the outputs have neither names in common nor an order: {names}, by value")

    def order_is_lost(self, source_sorted: bool, target_sorted: bool) -> bool:
        """Whether the positions of what is left say nothing on a side: it is sorted by names of no number."""
        return any(
            by_name and len(side) > 1 and not _are_numbered(side)
            for by_name, side in ((source_sorted, self._ours), (target_sorted, self._theirs))
        )

    def match_positions(self, source_sorted: bool, target_sorted: bool) -> None:
        """In order, what is left."""
        if not self._ours:
            return
        lost = self.order_is_lost(source_sorted, target_sorted)
        pairs = list(zip(_natural(self._ours), _natural(self._theirs), strict=True))
        names = ", ".join(f"{_name(one)}={_name(other)}" for one, other in pairs)
        if lost:
            self.uncertain.append(
                f"the {self._what}s {names} were matched by position, although one side lists them by name; "
                f"--map-{self._what}s says which belong together"
            )
        elif len(pairs) > 1 and not (_are_numbered(self._theirs) or _are_numbered(self._ours)):
            self.notes.append(f"the {self._what}s were matched by position: {names}")
        self._add_all(pairs)

    def _fits(self, ours: _Tensor, theirs: _Tensor, *, same: bool = False) -> bool:
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

    def _add_all(self, pairs: Iterable[tuple[_Tensor, _Tensor]]) -> None:
        for one, other in pairs:
            self._add(one.position, other.position)


def _name(tensor: _Tensor) -> str:
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
    moved = _transposed(theirs, permutation)
    if moved.shape != ours.shape or ours.dtype.kind == "c":
        return float("inf")
    one, other = ours.astype(np.float64), moved.astype(np.float64)
    size = float(np.linalg.norm(one))
    apart = float(np.linalg.norm(one - other))
    if not np.isfinite(apart):
        return float("inf")
    return apart / size if size else (0.0 if apart == 0.0 else float("inf"))
