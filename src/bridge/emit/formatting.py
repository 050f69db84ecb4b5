"""Formatting of the emitted text by ruff."""

from __future__ import annotations

import subprocess
from types import TracebackType

from ruff import find_ruff_bin

from bridge.errors import EnvironmentFailure


class Formatter:
    """One run of `ruff format`, started when this is made and fed later; a context manager.

    Starting ruff takes longer than formatting a model, and goes on beside other work.
    """

    def __init__(self, file_name: str) -> None:
        command = [find_ruff_bin(), "format", "--line-length", "100", "--isolated"]
        self._process = subprocess.Popen(
            [*command, "--stdin-filename", file_name, "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def format(self, text: str) -> str:
        """The text in ruff's format; its syntax tree stays the same. Can be called once."""
        formatted, problem = self._process.communicate(text)
        if self._process.returncode != 0:
            raise EnvironmentFailure(f"ruff could not format the emitted source: {problem.strip()}")
        return formatted

    def __enter__(self) -> Formatter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.__exit__(kind, error, trace)
