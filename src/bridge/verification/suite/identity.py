"""What the result of a pair depends on, as one hash: equal hashes, equal results."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bridge.verification.suite.file import Pair
from bridge.worker.named_files import named_files

_PACKAGES = (
    "bridge-ml",
    "keras",
    "ml_dtypes",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "tensorflow",
    "torch",
)
_WRITTEN = frozenset({"repro"})
"""Options whose paths are written, not read."""
_INTERPRETERS = frozenset({"source_python", "target_python"})
"""Options that name another Python, for which the versions of its packages stand."""
_CHUNK = 1 << 20


def identity(pair: Pair, directory: Path) -> str:
    """The SHA-256 of all files that a pair names, its options, and the versions of what runs it.

    Every option that names an existing file or directory counts with its content, and a Python reference
    (`pkg.mod:build`) with the source of the module and of all of the user's own that it imports.
    """
    record = {
        "source": pair.source,
        "target": pair.target,
        "options": pair.options,
        "files": file_hashes(pair, directory),
        "interpreters": {
            option: _installed(directory / str(pair.options[option]))
            for option in sorted(_INTERPRETERS & set(pair.options))
        },
        "versions": _versions(),
    }
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def file_hashes(pair: Pair, directory: Path) -> dict[str, str]:
    """The SHA-256 of every file that a pair depends on, by its path."""
    named = [pair.source, pair.target]
    for option, value in pair.options.items():
        if option not in _WRITTEN | _INTERPRETERS:
            named += _texts(value)
    return {
        os.path.relpath(file, directory): _hash(file)
        for file in sorted({file for text in named for file in named_files(text, directory)})
    }


def model_hash(version: str, directory: Path) -> str | None:
    """One SHA-256 for all files of a version of a model; None where it has none."""
    files = sorted(set(named_files(version, directory)))
    if not files:
        return None
    hashes = [[os.path.relpath(file, directory), _hash(file)] for file in files]
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, Sequence):
        for each in value:
            yield from _texts(each)


def _installed(interpreter: Path) -> list[str]:
    """The packages of a virtual environment, by its directory or its program."""
    roots = [interpreter, interpreter.parent.parent] if interpreter.exists() else []
    return sorted(
        found.name for root in roots for found in root.glob("lib/python*/site-packages/*.dist-info")
    )


def _hash(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine(), "source": _own_source()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = ""
    return found


def _own_source() -> str:
    """A hash of bridge's own code: an installation that is being edited keeps its version."""
    digest = hashlib.sha256()
    import bridge

    roots = [Path(bridge.__file__).parent]
    for entry in sys.path:
        converters = Path(entry or ".", "bridge_converters")
        if converters.is_dir():
            roots.append(converters)
            break
    for file in sorted(file for root in roots for file in root.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()
