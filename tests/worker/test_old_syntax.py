"""What runs in the environments of old frameworks: Python 3.7 syntax, and imports of nothing newer."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import bridge
from bridge.worker.compatible import zip_equal

ROOT = Path(bridge.__file__).resolve().parent.parent.parent
CONVERTERS = ROOT / "converters"
FRAMEWORKS = {"tensorflow", "tf_keras", "torch", "h5py", "numpy", "ml_dtypes", "safetensors"}
NEWER = {"removeprefix", "removesuffix", "is_relative_to", "cached_property", "isqrt", "prod"}
EVALUATED = {
    "dict",
    "list",
    "tuple",
    "set",
    "frozenset",
    "type",
    "Callable",
    "Mapping",
    "Sequence",
    "Iterable",
}
"""Names whose subscription is an error where it is evaluated before Python 3.9."""


def _files() -> list[Path]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found: list[Path] = []
    for pattern in settings["tool"]["ruff"]["per-file-target-version"]:
        for each in _expanded(pattern):
            matched = sorted(ROOT.glob(each))
            assert matched, f"{each} in pyproject.toml is no file"
            found += matched
    return found


def _expanded(pattern: str) -> list[str]:
    """The patterns that braces stand for."""
    before, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    names, _, after = rest.partition("}")
    return [f"{before}{name}{after}" for name in names.split(",")]


OLD = _files()
MODULES = {
    each.relative_to(CONVERTERS if CONVERTERS in each.parents else ROOT / "src")
    .with_suffix("")
    .as_posix()
    .replace("/", ".")
    for each in OLD
}


def _name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def _is_for_types(test: ast.expr) -> bool:
    return isinstance(test, ast.Name) and test.id == "TYPE_CHECKING"


def _imports(body: list[ast.stmt]) -> Iterator[str]:
    """What is imported when a module is, without the parts for type checkers and the insides of functions."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.If) and _is_for_types(node.test):
            yield from _imports(node.orelse)
        elif isinstance(node, ast.Try | ast.If):
            yield from _imports(node.body)


@pytest.mark.parametrize("file", OLD, ids=_name)
def test_its_syntax_is_that_of_python_3_7(file: Path) -> None:
    source = file.read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))
    assert "from __future__ import annotations" in source or len(ast.parse(source).body) == 1


@pytest.mark.parametrize("file", OLD, ids=_name)
def test_it_imports_nothing_that_an_old_environment_lacks(file: Path) -> None:
    for name in _imports(ast.parse(file.read_text(encoding="utf-8")).body):
        package = name.partition(".")[0]
        if package in ("bridge", "bridge_converters"):
            inside = {each for each in MODULES if each == name or each.startswith(f"{name}.")}
            assert inside, f"{name} does not run in old environments"
        else:
            assert package in FRAMEWORKS or package in sys.stdlib_module_names, name
            assert name not in ("typing_extensions", "tomllib", "zoneinfo", "graphlib")


@pytest.mark.parametrize("file", OLD, ids=_name)
def test_no_generic_type_is_evaluated_when_it_is_imported(file: Path) -> None:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            subscripted = [each for each in ast.walk(node.value) if isinstance(each, ast.Subscript)]
            names = {each.value.id for each in subscripted if isinstance(each.value, ast.Name)}
            assert not names & EVALUATED, f"line {node.lineno}"


@pytest.mark.parametrize("file", OLD, ids=_name)
def test_it_calls_nothing_newer(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in NEWER, f"line {node.lineno}"
            assert (node.attr, getattr(node.value, "id", "")) != ("cache", "functools"), f"line {node.lineno}"
        if isinstance(node, ast.keyword):
            assert node.arg not in ("strict", "kw_only", "slots"), f"line {node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
            assert not any(isinstance(each, ast.BinOp) for each in node.args), f"line {node.lineno}"


def test_sequences_of_other_lengths_are_not_zipped() -> None:
    assert list(zip_equal([1, 2], "ab")) == [(1, "a"), (2, "b")]
    with pytest.raises(ValueError, match="3 and 2"):
        zip_equal([1, 2, 3], "ab")
