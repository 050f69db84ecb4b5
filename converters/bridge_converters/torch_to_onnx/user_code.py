"""Finding the user's own code: importing factories, and the source line behind an exception or a node."""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from torch import fx

import bridge
import bridge_converters
from bridge.errors import InputError
from bridge_converters.torch_to_onnx.torchvision_compat import declare_missing_operators

SOURCE_ANNOTATION = "bridge_source_line"
"""Key of a node's annotations under which bridge records a source line that torch.export cannot see."""

_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')
_LIBRARY = re.compile(r"(^|/)(site|dist)-packages/(?P<inside>.*)$")
_STANDARD_LIBRARY = re.compile(r"(^|/)lib/python3(\.\d+)?/", re.IGNORECASE)
_NOT_THE_USERS = ("torch/", "onnxscript/", "onnx_ir/")
_BRIDGE = tuple(
    f"{os.path.dirname(package.__file__ or '')}{os.sep}".replace(os.sep, "/")
    for package in (bridge, bridge_converters)
)


@contextmanager
def current_directory_importable() -> Iterator[None]:
    """Let modules in the current directory be imported, as `python -m` does."""
    declare_missing_operators()
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        yield
    finally:
        if added and here in sys.path:
            sys.path.remove(here)


def import_module(name: str, *, flag: str) -> ModuleType:
    """Import a module that the user named on the command line; `flag` is the option for messages.

    Raises InputError if it does not exist or fails while it is imported.
    """
    with current_directory_importable():
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                raise InputError(
                    f"there is no module {error.name!r} for {flag} {name}",
                    hint=f"run bridge from the directory that holds {error.name.split('.')[0]}.py, "
                    "or install the package",
                ) from error
            raise _broken(name, flag, error) from error
        except Exception as error:  # the module is the user's and may raise anything
            raise _broken(name, flag, error) from error


def _broken(name: str, flag: str, error: Exception) -> InputError:
    return InputError(
        f"importing {name} for {flag} failed: {first_line(error)}",
        hint=f"try python -c 'import {name}' in the same directory",
        where=source_line(error),
    )


def resolve(text: str, *, flag: str) -> Any:
    """The object that `pkg.mod:name` means (a dotted name after the colon is looked up by steps).

    Raises InputError if the text has another form or the object does not exist.
    """
    module_name, colon, attribute = text.partition(":")
    if not colon or not module_name or not attribute:
        raise InputError(
            f"{text!r} does not name an object in a module",
            hint=f"write {flag} package.module:name, for example {flag} my_project.models:build",
        )
    found: Any = import_module(module_name, flag=flag)
    for step in attribute.split("."):
        try:
            found = getattr(found, step)
        except AttributeError as error:
            public = [name for name in vars(found) if not name.startswith("_")][:8]
            raise InputError(
                f"{module_name} has no {attribute!r}",
                hint=f"it defines {', '.join(public)}" if public else None,
            ) from error
    return found


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, without a full stop; its class name if it has no text."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text.rstrip(".:")


def source_line(error: BaseException) -> str | None:
    """`net.py:11`, the innermost line of the user's own code that an exception passed through."""
    chain: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in chain:
        chain.append(each)
        each = each.__cause__ or each.__context__
    for link in reversed(chain):
        noted = location_in_trace("\n".join(getattr(link, "__notes__", ())))
        if noted is not None:
            return noted
        frames = traceback.extract_tb(link.__traceback__)
        found = innermost((frame.filename, frame.lineno or 0) for frame in frames)
        if found is not None:
            return found
    return None


def location_in_trace(trace: str | None) -> str | None:
    """`net.py:11`, the innermost line of the user's own code in a printed stack (outermost first)."""
    if not trace:
        return None
    return innermost((match["file"], int(match["line"])) for match in _FRAME.finditer(trace))


def location_of_node(node: fx.Node) -> str | None:
    """`net.py:11`, the line of the user's own code that made a node of a program, where known."""
    annotated: str | None = (node.meta.get("custom") or {}).get(SOURCE_ANNOTATION)
    return annotated or location_in_trace(node.stack_trace)


def innermost(frames: Iterator[tuple[str, int]]) -> str | None:
    """The last of (file, line) frames that is neither PyTorch's, Python's nor bridge's."""
    found = None
    for file, line in frames:
        name = _users_file(file)
        if name is not None:
            found = f"{name}:{line}"
    return found


def _users_file(file: str) -> str | None:
    """A file's name that depends on no machine or directory; None for a file that is not the user's.

    A file of an installed package is named from the package on, any other by its last part.
    """
    file = file.replace(os.sep, "/")
    library = _LIBRARY.search(file)
    if library is not None:
        inside = library["inside"]
        return None if inside.startswith(_NOT_THE_USERS) else inside
    if file.startswith(("<", *_NOT_THE_USERS, *_BRIDGE)) or _STANDARD_LIBRARY.search(file):
        return None
    return file.rsplit("/", 1)[-1]
