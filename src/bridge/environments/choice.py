"""What a user says about the environment of one side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bridge.environments.cache import environment_for
from bridge.environments.interpreters import find_interpreter


@dataclass(frozen=True)
class EnvironmentChoice:
    """An interpreter, a requirements file, or both: then the environment is made from that interpreter."""

    python: str | None = None
    requirements: str | None = None

    def __bool__(self) -> bool:
        return self.python is not None or self.requirements is not None

    def interpreter(self, *, on_progress: Callable[[str], None] | None = None) -> str | None:
        """The program to run the side with, its environment made if need be; None for bridge's own.

        Raises EnvironmentFailure where there is no such interpreter and where an environment cannot be made,
        InputError for requirements that cannot be read.
        """
        if not self:
            return None
        found = find_interpreter(self.python)
        if self.requirements is None:
            return found.path
        return environment_for(self.requirements, found, on_progress=on_progress).python
