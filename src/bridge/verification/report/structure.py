"""What the parts of both versions are called."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TensorNames:
    """A weight of the target and the tensors of the source that it is made of, usually one.

    `kind` is "parameter", "buffer" or the like, empty where nobody knows; `how` says what is done to the
    source's tensors, empty where they are taken as they are.
    """

    target: str
    source: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    kind: str = ""
    how: str = ""


@dataclass(frozen=True)
class ModuleNames:
    """A module of a converted target.

    `source` are the modules of the source that its operations came from, `operators` what it computes itself
    (with a count where an operator occurs more than once), `line` the first line of model.py that does,
    and `location` the first line of the source's own code, where known.
    """

    target: str
    source: tuple[str, ...]
    operators: tuple[str, ...]
    line: int | None = None
    location: str | None = None


@dataclass(frozen=True)
class Structure:
    """Names on both sides, in the order of the target. `file` is the target's source, whose lines are meant.

    `modules` are known of what bridge converted; of other pairs there are the weights that were matched.
    """

    tensors: tuple[TensorNames, ...] = ()
    modules: tuple[ModuleNames, ...] = ()
    file: str | None = None
