"""The parts of a model as a tree, in the order of the target, with the names of both sides."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bridge.verification.report.structure import ModuleNames, Structure, TensorNames

_SEPARATOR = re.compile(r"[./]")
_DEEPEST = 24
"""Levels of the tree; what is named deeper than that is shown with the rest of its path as its name."""


@dataclass
class Leaf:
    """A weight under its own name within its branch."""

    name: str
    names: TensorNames


@dataclass
class Branch:
    """A module, or a part of a path that names no module itself. `wrong`: the first wrong node is in it."""

    name: str
    module: ModuleNames | None = None
    branches: dict[str, Branch] = field(default_factory=dict)
    leaves: list[Leaf] = field(default_factory=list)
    wrong: bool = False

    @property
    def weights(self) -> int:
        """How many weights the branch and everything beneath it has."""
        return len(self.leaves) + sum(each.weights for each in self.branches.values())

    def within(self, parts: list[str]) -> Branch:
        """The branch of a path beneath this one, made where it is not there yet."""
        branch = self
        for part in parts:
            branch = branch.branches.setdefault(part, Branch(part))
        return branch


def tree(structure: Structure, wrong: str | None = None) -> Branch:
    """The root of the tree. `wrong` is the path of the module with the first wrong node."""
    root = Branch("")
    for module in structure.modules:
        root.within(_parts(module.target)).module = module
    for tensor in structure.tensors:
        *path, name = _parts(tensor.target) or [tensor.target]
        root.within(path).leaves.append(Leaf(name, tensor))
    if wrong is not None:
        branch = root
        for part in _parts(wrong):
            found = branch.branches.get(part)
            if found is None:
                break
            found.wrong = True
            branch = found
    return root


def _parts(path: str) -> list[str]:
    parts = [part for part in _SEPARATOR.split(path) if part]
    if len(parts) <= _DEEPEST:
        return parts
    return [*parts[: _DEEPEST - 1], ".".join(parts[_DEEPEST - 1 :])]
