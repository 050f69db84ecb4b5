"""Results that are kept between calls, so that an interrupted suite can go on: a file for each pair."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from urllib.parse import quote

from bridge.errors import InputError, OutputError
from bridge.verification.report import Report

_SCHEMA = 1


class Store:
    """A directory of results, each under the identity that it was found for.

    Only what was checked is kept; what could not be checked is tried again.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def find(self, name: str, identity: str) -> Report | None:
        """The result of a pair, if there is one for this very identity."""
        try:
            record = json.loads(self._file(name).read_text(encoding="utf-8"))
            if record["schema"] != _SCHEMA or record["identity"] != identity:
                return None
            return Report.from_json(self._report(name))
        except (OSError, ValueError, KeyError, TypeError, InputError):
            return None  # whatever is there, it is no result of this version of bridge

    def keep(self, name: str, identity: str, report: Report) -> None:
        """Keep the result of a pair. Raises OutputError where it cannot be written."""
        if report.verdict == "could not be checked":
            return
        record = json.dumps({"schema": _SCHEMA, "pair": name, "identity": identity}, indent=2) + "\n"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            ignore = self._directory / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            self._file(name).unlink(missing_ok=True)
            report.to_json(self._report(name))
            _write(self._file(name), record)
        except OSError as error:
            raise OutputError(
                f"the result of {name} cannot be kept: {error.strerror}",
                hint="choose another directory with --state",
                where=str(self._directory),
            ) from error

    def _file(self, name: str) -> Path:
        return self._directory / f"{quote(name, safe='')}.json"

    def _report(self, name: str) -> Path:
        return self._directory / f"{quote(name, safe='')}.report.json"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    os.replace(file.name, path)
