"""What the inputs and outputs of a program are called, and how nested ones are flattened."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import ConstantArgument
from torch.utils import _pytree as pytree


def unique(name: str, taken: Iterable[str]) -> str:
    """The name itself, or with the first suffix `_1`, `_2`, ... that makes it new."""
    taken = set(taken)
    candidate, number = name, 0
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def input_names(program: ExportedProgram) -> tuple[str, ...]:
    """The names of a program's tensor inputs, in order: the parameters of forward.

    An element of a nested input is called by its path: `batch_image` for `batch["image"]`.
    """
    leaves = input_leaves(program)
    args, kwargs = pytree.tree_unflatten(list(range(len(leaves))), program.call_spec.in_spec)
    parameters = _parameters(program)
    if parameters is None or len(parameters) != len(args) + len(kwargs):
        parameters = [*(f"input_{position}" for position in range(len(args))), *kwargs]
    paths = {index: name for name, index in argument_leaves(args, kwargs, parameters)}
    names: list[str] = []
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, ConstantArgument):
            names.append(unique(paths[index], names))
    return tuple(names)


def argument_leaves(
    args: Sequence[Any], kwargs: Mapping[str, Any], parameters: Sequence[str]
) -> list[tuple[str, Any]]:
    """The leaves of a call's arguments, each called by its path: the parameter, then the keys within.

    `parameters` has a name for each of `args`, then for each of `kwargs`.
    """
    return [
        ("_".join([name, *path]), leaf)
        for name, value in zip(parameters, [*args, *kwargs.values()], strict=True)
        for path, leaf in _walk(value)
    ]


def parameter_names(
    parameters: Sequence[inspect.Parameter], count: int, keywords: Iterable[str]
) -> list[str]:
    """What `count` positional arguments and the keyword arguments are called: as torch.export does it."""
    names: list[str] = []
    for parameter in parameters:
        if len(names) == count:
            break
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{index}" for index in range(count - len(names))]
        elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            names.append(parameter.name)
    return [*names, *keywords]


def output_names(program: ExportedProgram) -> tuple[str, ...]:
    """The names of a program's tensor outputs, in order.

    A single tensor is `output`; the elements of a dict or dataclass have their keys, the elements of a
    tuple or list are `output_0`, `output_1`, ...; deeper nesting joins the keys by `_`. An output that
    would be called like an input is called `output_<name>`.
    """
    leaves = output_leaves(program)
    paths = _output_paths(program, len(leaves))
    inputs = input_names(program)
    names: list[str] = []
    for index, leaf in enumerate(leaves):
        if not isinstance(leaf, ConstantArgument):
            name = paths[index]
            names.append(unique(f"output_{name}" if name in inputs else name, [*names, *inputs]))
    return tuple(names)


def left_out_outputs(program: ExportedProgram) -> tuple[str, ...]:
    """The names of outputs that are no tensors (None, numbers), which the hub cannot hold."""
    leaves = output_leaves(program)
    paths = _output_paths(program, len(leaves))
    return tuple(paths[index] for index, leaf in enumerate(leaves) if isinstance(leaf, ConstantArgument))


def structure(program: ExportedProgram) -> dict[str, Any]:
    """How nested inputs and outputs were flattened, as JSON: `{"inputs": [...], "outputs": ...}`.

    Tuples and lists are lists, dicts and dataclasses objects, tensors the names of the hub's inputs
    and outputs, anything else null.
    """
    inputs = iter(input_names(program))
    outputs = iter(output_names(program))
    named_inputs = [
        None if isinstance(each, ConstantArgument) else next(inputs) for each in input_leaves(program)
    ]
    named_outputs = [
        None if isinstance(each, ConstantArgument) else next(outputs) for each in output_leaves(program)
    ]
    args, kwargs = pytree.tree_unflatten(named_inputs, program.call_spec.in_spec)
    result = pytree.tree_unflatten(named_outputs, program.call_spec.out_spec)
    return {
        "inputs": [_plain(each) for each in args],
        "keyword_inputs": {name: _plain(each) for name, each in kwargs.items()},
        "outputs": _plain(result),
    }


def input_leaves(program: ExportedProgram) -> list[Any]:
    """The arguments of a program as its signature records them, flat: tensors by name, constants by value."""
    kind = torch.export.graph_signature.InputKind.USER_INPUT
    return [spec.arg for spec in program.graph_signature.input_specs if spec.kind == kind]


def output_leaves(program: ExportedProgram) -> list[Any]:
    """The results of a program as its signature records them, flat."""
    kind = torch.export.graph_signature.OutputKind.USER_OUTPUT
    return [spec.arg for spec in program.graph_signature.output_specs if spec.kind == kind]


def _parameters(program: ExportedProgram) -> list[str] | None:
    for entry in program.module_call_graph:
        if entry.fqn == "" and entry.signature is not None:
            found: list[str] | None = entry.signature.forward_arg_names
            return found
    return None


def _walk(tree: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of a nested structure in torch's order, each with its path of keys."""
    if pytree.tree_is_leaf(tree):
        yield path, tree
        return
    for key, child in _children(tree):
        yield from _walk(child, (*path, key))


def _children(tree: Any) -> list[tuple[str, Any]]:
    """The elements of one level with their keys; the positions where the type has no keys."""
    try:
        found, _ = pytree.tree_flatten_with_path(tree, is_leaf=lambda each: each is not tree)
    except ValueError:
        leaves = pytree.tree_leaves(tree, is_leaf=lambda each: each is not tree)
        return [(str(position), leaf) for position, leaf in enumerate(leaves)]
    return [(_key(path[0]), child) for path, child in found]


def _key(entry: Any) -> str:
    """One step of a pytree path as text."""
    match entry:
        case pytree.MappingKey(key=key):
            return str(key)
        case pytree.GetAttrKey(name=name):
            return str(name)
        case pytree.SequenceKey(idx=index):
            return str(index)
    raise TypeError(f"unknown step {entry!r} in a nested input or output")


def _output_paths(program: ExportedProgram, count: int) -> list[str]:
    """The name of every output, tensors and others, in order."""
    tree = pytree.tree_unflatten(list(range(count)), program.call_spec.out_spec)
    return [_output_name(path) for path, _ in _walk(tree)]


def _output_name(path: tuple[str, ...]) -> str:
    if not path:
        return "output"
    return "_".join(["output", *path] if path[0].isdigit() else path)


def _plain(tree: Any) -> Any:
    """A nested structure of names as JSON values."""
    if pytree.tree_is_leaf(tree):
        return tree
    children = _children(tree)
    if all(key == str(position) for position, (key, _) in enumerate(children)):
        return [_plain(child) for _, child in children]
    return {key: _plain(child) for key, child in children}
