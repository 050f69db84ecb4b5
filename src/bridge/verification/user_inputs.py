"""Inputs that the user gives: arrays, files of arrays, or specifications of the inputs."""

from __future__ import annotations

import inspect
import itertools
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bridge.errors import InputError
from bridge.formats.request import InputSpec
from bridge.verification.inputs import Draw
from bridge.worker.references import failed, is_reference, resolve_reference
from bridge.worker.side import TensorSpec
from bridge.worker.standalone import dtype_named, read_tensors

Array = np.ndarray[Any, np.dtype[Any]]
Arrays = Mapping[str, Array] | Sequence[Array]
"""One set of inputs: by name, or by position."""
UserInputs = str | Path | Mapping[str, Any] | Sequence[Any]

_CONSTANTS = (type(None), bool, int, float)
"""What a live model may be given beside specifications; it becomes a constant of the model."""
GENERATED_SETS = 16
"""How many sets of inputs are taken from a generator, which may have no end."""


def split(inputs: UserInputs | None, seed: int = 0) -> tuple[list[InputSpec], list[Arrays]]:
    """Sort what the user gave into specifications and sets of arrays.

    A path is an `.npz` or `.safetensors` file; a mapping is one set of arrays by name; an array is the
    only input; a sequence is one set of arrays by position, or several paths, specifications (`InputSpec`,
    or text such as `1x3x224x224`) or generators (`package.module:function`, see `generated_sets`). A mapping
    may hold specifications instead of arrays, with constants of the model beside them; None is no input.
    Raises InputError on anything else.
    """
    if inputs is None:
        return [], []
    if isinstance(inputs, str | Path):
        return split([inputs], seed)
    if isinstance(inputs, Mapping):
        given = {str(name): value for name, value in inputs.items() if value is not None}
        specs = specifications(given)
        return (specs, []) if specs else ([], [{name: _array(value) for name, value in given.items()}])
    if hasattr(inputs, "__array__"):
        return [], [[_array(inputs)]]
    if any(isinstance(each, str | Path | InputSpec) for each in inputs):
        sets = [one for each in inputs if _gives_sets(each) for one in _sets(each, seed)]
        return specifications(inputs), sets
    return [], [[_array(each) for each in inputs]]


def specifications(inputs: UserInputs | None) -> list[InputSpec]:
    """The specifications alone; no file is read and no generator called.

    Raises InputError where arrays stand beside specifications.
    """
    if isinstance(inputs, Mapping):
        return _named_specifications(inputs)
    several = [inputs] if isinstance(inputs, str | Path | InputSpec) else inputs
    if not isinstance(several, Sequence) or not any(
        isinstance(each, str | Path | InputSpec) for each in several
    ):
        return []
    return [
        each if isinstance(each, InputSpec) else InputSpec.parse(str(each))
        for each in several
        if _describes(each) and not _gives_sets(each)
    ]


def descriptions(inputs: UserInputs | None) -> list[InputSpec]:
    """What specifications and files of arrays say about the inputs; no generator is called.

    Of an array a specification says the axes, and the array its type; without one axis 0 is dynamic. This is
    for models that do not say themselves what they take.
    """
    specs = specifications(inputs)
    several = [inputs] if isinstance(inputs, str | Path) else inputs if isinstance(inputs, Sequence) else []
    file = next((each for each in several if isinstance(each, str | Path) and _is_file(each)), None)
    if file is None:
        return specs
    arrays = _read(Path(file))
    positional = _without_names(arrays)
    known = {each.name: each for each in specs if each.name is not None}
    unnamed = iter([each for each in specs if each.name is None])
    found = []
    for name, array in arrays.items():
        shape: tuple[int | str, ...] = ("batch", *array.shape[1:]) if array.ndim else ()
        spec = known.pop(name, None) or next(unnamed, InputSpec(shape))
        found.append(InputSpec(spec.shape, array.dtype.name, None if positional else name))
    return [*found, *known.values(), *unnamed]


def _without_names(arrays: Mapping[str, Array]) -> bool:
    """Whether these are called as `numpy.savez` calls arrays without a name."""
    return all(key == f"arr_{i}" for i, key in enumerate(arrays))


def _named_specifications(inputs: Mapping[str, Any]) -> list[InputSpec]:
    if not any(isinstance(each, str | InputSpec) for each in inputs.values()):
        return []
    return [
        replace(each if isinstance(each, InputSpec) else InputSpec.parse(each), name=name)
        for name, each in inputs.items()
        if _describes(each)
    ]


def _describes(given: Any) -> bool:
    """Whether this says something about an input; constants of the model are left out.

    Raises InputError for an array, which cannot stand beside specifications.
    """
    if isinstance(given, str | Path | InputSpec):
        return True
    if isinstance(given, _CONSTANTS):
        return False
    raise InputError(
        f"inputs mix specifications such as '1x3x224x224' with a {type(given).__name__}",
        hint="give all inputs as arrays, or all as specifications",
    )


def _gives_sets(given: Any) -> bool:
    return isinstance(given, str | Path) and (_is_file(given) or _is_generator(given))


def _is_file(given: str | Path) -> bool:
    return Path(given).suffix in (".npz", ".safetensors")


def _is_generator(given: str | Path) -> bool:
    return isinstance(given, str) and is_reference(given) and not _is_dtype(given.rpartition(":")[2])


def _sets(given: str | Path, seed: int) -> list[Arrays]:
    return [_read(Path(given))] if _is_file(given) else generated_sets(str(given), seed)


def _is_dtype(name: str) -> bool:
    """Whether `N:int64` is a specification, not the function `int64` of the module `N`."""
    try:
        dtype_named(name)
    except (TypeError, AttributeError):
        return False
    return True


def generated_sets(reference: str, seed: int) -> list[Arrays]:
    """Sets of inputs from a function of the user's, `package.module:function`; this runs its code.

    The function is called with the seed if it takes an argument, which may be called `seed` or anything.
    It returns or yields sets: dicts of arrays by name, tuples of arrays by position, or single arrays;
    of a generator the first GENERATED_SETS are taken. A list of arrays is one set, a list of sets several.
    Raises InputError where there is no such function, where it raises, and where it gives something else.
    """
    function = resolve_reference(reference)
    if not callable(function):
        raise InputError(
            f"{reference} is not a function", hint="name a function that returns or yields inputs"
        )
    try:
        made = _call(function, seed)
        found = list(itertools.islice(made, GENERATED_SETS)) if isinstance(made, Iterator) else made
    except Exception as error:  # the function is the user's and may raise anything
        raise failed(f"calling {reference}", error, reference) from error
    several = isinstance(made, Iterator) or (isinstance(found, list) and any(map(_is_set, found)))
    sets = found if several else [found]
    if not sets:
        raise InputError(f"{reference} gives no inputs", hint="return or yield at least one set of arrays")
    return [_one_set(each, reference) for each in sets]


def _call(function: Callable[..., Any], seed: int) -> Any:
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return function()
    named = [each for each in parameters if each.name == "seed" and each.kind is not each.POSITIONAL_ONLY]
    if named:
        return function(seed=seed)
    needed = [each for each in parameters if each.default is each.empty and each.kind in _POSITIONAL]
    return function(seed) if len(needed) == 1 else function()


_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _is_set(value: Any) -> bool:
    return isinstance(value, Mapping | tuple | list)


def _one_set(value: Any, reference: str) -> Arrays:
    if isinstance(value, Mapping):
        return {str(name): _numeric(each, reference) for name, each in value.items()}
    if isinstance(value, tuple | list):
        return [_numeric(each, reference) for each in value]
    return [_numeric(value, reference)]


def _numeric(value: Any, reference: str) -> Array:
    if not hasattr(value, "__array__") and not isinstance(value, int | float | complex | list | tuple):
        raise InputError(
            f"{reference} gives a {type(value).__name__}, which is not an array",
            hint="return or yield dicts of numpy arrays by the names of the inputs, or tuples in their order",
        )
    return _array(value)


def _read(path: Path) -> dict[str, Array]:
    try:
        if path.suffix == ".safetensors":
            return read_tensors(str(path))
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError("no such file of inputs", hint="check the path", where=str(path)) from None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InputError(
            f"the inputs cannot be read: {error}",
            hint="write them with numpy.savez(path, name=array) or safetensors",
            where=str(path),
        ) from error


def _array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype == object:
        raise InputError(f"an input of type {type(value).__name__} is not an array", hint="give numpy arrays")
    return array


def apply_specs(specs: Sequence[TensorSpec], given: Sequence[InputSpec]) -> list[TensorSpec]:
    """What the model says about its inputs, with what the user says instead: by name, or by position.

    Axis 0 stays dynamic where the model says so, whatever size the user's example has there.
    Raises InputError for a name that the model does not have, or for more specifications than inputs.
    """
    result = list(specs)
    names = [spec.name for spec in specs]
    if len(given) > len(specs):
        raise InputError(
            f"{len(given)} inputs are specified, but the model has {len(specs)}: {', '.join(names)}",
            hint="give one --input for each input of the model",
        )
    for position, each in enumerate(given):
        if each.name is not None and each.name not in names:
            raise InputError(
                f"the model has no input {each.name!r}, it has {', '.join(names)}",
                hint="name one of them, or leave the name out to go by position",
            )
        index = names.index(each.name) if each.name is not None else position
        known = result[index].shape
        shape: tuple[int | str | None, ...] = each.shape
        if known and shape and not isinstance(known[0], int):
            shape = (known[0], *shape[1:])
        result[index] = replace(result[index], dtype=each.dtype, shape=shape)
    return result


def user_draws(sets: Sequence[Arrays], specs: Sequence[TensorSpec]) -> list[Draw]:
    """The user's arrays by the names of the model's inputs.

    Raises InputError where names or number do not fit. `arr_0`, `arr_1`, ... (numpy's names for arrays
    without one) go by position.
    """
    names = [spec.name for spec in specs]
    result = []
    for index, each in enumerate(sets):
        if isinstance(each, Mapping) and _without_names(each):
            each = list(each.values())
        if not isinstance(each, Mapping):
            each = dict(zip(names, each, strict=False)) if len(each) == len(names) else {}
        if set(each) != set(names):
            raise InputError(
                f"the given inputs are not those of the model: it takes {', '.join(names)}",
                hint="name the arrays as the model's inputs, or give as many as it has, in its order",
            )
        result.append(
            Draw(f"{index}-user", "user", _batch(each, specs), {name: each[name] for name in names})
        )
    return result


def _batch(arrays: Mapping[str, Array], specs: Sequence[TensorSpec]) -> int | None:
    for spec in specs:
        dynamic = spec.shape is not None and len(spec.shape) > 0 and not isinstance(spec.shape[0], int)
        if dynamic and arrays[spec.name].ndim:
            return int(arrays[spec.name].shape[0])
    return None
