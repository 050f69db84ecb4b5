"""Stand-ins for containers that an archive names and this process does not know.

The classes belong to packages (transformers' `ModelOutput`) that would have to be imported, which runs their
code and may not be possible here. What an archive says about them, the names of their elements, is enough.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch.utils import _pytree as pytree


def register_containers(path: Path) -> None:
    """Make the types of containers in an archive of torch.export known to PyTorch, as dicts of elements."""
    with zipfile.ZipFile(path) as archive:
        texts = [archive.read(name) for name in archive.namelist() if name.endswith(".json")]
    for text in texts:
        for name in dict.fromkeys(_types(json.loads(text))):
            if name not in pytree.SERIALIZED_TYPE_TO_PYTHON_TYPE:
                _register(name)


def _types(record: Any) -> Iterator[str]:
    """The names of types in the structures of arguments and results, which are JSON within JSON."""
    if isinstance(record, dict):
        for key, value in record.items():
            if key in ("in_spec", "out_spec") and isinstance(value, str):
                yield from _types_of_spec(json.loads(value))
            else:
                yield from _types(value)
    elif isinstance(record, list):
        for each in record:
            yield from _types(each)


def _types_of_spec(spec: Any) -> Iterator[str]:
    if isinstance(spec, list):
        for each in spec:
            yield from _types_of_spec(each)
    elif isinstance(spec, dict):
        if isinstance(spec.get("type"), str):
            yield spec["type"]
        yield from _types_of_spec(spec.get("children_spec"))


class _Container(dict[str, Any]):
    """The elements by name, and what the archive says about the container."""

    context: Any = None


def _register(name: str) -> None:
    kind = type(name.rpartition(".")[2], (_Container,), {})

    def unflatten(values: Any, context: Any) -> Any:
        elements = list(values)
        made = kind(zip(_keys(context, len(elements)), elements, strict=True))
        made.context = context
        return made

    def flatten(container: Any) -> tuple[list[Any], Any]:
        return list(container.values()), container.context

    def flatten_with_keys(container: Any) -> tuple[list[Any], Any]:
        return [(pytree.MappingKey(key), each) for key, each in container.items()], container.context

    pytree.register_pytree_node(
        kind, flatten, unflatten, serialized_type_name=name, flatten_with_keys_fn=flatten_with_keys
    )


def _keys(context: Any, count: int) -> list[str]:
    """The names of elements: the context is a list of them, or begins with one; numbers otherwise."""
    for names in (context, context[0] if isinstance(context, list) and context else None):
        if isinstance(names, list) and len(names) == count and all(isinstance(each, str) for each in names):
            return names
    return [str(number) for number in range(count)]
