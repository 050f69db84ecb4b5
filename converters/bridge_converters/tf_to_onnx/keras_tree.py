"""The layers of a Keras model as a tree, and the path of every variable in it.

The rule for paths, the same for every format that holds a Keras model: the names of the layers from
below the root down to the layer that owns the variable, then the variable's own name
(`block1/conv/kernel`). This is Keras' own `variable.path`, without the name of the root model that Keras
puts first in subclassed models, and with the name of a nested model that Keras leaves out where its
layers were built before it was nested. A layer in several places has the path of the first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import keras
from keras.src import backend

from bridge.hub.metadata import WeightKind


@dataclass(frozen=True)
class KerasVariable:
    """A variable of a layer: its path by the rule above, and how training treats it."""

    variable: backend.Variable
    path: str
    kind: WeightKind
    trainable: bool


def layer_paths(model: keras.Model) -> dict[int, tuple[str, ...]]:
    """The path of every layer below the root, by `id(layer)`; the root's own path is empty.

    Siblings of equal names get `_1`, `_2`, ... in the order in which the model holds them.
    """
    paths: dict[int, tuple[str, ...]] = {id(model): ()}
    pending: list[keras.layers.Layer] = [model]
    while pending:
        layer = pending.pop(0)
        taken: set[str] = set()
        for child in _children(layer):
            if id(child) in paths:
                continue
            name = _unique(child.name, taken)
            paths[id(child)] = (*paths[id(layer)], name)
            pending.append(child)
    return paths


def variables(model: keras.Model, paths: dict[int, tuple[str, ...]]) -> list[KerasVariable]:
    """Every weight of the model, once. Seeds, metrics and optimizer slots are no weights."""
    found: list[KerasVariable] = []
    seen: set[int] = set()
    taken: set[str] = set()
    for layer in _walk(model):
        created = [(each, "parameter") for each in layer._trainable_variables]
        created += [(each, "buffer") for each in layer._non_trainable_variables]
        for variable, kind in created:
            if id(variable) in seen:
                continue
            seen.add(id(variable))
            path = _unique("/".join((*paths[id(layer)], variable.name)), taken)
            trainable = kind == "parameter" and bool(variable.trainable)
            found.append(
                KerasVariable(variable, path, "parameter" if kind == "parameter" else "buffer", trainable)
            )
    return found


def _walk(model: keras.Model) -> Iterator[keras.layers.Layer]:
    seen: set[int] = set()
    pending: list[keras.layers.Layer] = [model]
    while pending:
        layer = pending.pop()
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        yield layer
        pending.extend(reversed(_children(layer)))


def _children(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    children = list(layer._flatten_layers(include_self=False, recursive=False))
    return [child for child in children if not isinstance(child, keras.metrics.Metric)]


def _unique(name: str, taken: set[str]) -> str:
    result, number = name, 0
    while result in taken:
        number += 1
        result = f"{name}_{number}"
    taken.add(result)
    return result
