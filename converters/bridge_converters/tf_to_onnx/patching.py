"""Attributes that stand in for others for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let `owner.name` be `value` inside the block. Raises AttributeError where `owner` defines none."""
    if name not in vars(owner):
        raise AttributeError(f"{owner!r} defines no {name!r}")
    original = vars(owner)[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)
