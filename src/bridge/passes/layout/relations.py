"""What each operator allows: the storages in which it can compute, and its parameters in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import onnx_ir as ir

from bridge.hub import metadata
from bridge.hub.metadata import Layout
from bridge.hub.recipe import Array
from bridge.passes.layout import axes
from bridge.passes.layout.storage import Block, Dims, Fold, Storage, native, plain

Hints = Sequence[Sequence[Storage]]
"""For each operand or result: the storages that its neighbours use, best first."""


class Label(NamedTuple):
    """One way to compute a node: the storage of each computed operand and of each result."""

    operands: tuple[Storage, ...]
    results: tuple[Storage, ...]


class Rewriter(Protocol):
    """What a relation may ask for when its node is rewritten."""

    def constant(self, value: ir.Value) -> Array | None:
        """The values of an initializer or Constant; None for anything computed."""

    def use_constant(self, node: ir.Node, index: int, storage: Storage, *, keep_rank: bool = False) -> None:
        """Let an input that is a constant be stored as the trailing axes of `storage`."""

    def set_constant(self, node: ir.Node, index: int, array: Array, role: str) -> None:
        """Replace a parameter input by a new constant."""

    def set_reshape(self, node: ir.Node, shape: Array) -> None:
        """Make a node the Reshape of its first input to a constant shape."""

    def lift(self, node: ir.Node, index: int, storage: Storage) -> None:
        """Bring a computed operand of lower rank to full rank, then into a storage."""

    def gather_result(self, node: ir.Node, order: Array) -> None:
        """Let all uses of the node's result, a vector, see its elements in another order."""


class Relation(Protocol):
    """The storages that one node allows."""

    @property
    def operands(self) -> tuple[int, ...]:
        """The indices of the inputs that are computed and not optional-absent."""

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        """The ways to compute that suit the neighbours' storages; never none."""

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        """Adapt attributes and parameter inputs to a label; the computed operands are already in it."""


@dataclass(frozen=True)
class Fixed:
    """One way only: unknown operators compute as the hub says, layout-sensitive ones in the native layout."""

    operands: tuple[int, ...]
    label: Label
    layout: Layout | None = None
    constants: tuple[tuple[int, Storage], ...] = ()

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        return (self.label,)

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        if self.layout == "channels_last":
            metadata.set_layout(node, self.layout)
        for index, storage in self.constants:
            rewriter.use_constant(node, index, storage)


@dataclass(frozen=True)
class Passing:
    """A graph input or output whose storage is free: whatever the neighbours use, unfolded."""

    operands: tuple[int, ...]
    rank: int

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        count = len(operands), len(results)
        for storage in [*_flat(operands, results), plain(self.rank)]:
            if storage.fold is None:
                yield Label((storage,) * count[0], (storage,) * count[1])

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        """Nothing to adapt."""


@dataclass(frozen=True)
class Observing:
    """An operator that looks at sizes only: Shape, Size."""

    operands: tuple[int, ...]
    rank: int
    result_rank: int

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        for storage in [*operands[0], plain(self.rank)]:
            yield Label((Storage(storage.order),), (plain(self.result_rank),))

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        order = label.operands[0].order
        if node.op_type != "Shape" or label.operands[0].is_plain:
            return
        start = _bounded(_int(node, "start", 0), len(order))
        end = _bounded(_int(node, "end", len(order)), len(order))
        if end - start == 1:
            position = order.index(start)
            node.attributes["start"] = ir.AttrInt64("start", position)
            node.attributes["end"] = ir.AttrInt64("end", position + 1)
            return
        node.attributes.pop("start", None)
        node.attributes.pop("end", None)
        wanted = np.asarray([order.index(axis) for axis in range(start, end)], dtype=np.int64)
        rewriter.gather_result(node, wanted)


Parameters = Callable[[ir.Node, Storage, Rewriter], None]


def _no_parameters(node: ir.Node, storage: Storage, rewriter: Rewriter) -> None:
    """An operator without anything that names an axis."""


@dataclass(frozen=True)
class Tied:
    """All operands and results share one order of axes: elementwise, Concat, Pad, reductions that keep axes.

    `operands` are the computed inputs; `tied` says which of them carry the common axes (the others are
    parameters or scalars). `lower` are those of them that broadcast from a lower rank, `constants` the
    constant inputs that follow the axes. `foldable` axes may be folded. `whole` operators do not broadcast:
    their constants keep their rank.
    """

    operands: tuple[int, ...]
    ranks: tuple[int, ...]
    result_ranks: tuple[int, ...]
    rank: int
    tied: frozenset[int]
    lower: frozenset[int] = frozenset()
    constants: tuple[int, ...] = ()
    foldable: frozenset[int] = frozenset()
    whole: bool = False
    permutable: bool = True
    parameters: Parameters = field(default=_no_parameters)

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        hints = [
            hint
            for index, storages in zip(self.operands, operands, strict=True)
            if index in self.tied and index not in self.lower
            for hint in storages
        ]
        hints.extend(hint for storages in results for hint in storages)
        for storage in dict.fromkeys([*hints, plain(self.rank)]):
            if len(storage.order) != self.rank or (storage.fold and storage.fold.axis not in self.foldable):
                continue
            if not self.permutable and storage.order != tuple(range(self.rank)):
                continue
            yield self._label(storage)

    def _label(self, storage: Storage) -> Label:
        own = (
            storage if index in self.tied and index not in self.lower else plain(rank)
            for index, rank in zip(self.operands, self.ranks, strict=True)
        )
        return Label(
            tuple(own),
            tuple(storage if rank == self.rank else plain(rank) for rank in self.result_ranks),
        )

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        storage = label.results[0]
        if storage.is_plain:
            return
        for index in self.constants:
            rewriter.use_constant(node, index, storage, keep_rank=self.whole)
        for index in self.lower:
            rewriter.lift(node, index, storage)
        self.parameters(node, storage, rewriter)


@dataclass(frozen=True)
class Joined:
    """Concat along an axis of static size: besides what `Tied` allows, folds of that axis are joined.

    `widths` are the sizes of all inputs along the axis, those that are constants included.
    """

    tied: Tied
    axis: int
    widths: tuple[int, ...]

    @property
    def operands(self) -> tuple[int, ...]:
        return self.tied.operands

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        order = tuple(range(self.tied.rank))
        chosen = {
            index: hint.fold
            for index, storages in zip(self.operands, operands, strict=True)
            for hint in storages[::-1]
            if hint.order == order and hint.fold is not None and hint.fold.axis == self.axis
        }
        if chosen:
            blocks: list[Block] = []
            for index, width in enumerate(self.widths):
                blocks.extend(chosen[index].blocks if index in chosen else (Block((width,), (0,)),))
            joined = Storage(order, Fold(self.axis, tuple(blocks)))
            yield Label(tuple(Storage(order, chosen.get(index)) for index in self.operands), (joined,))
        yield from self.tied.labels(operands, results)

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        if label.results[0].fold is None:
            self.tied.rewrite(node, label, rewriter)


MappedParameters = Callable[[ir.Node, Storage, Storage, Rewriter], None]


@dataclass(frozen=True)
class Mapped:
    """The first operand's axes become the result's axes by groups: Reshape, Squeeze, reductions, Gather.

    Only the first operand and the first result follow the axes; anything else is as the hub says.
    """

    operands: tuple[int, ...]
    ranks: tuple[int, ...]
    result_ranks: tuple[int, ...]
    before: Dims
    after: Dims
    groups: axes.Groups
    preferred: Layout
    parameters: MappedParameters
    feasible: Callable[[Storage, Storage], bool]

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        seen = set()
        for source, target in self._pairs(operands[0], results[0]):
            if (source, target) in seen:
                continue
            seen.add((source, target))
            if self.feasible(source, target):
                yield Label(
                    (source, *(plain(rank) for rank in self.ranks[1:])),
                    (target, *(plain(rank) for rank in self.result_ranks[1:])),
                )
        yield Label(tuple(map(plain, self.ranks)), tuple(map(plain, self.result_ranks)))

    def _pairs(
        self, sources: Sequence[Storage], targets: Sequence[Storage]
    ) -> Iterator[tuple[Storage, Storage]]:
        before, after = len(self.before), len(self.after)
        for source in [*sources, plain(before)]:
            anchored = axes.across(self.groups, source, self.before, self.after)
            if anchored is not None:
                yield from ((source, target) for target in targets if anchored.allows(target))
                yield source, anchored.completed(after, (native(self.preferred, after), plain(after)))
        for target in [*targets, plain(after)]:
            anchored = axes.across(axes.inverse(self.groups), target, self.after, self.before)
            if anchored is not None:
                yield anchored.completed(before, (native(self.preferred, before), plain(before))), target

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        source, target = label.operands[0], label.results[0]
        if not (source.is_plain and target.is_plain):
            self.parameters(node, source, target, rewriter)


@dataclass(frozen=True)
class Dense:
    """A product with a constant matrix: a folded feature axis is undone by permuting the weight instead.

    `weight` is input 1 with its contracted axis at `contracted`; `bias` is input 2 if it is a constant.
    """

    operands: tuple[int, ...]
    ranks: tuple[int, ...]
    rank: int
    contracted: int
    bias: int | None = None

    def labels(self, operands: Hints, results: Hints) -> Iterable[Label]:
        order = tuple(range(self.rank))
        others = tuple(map(plain, self.ranks[1:]))
        sources, targets = (
            [hint for hint in storages if self._foldable(hint, order)]
            for storages in (operands[0], results[0])
        )
        for source in dict.fromkeys([*sources, plain(self.rank)]):
            for target in dict.fromkeys([*targets, plain(self.rank)]):
                yield Label((source, *others), (target,))

    def _foldable(self, storage: Storage, order: tuple[int, ...]) -> bool:
        return storage.order == order and (storage.fold is None or storage.fold.axis == self.rank - 1)

    def rewrite(self, node: ir.Node, label: Label, rewriter: Rewriter) -> None:
        for storage, axis in (
            (label.operands[0], self.contracted),
            (label.results[0], 1 - self.contracted),
        ):
            if storage.fold is not None:
                rewriter.use_constant(
                    node, 1, Storage((0, 1), storage.fold._replace(axis=axis)), keep_rank=True
                )
        if label.results[0].fold is not None and self.bias is not None:
            rewriter.use_constant(node, self.bias, label.results[0])


def _flat(*hints: Hints) -> list[Storage]:
    return [storage for each in hints for storages in each for storage in storages]


def _int(node: ir.Node, name: str, default: int) -> int:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.as_int()


def _bounded(index: int, rank: int) -> int:
    """An index into a list of axes as Shape clamps it."""
    return min(max(index + rank if index < 0 else index, 0), rank)
