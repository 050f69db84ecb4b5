"""The suite file: many pairs of models to verify, in TOML. docs/suite.md describes it."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bridge.errors import InputError
from bridge.verification.suite.lines import TableLines, table_lines
from bridge.verification.suite.options import wrong_key, wrong_value

_HINT = "docs/suite.md describes the file"
_MOST = 30


@dataclass(frozen=True)
class Pair:
    """Two versions to hold against each other, and the options to do it with.

    `source` and `target` are as `bridge verify` takes them; what is relative is relative to the suite's file.
    """

    name: str
    source: str
    target: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """The pairs of a file, in its order. `directory` is where all of them run."""

    path: Path
    directory: Path
    pairs: tuple[Pair, ...]

    def only(self, names: Sequence[str]) -> Suite:
        """The suite with some of its pairs; a name may be a pattern such as `text-*`.

        Raises InputError for a name that no pair has.
        """
        from difflib import get_close_matches
        from fnmatch import fnmatchcase

        known = [each.name for each in self.pairs]
        for name in names:
            if not any(fnmatchcase(each, name) for each in known):
                close = get_close_matches(name, known, n=1)
                raise InputError(
                    f"the suite has no pair {name!r}",
                    hint=f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}",
                    where=str(self.path),
                )
        chosen = tuple(each for each in self.pairs if any(fnmatchcase(each.name, name) for name in names))
        return Suite(self.path, self.directory, chosen)


@dataclass(frozen=True)
class _Problem:
    line: int
    text: str


def read_suite(path: str | Path) -> Suite:
    """Read and check a suite file; no model is looked at.

    Raises InputError with every problem and its line, all at once.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8")
        record = tomllib.loads(text)
    except OSError as error:
        raise InputError(f"the suite cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError as error:
        raise InputError("the suite is not a text in UTF-8", where=str(file)) from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"this is not TOML: {error}", hint=_HINT, where=str(file)) from error
    tables = table_lines(text)
    problems = list(_problems(record, tables))
    if problems:
        raise _error(sorted(problems, key=lambda each: each.line), file)
    defaults = record.get("defaults", {})
    pairs = tuple(
        Pair(
            each["name"],
            each["source"],
            each["target"],
            {
                **defaults,
                **{key: value for key, value in each.items() if key not in ("name", "source", "target")},
            },
        )
        for each in record["pair"]
    )
    return Suite(file, file.resolve().parent, pairs)


def _error(problems: Sequence[_Problem], file: Path) -> InputError:
    lines = [f"line {each.line}: {each.text}" for each in problems[:_MOST]]
    if len(problems) > _MOST:
        lines.append(f"and {len(problems) - _MOST} more")
    if len(problems) == 1:
        return InputError(lines[0], hint=_HINT, where=str(file))
    return InputError("\n  ".join([f"{len(problems)} problems:", *lines]), hint=_HINT, where=str(file))


def _problems(record: Mapping[str, Any], tables: Sequence[TableLines]) -> Iterator[_Problem]:
    for name in record:
        if name not in ("defaults", "pair"):
            yield _Problem(
                _line_of(name, tables), f"there is no table {name}; there are [defaults], [[pair]]"
            )
    defaults = record.get("defaults", {})
    if not isinstance(defaults, dict):
        yield _Problem(_line_of("defaults", tables), "defaults is not a table: write [defaults]")
    else:
        yield from _table_problems(defaults, _table("defaults", 0, tables), in_pair=False)
    pairs = record.get("pair", [])
    if not isinstance(pairs, list) or not all(isinstance(each, dict) for each in pairs):
        yield _Problem(_line_of("pair", tables), "pair is not a list of tables: write [[pair]]")
        return
    if not pairs:
        yield _Problem(1, "there is no [[pair]], so there is nothing to verify")
    for position, pair in enumerate(pairs):
        yield from _table_problems(pair, _table("pair", position, tables), in_pair=True)
    yield from _repeated(pairs, tables)


def _table_problems(record: Mapping[str, Any], lines: TableLines, *, in_pair: bool) -> Iterator[_Problem]:
    if in_pair:
        missing = [each for each in ("name", "source", "target") if each not in record]
        if missing:
            yield _Problem(lines.line, f"the pair has no {' and no '.join(missing)}")
    for key, value in record.items():
        problem = wrong_key(key, in_pair=in_pair) or wrong_value(key, value)
        if problem is not None:
            yield _Problem(lines.keys.get(key, lines.line), problem)


def _repeated(pairs: Sequence[Mapping[str, Any]], tables: Sequence[TableLines]) -> Iterator[_Problem]:
    names = Counter(each["name"] for each in pairs if isinstance(each.get("name"), str))
    for position, pair in enumerate(pairs):
        if isinstance(pair.get("name"), str) and names[pair["name"]] > 1:
            lines = _table("pair", position, tables)
            yield _Problem(lines.keys.get("name", lines.line), f"the name {pair['name']!r} is given twice")


def _line_of(name: str, tables: Sequence[TableLines]) -> int:
    """Where a name of the top level stands first: as a key or as the header of a table."""
    lines = [each.line for each in tables if each.name.partition(".")[0].strip() == name]
    return min([*lines, *([tables[0].keys[name]] if name in tables[0].keys else [])], default=1)


def _table(name: str, position: int, tables: Sequence[TableLines]) -> TableLines:
    """The table of that name and position; where it is written inline, the line that holds it."""
    found = [each for each in tables if each.name == name]
    return found[position] if position < len(found) else TableLines(name, _line_of(name, tables))
