"""Writing an output so that it appears whole or not at all, and never over something else."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bridge.errors import OutputError
from bridge.formats.detect import is_converted


def check_output(path: str | Path, *, force: bool = False, source: str | Path | None = None) -> Path:
    """Whether an output may be written, found out before any work is done. Returns it as a Path.

    Raises OutputError if it exists (an empty directory does not count) and `force` is not given, if
    it is the source, or contains it or lies in it, if a directory would be replaced that is no model, or if
    the directory above it cannot be written to.
    """
    output = Path(path)
    if source is not None:
        _check_apart(output, Path(source))
    if os.path.lexists(output) and not _is_empty_directory(output):
        if not force:
            raise OutputError(
                "the output exists already",
                hint="choose another -o, or replace it with --force",
                where=str(path),
            )
        if output.is_dir() and not output.is_symlink() and not _is_model_directory(output):
            raise OutputError(
                "the output is a directory that holds something other than a converted model",
                hint="choose another -o; --force replaces only a model's directory",
                where=str(path),
            )
    parent = _nearest_directory(output.parent)
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{parent} cannot be written to",
            hint="choose another -o, or change its permissions",
            where=str(path),
        )
    return output


@contextmanager
def atomic_output(path: str | Path, *, force: bool = False) -> Iterator[Path]:
    """A temporary path beside the output to write to, a file or a directory; renamed when all went well.

    On any exception, an interrupt included, what was written is removed and an older output is
    untouched. The name ends like the output's, so a saver may look at the suffix. Raises OutputError
    as `check_output` does, and if writing or renaming fails.
    """
    output = check_output(path, force=force)
    made = _make_parents(output.absolute().parent)
    committed = False
    workplace: Path | None = None
    try:
        workplace = Path(tempfile.mkdtemp(prefix=".bridge-", dir=output.absolute().parent))
        temporary = workplace / output.name
        yield temporary
        _replace(temporary, output, workplace)
        committed = True
    except OSError as error:
        raise OutputError(
            f"the output cannot be written: {error.strerror or error}",
            hint="check the free space and the permissions of the directory",
            where=str(path),
        ) from error
    finally:
        if workplace is not None:
            shutil.rmtree(workplace, ignore_errors=True)
        if not committed:
            for directory in made:
                _remove_if_empty(directory)


def _replace(temporary: Path, output: Path, workplace: Path) -> None:
    """Move the new output into place; the old one is moved aside first where one rename cannot do both."""
    if output.is_dir() and not output.is_symlink():
        old = workplace / "replaced"
        output.rename(old)
        try:
            temporary.rename(output)
        except OSError:
            old.rename(output)
            raise
    elif temporary.is_dir() and output.is_file():
        output.unlink()
        temporary.rename(output)
    else:
        temporary.replace(output)


def _check_apart(output: Path, source: Path) -> None:
    where, origin = output.resolve(), source.resolve()
    if where == origin or where in origin.parents or (origin.is_dir() and origin in where.parents):
        raise OutputError(
            "the output and the source would overlap", hint="choose another -o", where=str(output)
        )


def _is_empty_directory(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _is_model_directory(path: Path) -> bool:
    if is_converted(path) or (path / "saved_model.pb").is_file():
        return True
    return [each.name for each in path.iterdir()] == ["model.pt2"]


def _nearest_directory(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _make_parents(directory: Path) -> list[Path]:
    """Create a directory and those above it; returns what was created, deepest first."""
    missing = []
    level = directory
    while not level.exists():
        missing.append(level)
        level = level.parent
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"the directory cannot be made: {error.strerror}", hint="choose another -o", where=str(directory)
        ) from error
    return missing


def _remove_if_empty(directory: Path) -> None:
    if _is_empty_directory(directory):
        directory.rmdir()
