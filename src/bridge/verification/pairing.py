"""Which tensor of the target is which of the source: by name, by type and shape, or by position.

Two models that were written apart spell names otherwise, hold their tensors in another layout (channels
first or last), and count in another width of integers. A `Correspondence` says what belongs together and
moves arrays across; everything here is a pure function of names, shapes and the outputs of one run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from bridge.errors import InputError
from bridge.verification.layouts import Permutation, Shape, array_layout, inverse, spec_layout, transposed
from bridge.verification.mapping import Mapped, find
from bridge.verification.partners import Matching, Tensor
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
            paired.target: _converted(name, transposed(arrays[name], paired.permutation), paired.dtype)
            for name, paired in self.inputs.items()
        }

    def renames(self) -> bool:
        """Whether `feeds` changes anything: a name or an array."""
        return any(paired != PairedInput(name) for name, paired in self.inputs.items())

    def source_gradients(self, gradients: Mapping[str, Array]) -> dict[str, Array]:
        """Gradients of the target's inputs as those of the source's, by name and in its layout."""
        return {
            name: transposed(gradients[paired.target], inverse(paired.permutation))
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
            array = transposed(outputs[paired.target], paired.permutation)
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
                result[paired.target] = transposed(each, inverse(paired.permutation))
        return result

    @property
    def _outputs(self) -> tuple[PairedOutput, ...]:
        if self.outputs is None:
            raise ValueError("the outputs are matched after the first run only")
        return self.outputs


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
    ours = [Tensor(i, each.name, each.dtype, each.shape, each.optional) for i, each in enumerate(source)]
    theirs = [Tensor(i, each.name, each.dtype, each.shape, each.optional) for i, each in enumerate(target)]
    matching = Matching(ours, theirs, "input", permuting)
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
    matching = Matching(ours, theirs, "output", permuting)
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


def _outputs(names: Sequence[str] | None, arrays: Sequence[Array]) -> list[Tensor]:
    known = names if names is not None and len(names) == len(arrays) else [None] * len(arrays)
    return [
        Tensor(position, name, array.dtype.name, array.shape)
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
