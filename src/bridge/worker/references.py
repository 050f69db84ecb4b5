"""Python objects that the user names on the command line: `pkg.mod:function`.

This imports no framework by itself: which one a user's module needs is the user's business.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from bridge.errors import InputError

_REFERENCE = re.compile(r"^(?P<module>[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<name>[^\W\d]\w*(?:\.[^\W\d]\w*)*)$")


def is_reference(text: str) -> bool:
    """Whether a text names a Python object, `pkg.mod:name`, and not an existing path."""
    return _REFERENCE.match(text) is not None and not Path(text).exists()


def resolve_reference(text: str) -> Any:
    """Import what `pkg.mod:name` means; modules in the current directory can be named too.

    Raises InputError where there is no such module or name, and where the import fails.
    """
    match = _REFERENCE.match(text)
    if match is None:
        raise InputError(
            f"{text!r} names no Python object", hint="write package.module:function, as in zoo.nets:build"
        )
    found = resolve_module(match["module"], text)
    for step in match["name"].split("."):
        if not hasattr(found, step):
            names = sorted(name for name in dir(found) if not name.startswith("_"))
            raise InputError(
                f"{match['module']} has no {match['name']!r}",
                hint=f"it has {', '.join(names[:8])}" if names else "check the name",
                where=text,
            )
        found = getattr(found, step)
    return found


def resolve_module(name: str, text: str | None = None) -> Any:
    """Import a module that the user names, perhaps within a longer `text`.

    Raises InputError where there is none, and where the import fails.
    """
    text = text or name
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise InputError(
                f"there is no module {error.name!r}",
                hint=f"run bridge from the directory that holds {name.split('.')[0]}.py, or install it",
                where=text,
            ) from error
        raise failed(f"importing {name}", error, text) from error
    except Exception as error:  # the module is the user's and may raise anything
        raise failed(f"importing {name}", error, text) from error


def failed(what: str, error: Exception, text: str) -> InputError:
    """The error for code of the user that raised one: what it was doing, and the line."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else text
    first = (str(error).strip().splitlines() or [""])[0]
    return InputError(
        f"{what} failed: {type(error).__name__}: {first}",
        hint=f"try python -c 'import {text.partition(':')[0]}' in the same directory",
        where=where,
    )
