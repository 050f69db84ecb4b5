"""The values inside one model, in the order of their computation, and how they depend on one another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bridge.worker.standalone import read_tensors

Array = np.ndarray[Any, np.dtype[Any]]

INPUT = "input"
"""The operator of a model's input where the model itself does not show it as a value, nor its gradient."""

_SHAPE_OPERATORS = ("shape", "shapen", "size", "rank", "sym_size", "sym_numel", "numel")


@dataclass(frozen=True)
class Value:
    """One tensor inside a model, in float64 where it is floating.

    `inputs` are the names of the values that it was made from. `source` is the name of the same value in
    the other model, where the record of a conversion tells. `gradient` has the value's shape.
    """

    name: str
    operator: str
    array: Array
    inputs: tuple[str, ...] = ()
    scope: str | None = None
    location: str | None = None
    source: str | None = None
    gradient: Array | None = None

    @property
    def module(self) -> str:
        """The path of what the value was made in: TensorFlow's names begin with it."""
        return self.name.rpartition("/")[0] or self.scope or ""


@dataclass(frozen=True)
class Trace:
    """The values of one model for one set of inputs; positions count from 0 in the order of computation.

    `reads[i]` are the positions of the values that value i was made from, `feeds` the model's inputs by
    name.
    """

    values: tuple[Value, ...]
    feeds: Mapping[str, Array] = field(default_factory=dict)
    reads: tuple[tuple[int, ...], ...] = field(init=False)
    read_by: tuple[tuple[int, ...], ...] = field(init=False)
    depends_on_inputs: tuple[bool, ...] = field(init=False)

    def __post_init__(self) -> None:
        latest: dict[str, int] = {}
        reads = []
        readers: list[list[int]] = [[] for _ in self.values]
        for position, value in enumerate(self.values):
            found = tuple(dict.fromkeys(latest[name] for name in value.inputs if name in latest))
            reads.append(found)
            for each in found:
                readers[each].append(position)
            latest[value.name] = position
        object.__setattr__(self, "reads", tuple(reads))
        object.__setattr__(self, "read_by", tuple(tuple(each) for each in readers))
        object.__setattr__(self, "depends_on_inputs", self._dependence())

    def _dependence(self) -> tuple[bool, ...]:
        """Whether each value depends on the elements of an input, and not only on its shape or on weights."""
        known = {value.name for value in self.values}
        leaves = {name for value in self.values for name in value.inputs if name not in known}
        by_name = {name: _named(leaves, name) for name in self.feeds}
        by_value = [_is_fed(value, self.feeds) for value in self.values]
        fed = {name for found in by_name.values() for name in found}
        if not self._all_found(by_name, by_value):
            fed = leaves
        result: list[bool] = []
        for position, value in enumerate(self.values):
            result.append(
                by_value[position]
                or (
                    not _asks_for_shape(value.operator)
                    and (
                        any(result[each] for each in self.reads[position]) or not fed.isdisjoint(value.inputs)
                    )
                )
            )
        return tuple(result)

    def _all_found(self, by_name: Mapping[str, set[str]], by_value: Sequence[bool]) -> bool:
        found = {
            name
            for value, is_fed in zip(self.values, by_value, strict=True)
            if is_fed
            for name, array in self.feeds.items()
            if _same(value.array, array)
        }
        return all(leaves or name in found for name, leaves in by_name.items())

    @classmethod
    def read(cls, records: Sequence[Mapping[str, Any]], file: Path, feeds: Mapping[str, Array]) -> Trace:
        """The trace that a worker's answer to `intermediates` describes; its arrays stay in the file.

        The inputs are its first values.
        """
        tensors = read_tensors(str(file))
        known = {record["name"] for record in records}
        inputs = tuple(Value(name, INPUT, array) for name, array in feeds.items() if name not in known)
        return cls(
            inputs
            + tuple(
                Value(
                    name=record["name"],
                    operator=record["operator"],
                    array=tensors[str(position)],
                    inputs=tuple(record.get("inputs") or ()),
                    scope=record.get("scope"),
                    location=record.get("location"),
                    source=record.get("source"),
                    gradient=tensors.get(f"{position}:gradient"),
                )
                for position, record in enumerate(records)
            ),
            feeds,
        )

    def has_edges(self) -> bool:
        """Whether it is known which value is made from which."""
        return any(self.reads)

    def has_gradients(self) -> bool:
        return any(value.gradient is not None for value in self.values)


def _named(leaves: Iterable[str], name: str) -> set[str]:
    """The values of a graph that are the input `x`: that name, else `x:0`, `call/x:0` and the like."""
    exact = {leaf for leaf in leaves if leaf == name}
    if exact:
        return exact
    bases = {leaf: leaf.split(":")[0].rpartition("/")[2] for leaf in leaves}
    return {leaf for leaf, base in bases.items() if base == name or base.endswith(f"_{name}")}


def _is_fed(value: Value, feeds: Mapping[str, Array]) -> bool:
    return not value.inputs and any(_same(value.array, array) for array in feeds.values())


def _same(first: Array, second: Array) -> bool:
    return first.shape == second.shape and np.array_equal(
        first, second, equal_nan=first.dtype.kind == "f" and second.dtype.kind == "f"
    )


def _asks_for_shape(operator: str) -> bool:
    """Whether an operator's result depends on shapes only: `Shape`, `aten.sym_size.int`."""
    name = operator.lower().removeprefix("aten.").split(".")[0]
    return name in _SHAPE_OPERATORS
