"""Python interpreters on this machine: found by path, by directory or by version, and asked what they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bridge.errors import EnvironmentFailure

OLDEST = (3, 7)
"""The oldest Python that the program of a worker runs on."""

_VERSION = re.compile(r"^(?:python)?(\d+\.\d+)$")
_SECONDS = 60
_QUESTION = """\
import json, platform, sys
print(json.dumps({
    "version": platform.python_version(), "implementation": platform.python_implementation().lower(),
    "machine": platform.machine(), "tuple": list(sys.version_info[:2]),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python that answered: its program, its version, its implementation (`cpython`), the processor."""

    path: str
    version: str
    implementation: str
    machine: str

    @property
    def identity(self) -> str:
        """What makes two interpreters fit the same installed packages: `cpython-3.11.7-x86_64`."""
        return f"{self.implementation}-{self.version}-{self.machine}"


def find_interpreter(wanted: str | None = None) -> Interpreter:
    """The interpreter that a user names; without a name the running one.

    `wanted` is a program, the directory of a virtual environment or of an installation, or a version such as
    `3.8`, which is looked for on the PATH. Raises EnvironmentFailure where there is none, where it does not
    start, and where it is older than Python 3.7.
    """
    path = sys.executable if wanted is None else _located(wanted)
    try:
        answer = subprocess.run(
            [path, "-I", "-c", _QUESTION], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentFailure(f"the interpreter cannot be run: {error}", where=path) from error
    try:
        found = json.loads(answer.stdout)
    except ValueError:
        lines = answer.stderr.strip().splitlines()
        raise EnvironmentFailure(
            "the program does not answer as a Python interpreter does",
            hint=f"it said: {lines[-1]}" if lines else "name a python program, such as ../old/bin/python",
            where=path,
        ) from None
    if tuple(found["tuple"]) < OLDEST:
        raise EnvironmentFailure(
            f"Python {found['version']} is older than what a worker runs on",
            hint="choose Python 3.7 or newer",
            where=path,
        )
    return Interpreter(path, found["version"], found["implementation"], found["machine"])


def _located(wanted: str) -> str:
    path = Path(wanted).expanduser()
    if path.is_dir():
        inside = path / "bin" / "python"
        if inside.exists():
            return str(inside.absolute())
        raise EnvironmentFailure(
            "the directory holds no interpreter",
            hint="name the directory of a virtual environment, or its bin/python",
            where=wanted,
        )
    if path.is_file():
        if not os.access(path, os.X_OK):
            raise EnvironmentFailure("the file is no program", hint="name bin/python", where=wanted)
        # Not resolved: through its link a virtual environment would be left.
        return str(path.absolute())
    version = _VERSION.match(wanted)
    found = shutil.which(f"python{version[1]}" if version else wanted)
    if found is None:
        raise EnvironmentFailure(
            f"there is no interpreter {wanted!r}",
            hint="install it (pyenv install, apt install, uv python install), or give its path",
        )
    return found
