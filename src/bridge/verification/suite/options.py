"""The options of a pair in a suite file: those of `bridge.verify`, with the types that TOML has."""

from __future__ import annotations

import difflib
import inspect
import types
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from bridge.errors import InputError

_NOT_OPTIONS = frozenset({"source", "target", "on_progress"})
_PLACES = {"name": str, "source": str, "target": str}
OWN: Mapping[str, Any] = {"depends": Sequence[str]}
"""What a suite adds: files and directories beside the models whose change makes a pair run again."""


@cache
def known_options() -> Mapping[str, Any]:
    """The type of every option by its name; whatever `bridge.verify` takes is one."""
    from bridge import api

    # Names that are only imported for type checkers belong to parameters that are no options.
    hints = get_type_hints(api.verify, localns={"Report": Any})
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(api.verify).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            (record,) = get_args(hints[name])
            found.update(get_type_hints(record))
        elif name not in _NOT_OPTIONS:
            found[name] = hints[name]
    return {**found, **OWN}


def wrong_key(name: str, *, in_pair: bool) -> str | None:
    """What is wrong with a key of a table, None if nothing."""
    known = [*(_PLACES if in_pair else ()), *known_options()]
    if name in known:
        return None
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1, cutoff=0.55)
    if not in_pair and name in _PLACES:
        return f"{name} belongs into a [[pair]]"
    more = f": did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"
    return f"there is no option {name}{more}"


def wrong_value(name: str, value: Any) -> str | None:
    """What is wrong with the value of a known key, None if nothing that shows before the models are read."""
    hint = _PLACES.get(name) or known_options()[name]
    if not _fits(hint, value, name):
        return f"{name} is {_described(hint, name)}, not {_kind(value)}"
    if name in _PLACES and not value.strip():
        return f"{name} is empty"
    try:
        _check(name, value)
    except InputError as error:
        return f"{name}: {error.message}" + (f" ({error.hint})" if error.hint else "")
    return None


def as_arguments(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options as keyword arguments of `bridge.verify`."""
    return {name: value for name, value in options.items() if name not in OWN}


def _check(name: str, value: Any) -> None:
    """Read what has a grammar of its own, as the verification does later. Raises InputError."""
    from bridge.verification.mapping import parse_map
    from bridge.verification.sizes import parse_shapes
    from bridge.verification.user_inputs import specifications

    if name in ("map_inputs", "map_outputs") and value:
        parse_map(value)
    elif name == "shapes":
        parse_shapes([value] if isinstance(value, str) else value)
    elif name == "inputs":
        specifications(value)
    elif name in ("threads", "batches") and any(each < 1 for each in _several(value)):
        raise InputError("it has to be at least 1")
    elif name in ("training", "seed") and value < 0:
        raise InputError("it may not be negative")
    elif name == "timeout" and value <= 0:
        raise InputError("it has to be more than 0 seconds")


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _fits(hint: Any, value: Any, name: str) -> bool:
    """Whether a TOML value can be given for a parameter of a type; bool is no number here."""
    if name == "inputs":
        return isinstance(value, str) or (
            isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)
        )
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(each, value, name) for each in get_args(hint))
    if origin is Literal:
        return value in get_args(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, dict)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        (element,) = get_args(hint)[:1]
        return isinstance(value, list) and all(_fits(element, each, name) for each in value)
    if hint is Path:
        return isinstance(value, str)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    return isinstance(hint, type) and hint is not type(None) and isinstance(value, hint)


def _described(hint: Any, name: str) -> str:
    if name == "inputs":
        return "a text or a list of them"
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        parts = [_described(each, name) for each in get_args(hint) if each is not type(None)]
        return " or ".join(dict.fromkeys(parts))
    if origin is Literal:
        return " or ".join(f'"{each}"' for each in get_args(hint))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a table"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"a list, each {_described(get_args(hint)[0], name)}"
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text"}
    return names.get(hint, str(hint))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "a table" if isinstance(value, dict) else f"a {type(value).__name__}"
