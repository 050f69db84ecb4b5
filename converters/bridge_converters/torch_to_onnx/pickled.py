"""Loading a pickled nn.Module: only with the user's trust, and with its classes found."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bridge.errors import InputError, TrustError
from bridge_converters.torch_to_onnx.user_code import (
    current_directory_importable,
    first_line,
    import_module,
    source_line,
)


def load_pickled_module(path: Path, *, trust: bool, custom_objects: str | None = None) -> nn.Module:
    """The module in a file of `torch.save(module, path)`, on the CPU.

    PyTorch's restricted unpickler is tried first; what needs code needs `trust`. `custom_objects` names
    a module in which classes are looked up that were defined in a script (`__main__`) when the file was
    written.

    Raises TrustError without trust, InputError if a class cannot be found or the file holds something else.
    """
    scripts = import_module(custom_objects, flag="--custom-objects") if custom_objects else None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            raise TrustError(
                f"{path} is a pickled Python object: loading it runs code that is stored in it",
                hint="if you trust where the file comes from, run the same command with --trust; "
                "a safe file is written by torch.save(module.state_dict(), path)",
            ) from error
        content = _unpickle(path, scripts)
    except Exception as error:  # torch's unpickler raises anything on bytes that are no pickle
        raise InputError(
            f"{path} is damaged: {first_line(error)}", hint="write it again with torch.save"
        ) from error
    return _module_in(content, path)


def _unpickle(path: Path, scripts: ModuleType | None) -> Any:
    try:
        with current_directory_importable():
            return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_lookup(scripts))
    except (AttributeError, ImportError) as error:
        raise _class_not_found(path, error, scripts) from error
    except Exception as error:  # unpickling runs the user's code, which may raise anything
        raise InputError(
            f"{path} cannot be unpickled: {first_line(error)}",
            hint="use the versions of PyTorch and of the model's own package with which it was written",
            where=source_line(error),
        ) from error


def _lookup(scripts: ModuleType | None) -> Any:
    """The pickle module, with classes of `__main__` looked up in another module if one is given."""
    if scripts is None:
        return pickle

    class Unpickler(pickle.Unpickler):
        def find_class(self, module_name: str, global_name: str, /) -> Any:
            if module_name == "__main__" and hasattr(scripts, global_name):
                return getattr(scripts, global_name)
            return super().find_class(module_name, global_name)

    module = ModuleType("pickle")
    vars(module).update(vars(pickle), Unpickler=Unpickler)
    return module


def _class_not_found(path: Path, error: Exception, scripts: ModuleType | None) -> InputError:
    if isinstance(error, ModuleNotFoundError):
        package = (error.name or "the package").split(".")[0]
        return InputError(
            f"{path} needs the Python module {error.name!r}, which cannot be imported",
            hint=f"run bridge from the directory that holds {package}, or install {package}",
        )
    if "__main__" in str(error):
        return InputError(
            f"{path} was written by a script in which the model's class was defined ({first_line(error)})",
            hint="name that script as a module: --custom-objects train for train.py in the current directory "
            '(its training code must stand under if __name__ == "__main__":)'
            if scripts is None
            else f"{scripts.__name__} does not define that class either",
        )
    return InputError(
        f"{path} needs a class that is no longer there: {first_line(error)}",
        hint="use the version of the model's own package with which the file was written",
    )


def _module_in(content: Any, path: Path) -> nn.Module:
    if isinstance(content, nn.Module):
        return content
    if isinstance(content, dict):
        for key in ("model", "module", "net", "ema"):
            if isinstance(content.get(key), nn.Module):
                module: nn.Module = content[key]
                return module
        held = f"a dict with the keys {', '.join(map(str, list(content)[:8]))}"
    else:
        held = f"a {type(content).__name__}"
    raise InputError(
        f"{path} holds {held}, not an nn.Module",
        hint="write it with torch.save(module, path) or, better, torch.save(module.state_dict(), path)",
    )
