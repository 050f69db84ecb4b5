"""On which lines of a TOML file its keys stand; `tomllib` does not tell."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field

_HEADER = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")


@dataclass
class TableLines:
    """A table of the file: the name and the line of its header, and the line of each of its keys."""

    name: str
    line: int
    keys: dict[str, int] = field(default_factory=dict)


def table_lines(text: str) -> list[TableLines]:
    """All tables of a valid TOML file in its order, the one without a header first."""
    tables = [TableLines("", 1)]
    statement, started = "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        header = None if statement else _HEADER.match(line)
        if header is not None:
            tables.append(TableLines(header[2].strip("\"' "), number))
            continue
        if not statement:
            started = number
        statement += line + "\n"
        try:
            found = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on in the next line
        tables[-1].keys.update(dict.fromkeys(found, started))
        statement = ""
    return tables
