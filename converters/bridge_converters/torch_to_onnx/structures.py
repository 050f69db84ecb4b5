"""Arguments and results of a module in terms of lists, tuples and dicts.

A `.pt2` archive can hold no other containers unless every process that opens it registers them, and
torch.export refuses those it does not know: dataclasses, the outputs and caches of transformers.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn

Rebuild = Callable[[Any], Any]
"""Makes the caller's own container of its plain form."""


def is_plain(tree: Any) -> bool:
    """Whether a structure consists of lists, tuples and dicts, down to its leaves."""
    if type(tree) in (list, tuple):
        return all(map(is_plain, tree))
    if type(tree) is dict:
        return all(map(is_plain, tree.values()))
    return _children(tree) is None


def plain(tree: Any) -> Any:
    """A structure with dicts in place of mappings, dataclasses, named tuples and objects that hold tensors.

    An object that is no container is one if tensors are among its attributes, at any depth: a dict of
    those. Attributes that hold none are left out.
    """
    children = _children(tree)
    if children is None:
        return tree
    if isinstance(children, dict):
        return {key: plain(child) for key, child in children.items()}
    return type(children)(plain(child) for child in children)


def rebuilding(tree: Any) -> Rebuild:
    """How to make a structure like this one again from its plain form with other tensors."""
    children = _children(tree)
    if children is None:
        return lambda value: value
    if isinstance(children, dict):
        parts = {key: rebuilding(child) for key, child in children.items()}
        return lambda value: _like(tree, {key: part(value[key]) for key, part in parts.items()})
    elements = [rebuilding(child) for child in children]
    kind = type(children)
    return lambda value: kind(part(each) for part, each in zip(elements, value, strict=True))


def use_plain_structures(module: nn.Module, rebuild: Rebuild | None = None) -> None:
    """Have a module return plain structures, and take them: `rebuild` makes its own arguments of them.

    `rebuild` gets and returns `(args, kwargs)`. The module's forward is replaced on the instance.
    """
    forward = module.forward

    @functools.wraps(forward)
    def with_plain_structures(*args: Any, **kwargs: Any) -> Any:
        if rebuild is not None:
            args, kwargs = rebuild((args, kwargs))
        return plain(forward(*args, **kwargs))

    module.forward = with_plain_structures


@contextmanager
def unchanged_forward(module: nn.Module) -> Iterator[None]:
    """Give a module its own forward back at the end."""
    before = module.__dict__.get("forward")
    try:
        yield
    finally:
        module.__dict__.pop("forward", None)
        if before is not None:
            module.__dict__["forward"] = before


def _children(tree: Any) -> dict[Any, Any] | list[Any] | tuple[Any, ...] | None:
    """The elements of one level; None for a leaf."""
    if tree is None or isinstance(tree, torch.Tensor | str | bytes | int | float | complex | torch.Size):
        return None
    if isinstance(tree, Mapping):
        return dict(tree)
    if isinstance(tree, tuple):
        names = getattr(tree, "_fields", None)
        return tuple(tree) if names is None else dict(zip(names, tree, strict=True))
    if isinstance(tree, list):
        return list(tree)
    if is_dataclass(tree) and not isinstance(tree, type):
        return {each.name: getattr(tree, each.name) for each in fields(tree)}
    if isinstance(tree, nn.Module | type) or callable(tree):
        return None
    attributes = vars(tree) if hasattr(tree, "__dict__") else {}
    held = {name: each for name, each in attributes.items() if _holds_tensors(each, {id(tree)})}
    return held or None


def _holds_tensors(tree: Any, above: set[int]) -> bool:
    if isinstance(tree, torch.Tensor):
        return True
    if id(tree) in above or tree is None or isinstance(tree, str | bytes | int | float | complex | nn.Module):
        return False
    inner = {*above, id(tree)}
    if isinstance(tree, Mapping):
        return any(_holds_tensors(each, inner) for each in tree.values())
    if isinstance(tree, list | tuple):
        return any(_holds_tensors(each, inner) for each in tree)
    attributes = vars(tree) if hasattr(tree, "__dict__") and not isinstance(tree, type) else {}
    return any(_holds_tensors(each, inner) for each in attributes.values())


def _like(tree: Any, children: dict[Any, Any]) -> Any:
    """A container of the type of another one, with these elements."""
    if type(tree) is dict:
        return children
    if isinstance(tree, tuple):
        return type(tree)(**children)
    made = copy.copy(tree)
    if isinstance(tree, Mapping):
        for key, child in children.items():
            made[key] = child
    else:
        for name, child in children.items():
            object.__setattr__(made, name, child)
    return made
