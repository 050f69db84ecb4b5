"""Small traces computed in numpy, to localise in without any framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from bridge.verification.localise.trace import Trace, Value

Array = np.ndarray[Any, np.dtype[Any]]


class Recorder:
    """Computes values and remembers them: `r("y", "Add", np.add, "a", "b")`."""

    def __init__(self, **feeds: Array) -> None:
        self._feeds = {name: np.asarray(array) for name, array in feeds.items()}
        self._arrays: dict[str, Array] = dict(self._feeds)
        self._values = [Value(name, "input", array) for name, array in self._feeds.items()]

    def weight(self, name: str, array: Array) -> None:
        """A weight: it can be read, and is no value of the trace."""
        self._arrays[name] = array

    def __call__(
        self,
        name: str,
        operator: str,
        function: Callable[..., Array],
        *reads: str,
        source: str | None = None,
        scope: str | None = None,
        gradient: Array | None = None,
    ) -> Array:
        array = np.asarray(function(*(self._arrays[each] for each in reads)))
        self._arrays[name] = array
        self._values.append(
            Value(name, operator, array, reads, scope, f"net.py:{len(self._values)}", source, gradient)
        )
        return array

    def trace(self) -> Trace:
        return Trace(tuple(self._values), self._feeds)


def end(trace: Trace) -> int:
    """The position of the last value."""
    return len(trace.values) - 1


def named(trace: Trace, positions: Sequence[int]) -> list[str]:
    return [trace.values[position].name for position in positions]


def weights(seed: int = 1) -> Mapping[str, Array]:
    rng = np.random.default_rng(seed)
    return {
        "w": rng.standard_normal((6, 6)),
        "scale": rng.uniform(0.5, 1.5, 6),
        "shift": rng.standard_normal(6),
        "v": rng.standard_normal((6, 3)),
    }
