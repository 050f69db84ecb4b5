"""Read the layers of a Keras model out of the names of a graph that was traced without hooks.

Keras 3 enters a layer's name scope twice for every call, once to build and once to compute, and
TensorFlow makes each a new name: the first call of `conv` computes in `conv_1`, its second in `conv_3`.
An operator's own scope (`batchnorm`, `Tensordot`) is entered once, so a scope that appears as `x_1` without an
`x` beside it is a layer's. Class names are not in a graph; those of Keras' automatic names are known.
"""

from __future__ import annotations

import re

CALLS = ("StatefulPartitionedCall", "PartitionedCall")
UNKNOWN_CLASS = "Layer"

_SUFFIX = re.compile(r"^(?P<name>.+)_(?P<number>\d+)$")


class _Level:
    """The scopes seen so far directly below one scope, as TensorFlow's counter of names saw them."""

    def __init__(self) -> None:
        self.taken: dict[str, int] = {}
        self.resolved: dict[str, tuple[str, int] | None] = {}

    def unique(self, name: str) -> str:
        """TensorFlow's own rule for a name that is asked for again."""
        key, result = name.lower(), name
        count = self.taken.get(key, 0)
        self.taken[key] = count + 1
        if count:
            while result.lower() in self.taken:
                result = f"{name}_{count}"
                count += 1
            self.taken[key] = count
            self.taken[result.lower()] = 1
        return result
