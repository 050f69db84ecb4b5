"""The JSON files that bridge writes beside a model: each names its format and version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bridge.errors import InputError


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Write a record as JSON, one value a line, so that versions of it can be compared as text."""
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def read_record(path: Path, *, format: str, version: int, what: str) -> dict[str, Any]:
    """The record of a file. Raises InputError if it is not `what`, or of a version unknown here."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"this is not {what}: {error}", where=str(path)) from error
    if not isinstance(record, dict) or record.get("format") != format:
        raise InputError(f"this is not {what}", where=str(path))
    if record.get("version") != version:
        raise InputError(
            f"this is {what} of version {record.get('version')}, not {version}",
            where=str(path),
            hint="convert the model again, or use the bridge that wrote the file",
        )
    return record
