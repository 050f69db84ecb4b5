"""Example inputs: from the user's specifications, example files, arrays and tensors."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from torch.utils import _pytree as pytree

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge_converters.torch_to_onnx.names import argument_leaves, parameter_names
from bridge_converters.torch_to_onnx.structures import plain

Arguments = tuple[tuple[Any, ...], dict[str, Any]]

_SEED = 20
_BATCH = 2
_IMAGE_SIDE = 64
_LENGTH = 16
_SAMPLES = 4096
_CONSTANTS = (type(None), bool, int, float)


@dataclass(frozen=True)
class Examples:
    """Arguments to call a module with: nested tensors, the batch as the user gave it.

    `axes` names the dynamic axes the user asked for: by position of the tensor among all tensors, then
    by axis. `stated` are the positions of the tensors whose axes the user described: no other axis of
    theirs but the batch is dynamic. `invented`: the values are not the user's, and integers among them 0.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[int, Mapping[int, str]] = field(default_factory=dict)
    stated: frozenset[int] = frozenset()
    invented: bool = False

    def tensors(self) -> list[torch.Tensor]:
        """The tensors in the order in which torch.export flattens them."""
        leaves = pytree.tree_leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]

    def with_batch(self) -> Examples:
        """The same with two samples along axis 0 wherever there is one.

        torch.export takes a size of 1 as a constant of the model, so that a batch of 1 would be fixed.
        """

        def repeat(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.ndim == 0 or tensor.shape[0] != 1:
                return tensor
            return tensor.repeat(_BATCH, *([1] * (tensor.ndim - 1)))

        args, kwargs = pytree.tree_map_only(torch.Tensor, repeat, (self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs)

    def with_ones(self) -> Examples:
        """The same with integers of 1: lengths of sequences may not be 0."""

        def filled(tensor: torch.Tensor) -> torch.Tensor:
            return tensor if tensor.is_floating_point() else torch.ones_like(tensor)

        args, kwargs = pytree.tree_map_only(torch.Tensor, filled, (self.args, dict(self.kwargs)))
        return replace(self, args=args, kwargs=kwargs)

    def arguments(self, tensors: Sequence[torch.Tensor]) -> Arguments:
        """The arguments with other tensors in place of these, in the order of `tensors()`."""
        rest = iter(tensors)
        args, kwargs = pytree.tree_map_only(
            torch.Tensor, lambda _: next(rest), (self.args, dict(self.kwargs))
        )
        return args, kwargs


def from_specs(specs: Sequence[InputSpec], parameters: Sequence[inspect.Parameter]) -> Examples:
    """Random (floating point) or zero (other) examples for input specifications.

    `parameters` are those of the module's forward. A specification without a name takes the next
    free parameter. A named axis gets a size that most models accept and the same wherever it occurs.
    Raises InputError for a name that forward does not have and a dtype that torch does not have.
    """
    sizes: dict[str, int] = {}
    tensors: dict[str, torch.Tensor] = {}
    axes: dict[str, dict[int, str]] = {}
    generator = torch.Generator().manual_seed(_SEED)
    assigned = _assign(specs, parameters)
    for spec in assigned.values():
        for position, axis in enumerate(spec.shape):
            if isinstance(axis, str):
                sizes[axis] = max(sizes.get(axis, 0), _size(position, spec))
    for name, spec in assigned.items():
        shape = [axis if isinstance(axis, int) else sizes[axis] for axis in spec.shape]
        tensors[name] = _example(shape, spec.dtype, generator)
        axes[name] = {position: axis for position, axis in enumerate(spec.shape) if isinstance(axis, str)}
    return replace(_arrange(tensors, axes, parameters), invented=True)


def from_file(
    path: str, parameters: Sequence[inspect.Parameter], specs: Sequence[InputSpec] = ()
) -> Examples:
    """Examples from an `.npz` or `.safetensors` file whose arrays are called like forward's parameters.

    The arrays `arr_0`, `arr_1`, ... of `numpy.savez` are positional. `specs` say which axes are dynamic
    (see `with_axes`). Raises InputError for a file of another kind, one that holds Python objects, and
    names that do not fit.
    """
    arrays = _load_arrays(Path(path))
    names = [parameter.name for parameter in parameters]
    if len(arrays) == 1 or all(name == f"arr_{i}" for i, name in enumerate(arrays)):
        if len(arrays) > len(names):
            raise InputError(
                f"{path} holds {len(arrays)} arrays, but the model takes {len(names)} inputs",
                hint=f"the inputs are {', '.join(names)}",
            )
        if not (len(arrays) == 1 and next(iter(arrays)) in names):
            arrays = dict(zip(names, arrays.values(), strict=False))
    unknown = [name for name in arrays if name not in names]
    if unknown:
        raise InputError(
            f"{path} holds {', '.join(map(repr, unknown))}, but the model has no input of that name",
            hint=f"name the arrays like the model's inputs: {', '.join(names)}",
        )
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return with_axes(_arrange(tensors, {}, parameters), specs, parameters)


def from_values(
    inputs: Any, parameters: Sequence[inspect.Parameter], specs: Sequence[InputSpec] = ()
) -> Examples:
    """Examples from what a Python caller passes.

    A tensor, array or specification is the only input; a tuple or list holds positional inputs; a dict
    holds inputs by the names of forward's parameters. Elements are tensors, arrays, InputSpecs,
    strings such as `"1x3x224x224"`, nested structures of tensors, or plain Python values, which become
    constants of the program. `specs` say which axes of tensors are dynamic (see `with_axes`). Raises
    InputError for names that forward does not have.
    """
    positional: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    if isinstance(inputs, Mapping):
        named = dict(inputs)
    else:
        positional = tuple(inputs) if type(inputs) in (tuple, list) else (inputs,)
    _check_names(named, parameters)
    described = [_as_spec(each, None) for each in positional]
    described += [_as_spec(each, name) for name, each in named.items()]
    given = [spec for spec in described if spec is not None]
    if given and len(given) == len(described):
        return from_specs(given, parameters)
    if given:
        names = parameter_names(parameters, len(positional), named)
        return _beside_constants(
            dict(zip(names, (*positional, *named.values()), strict=False)), described, parameters
        )
    args, kwargs = pytree.tree_map(_as_tensor, (positional, named))
    return with_axes(Examples(args, kwargs), specs, parameters)


def named_arrays(
    inputs: Any, parameters: Sequence[inspect.Parameter]
) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """The arrays in what a Python caller passes (see `from_values`), by the names of the program's inputs.

    Raises InputError for names that forward does not have.
    """
    examples = from_values(inputs, parameters)
    args, kwargs = plain((examples.args, dict(examples.kwargs)))
    names, leaves = _leaves(Examples(args, kwargs), parameters)
    return {name: _as_array(leaf) for name, leaf in zip(names, leaves, strict=True)}


def with_axes(
    examples: Examples, specs: Sequence[InputSpec], parameters: Sequence[inspect.Parameter]
) -> Examples:
    """Examples with axes that are dynamic or not as specifications say: a word names one, a number fixes it.

    A specification without a name is for the tensor at its position; an element of a nested input is
    called by its path (`batch_image`). Axis 0 is dynamic either way. Raises InputError for a name that no
    input has and for another shape than the example's.
    """
    if not specs:
        return examples
    names, tensors = _leaves(examples, parameters)
    axes: dict[int, dict[int, str]] = {}
    for number, spec in enumerate(specs):
        if (spec.name is None and number >= len(names)) or (spec.name is not None and spec.name not in names):
            wanted = f"input {spec.name!r}" if spec.name is not None else f"input number {number + 1}"
            raise InputError(
                f"the axes of {wanted} are given, but the example inputs are {', '.join(names)}",
                hint="name one of them: NAME=NxT, a word for a dynamic axis and a number for a fixed one",
            )
        position = number if spec.name is None else names.index(spec.name)
        shape = tensors[position].shape
        if len(spec.shape) != len(shape) or any(
            isinstance(asked, int) and axis > 0 and asked != shape[axis]
            for axis, asked in enumerate(spec.shape)
        ):
            raise InputError(
                f"the axes {'x'.join(map(str, spec.shape))} do not fit the example of {names[position]!r}, "
                f"which is {'x'.join(map(str, shape)) or 'a scalar'}",
                hint="give one word or number for each axis; a number is the example's own size",
            )
        axes[position] = {axis: asked for axis, asked in enumerate(spec.shape) if isinstance(asked, str)}
    return replace(examples, axes=axes, stated=frozenset(axes))


def _leaves(
    examples: Examples, parameters: Sequence[inspect.Parameter]
) -> tuple[list[str], list[torch.Tensor]]:
    """The tensors of examples and what torch.export calls them."""
    keywords = parameter_names(parameters, len(examples.args), examples.kwargs)
    leaves = argument_leaves(examples.args, examples.kwargs, keywords)
    found = [(name, leaf) for name, leaf in leaves if isinstance(leaf, torch.Tensor)]
    return [name for name, _ in found], [leaf for _, leaf in found]


def forward_parameters(forward: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters of a module's forward, without self."""
    return list(inspect.signature(forward).parameters.values())


def _check_names(named: Mapping[str, Any], parameters: Sequence[inspect.Parameter]) -> None:
    known = {parameter.name for parameter in parameters}
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters)
    unknown = [name for name in named if name not in known and not takes_any]
    if unknown:
        raise InputError(
            f"forward has no parameter {', '.join(map(repr, unknown))}",
            hint=f"its parameters are {', '.join(parameter.name for parameter in parameters)}",
        )


def _beside_constants(
    inputs: Mapping[str, Any], specs: Sequence[InputSpec | None], parameters: Sequence[inspect.Parameter]
) -> Examples:
    """Examples from specifications with constants of the program beside them, by the parameters' names."""
    described = zip(inputs.items(), specs, strict=False)
    named = {name: (value, spec) for (name, value), spec in described}
    if any(spec is None and not isinstance(value, _CONSTANTS) for value, spec in named.values()):
        raise InputError(
            "inputs mix specifications such as '1x3x224x224' with values",
            hint="give all inputs as arrays or tensors, or all as specifications; dynamic_axes says which "
            "axes of arrays are dynamic",
        )
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    found = from_specs(
        [replace(spec, name=name) for name, (_, spec) in named.items() if spec is not None], keywords
    )
    constants = {name: value for name, (value, spec) in named.items() if spec is None}
    return replace(found, kwargs={**found.kwargs, **constants})


def _assign(specs: Sequence[InputSpec], parameters: Sequence[inspect.Parameter]) -> dict[str, InputSpec]:
    names = [
        parameter.name
        for parameter in parameters
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    open_ended = len(names) < len(parameters)
    assigned: dict[str, InputSpec] = {}
    for spec in specs:
        if spec.name is not None:
            if spec.name not in names and not open_ended:
                raise InputError(
                    f"the model has no input {spec.name!r}",
                    hint=f"its inputs are {', '.join(names)}" if names else None,
                )
            assigned[spec.name] = spec
    free = [name for name in names if name not in assigned]
    unnamed = [spec for spec in specs if spec.name is None]
    if len(unnamed) > len(free) and not open_ended:
        raise InputError(
            f"{len(specs)} inputs were given, but the model takes {len(names)}",
            hint=f"its inputs are {', '.join(names)}" if names else None,
        )
    free.extend(f"*{index}" for index in range(len(unnamed) - len(free)))
    assigned.update(zip(free, unnamed, strict=False))
    return assigned


def _arrange(
    tensors: Mapping[str, torch.Tensor],
    axes: Mapping[str, Mapping[int, str]],
    parameters: Sequence[inspect.Parameter],
) -> Examples:
    """Put named tensors in the order of forward's parameters: positional until one is left out."""
    args: list[torch.Tensor] = []
    order: list[str] = []
    known = [parameter.name for parameter in parameters if parameter.name in tensors]
    rest = {name: tensors[name] for name in [*known, *(name for name in tensors if name not in known)]}
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            for name in [name for name in rest if name.startswith("*")]:
                order.append(name)
                args.append(rest.pop(name))
            break
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY or parameter.name not in rest:
            break
        order.append(parameter.name)
        args.append(rest.pop(parameter.name))
    order.extend(rest)
    named_axes = {position: axes[name] for position, name in enumerate(order) if axes.get(name)}
    stated = frozenset(position for position, name in enumerate(order) if name in axes)
    return Examples(tuple(args), rest, named_axes, stated)


def _size(position: int, spec: InputSpec) -> int:
    """An example size for a dynamic axis: distinct from the batch, and large enough for the usual networks.

    Numbers along one free axis are samples of sound, of which networks make a frame from hundreds.
    """
    if position == 0:
        return _BATCH
    if len(spec.shape) == 2 and spec.dtype.startswith("float"):
        return _SAMPLES
    return _IMAGE_SIDE if len(spec.shape) >= 4 else _LENGTH


def _example(shape: Sequence[int], dtype: str, generator: torch.Generator) -> torch.Tensor:
    torch_dtype = getattr(torch, dtype, None)
    if not isinstance(torch_dtype, torch.dtype):
        raise InputError(f"{dtype!r} is not a dtype", hint="use float32, int64, bool, ...")
    if torch_dtype.is_floating_point:
        return torch.randn(*shape, generator=generator).to(torch_dtype)
    return torch.zeros(*shape, dtype=torch_dtype)


def _load_arrays(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.numpy import load_file

            return dict(load_file(path))
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(
                    f"{path} is not an .npz file", hint="write it with numpy.savez(path, x=array)"
                )
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot read example inputs from {path}: {error}",
            hint="write them with numpy.savez(path, name=array) or safetensors.numpy.save_file",
        ) from error


def _as_spec(value: Any, name: str | None) -> InputSpec | None:
    """A specification with the name under which it was passed; None for any other value."""
    if isinstance(value, str):
        value = InputSpec.parse(value)
    if not isinstance(value, InputSpec):
        return None
    return InputSpec(value.shape, value.dtype, name or value.name)


def _as_array(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[Any]]:
    if tensor.dtype == torch.bfloat16:
        return tensor.cpu().contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.cpu().numpy()


def _as_tensor(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, np.ndarray | np.generic):
        return torch.from_numpy(np.ascontiguousarray(value).copy().reshape(value.shape))
    return value
