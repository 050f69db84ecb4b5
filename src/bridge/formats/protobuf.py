"""Protocol-buffer messages seen from outside: the fields of one level, without parsing what is in them.

Enough to tell an ONNX file from a TensorFlow graph without loading either
(https://protobuf.dev/programming-guides/encoding/).
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

Buffer = mmap.mmap | bytes


class WireError(ValueError):
    """The bytes are not a complete protocol-buffer message."""


class Field(NamedTuple):
    """One field: its number, and where its bytes start and end; None for a number."""

    number: int
    payload: tuple[int, int] | None


@contextmanager
def mapped(path: Path) -> Iterator[Buffer]:
    """A file as read-only bytes without reading it into memory."""
    with path.open("rb") as stream:
        if path.stat().st_size == 0:
            yield b""
            return
        with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def fields(data: Buffer, start: int = 0, stop: int | None = None) -> Iterator[Field]:
    """The fields of the message in `data[start:stop]`, in order. Raises WireError where it is damaged."""
    end = len(data) if stop is None else stop
    position = start
    while position < end:
        key, position = _varint(data, position, end)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise WireError(f"field number 0 at {position}")
        payload = None
        if wire == 0:
            _, position = _varint(data, position, end)
        elif wire == 2:
            length, position = _varint(data, position, end)
            payload = (position, position + length)
            position += length
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        else:
            raise WireError(f"wire type {wire} at {position}")
        if position > end:
            raise WireError("a field goes past the end")
        yield Field(number, payload)


def _varint(data: Buffer, position: int, end: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= end:
            raise WireError("the message ends inside a number")
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError(f"a number of more than ten bytes at {position}")
