"""What a user's module consists of, read from its source: nothing is imported."""

from __future__ import annotations

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

_FRAMEWORKS = {"torch": "torch", "tensorflow": "tf", "keras": "tf"}
_SETTERS = frozenset({"environ", "putenv", "set_backend"})
"""Names by which code changes what a later import does."""
_INSTALLED = tuple(
    {os.path.realpath(sysconfig.get_paths()[each]) for each in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_OURS = frozenset({"bridge", "bridge_converters"})

_REFERENCE = re.compile(r"^[^\W\d]\w*(?:\.[^\W\d]\w*)*(?::[^\W\d]\w*(?:\.[^\W\d]\w*)*)?$")


def is_module_reference(text: str) -> bool:
    """Whether a text has the form `pkg.mod` or `pkg.mod:name`."""
    return _REFERENCE.match(text) is not None


def code_files(reference: str, path: Sequence[str] | None = None) -> tuple[Path, ...]:
    """The source files of `pkg.mod:name` or `pkg.mod`, and of all that they import, sorted.

    Installed packages are left out: their versions stand for them. `path` is where modules are looked for,
    by default that of this process and the current directory. A module that is not there is left out.
    """
    roots = [Path(entry or ".") for entry in [*(sys.path if path is None else path), os.getcwd()]]
    return tuple(sorted(_closure(reference.partition(":")[0], _own(roots))))


def framework_of(reference: str) -> str | None:
    """The one framework (`torch`, `tf`) that a module of the user and what it imports need.

    None where they import both or none, or where their source names what could change how a framework is
    imported: then it has to be imported by them.
    """
    found = set()
    for file in code_files(reference):
        tree = _parsed(file)
        names = {each.id if isinstance(each, ast.Name) else each.attr for each in _named(tree)}
        if names & _SETTERS:
            return None
        found |= {_FRAMEWORKS.get(each.partition(".")[0]) for each, _ in _imports(tree, "")}
    found -= {None}
    return found.pop() if len(found) == 1 else None


def _own(roots: Sequence[Path]) -> list[Path]:
    resolved = dict.fromkeys(Path(os.path.realpath(root)) for root in roots)
    return [each for each in resolved if not str(each).startswith(_INSTALLED) and each.is_dir()]


def _closure(module: str, roots: Sequence[Path]) -> set[Path]:
    files: set[Path] = set()
    waiting = [module]
    seen = set()
    while waiting:
        name = waiting.pop()
        if name in seen or name.partition(".")[0] in _OURS:
            continue
        seen.add(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        file = _file(name, roots)
        if file is None or file in files:
            continue
        files.add(file)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        for imported, names in _imports(_parsed(file), package):
            waiting.append(imported)
            waiting += [f"{imported}.{each}" for each in names]
    return files


def _file(module: str, roots: Sequence[Path]) -> Path | None:
    parts = module.split(".")
    for root in roots:
        place = root.joinpath(*parts)
        for file in (place / "__init__.py", place.with_name(place.name + ".py")):
            if file.is_file():
                return file
    return None


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, OSError):
        return ast.Module([], [])


def _named(tree: ast.AST) -> Iterator[ast.Name | ast.Attribute]:
    return (each for each in ast.walk(tree) if isinstance(each, ast.Name | ast.Attribute))


def _imports(tree: ast.AST, package: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Every module that is imported, by its full name, and the names that are taken from it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((each.name, ()) for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".") if node.level else []
            base = base[: len(base) - node.level + 1] if node.level else base
            name = ".".join([*base, *([node.module] if node.module else [])])
            if name:
                yield name, [each.name for each in node.names]
