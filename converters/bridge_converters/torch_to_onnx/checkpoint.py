"""Weights without a model: state_dicts and safetensors files, loaded into the user's module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file
from torch import nn

from bridge.errors import InputError
from bridge_converters.torch_to_onnx.user_code import (
    current_directory_importable,
    first_line,
    resolve,
    source_line,
)

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "weights", "params", "ema")
_PREFIXES = ("module.", "model.", "_orig_mod.")
_SHOWN = 8

Tensors = dict[str, torch.Tensor]


def load_checkpoint(path: Path, format: str, factory: str | None) -> nn.Module:
    """The module that a factory builds, with the weights of a state_dict or safetensors file.

    Raises InputError if no factory was given, if it does not build an `nn.Module`, and if keys or
    shapes differ (all differences at once).
    """
    tensors = read_safetensors(path) if format == "safetensors" else read_state_dict(path)
    if factory is None:
        raise _needs_factory(path, format, tensors)
    module = build(factory)
    load_into(module, tensors, path=path, factory=factory)
    return module


def read_safetensors(path: Path) -> Tensors:
    """The tensors of a safetensors file. Raises InputError if it is damaged."""
    try:
        return dict(load_file(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {first_line(error)}") from error


def read_state_dict(path: Path) -> Tensors:
    """The tensors of a checkpoint, taken out of common wrappings (`{"state_dict": ...}`); runs no code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's unpickler raises anything on bytes that are no pickle
        raise InputError(
            f"{path} cannot be read as a state_dict: {first_line(error)}",
            hint="write it with torch.save(module.state_dict(), path)",
        ) from error
    found = _find_tensors(content)
    if found is None:
        kind = (
            f"a dict with the keys {_some(list(content))}"
            if isinstance(content, Mapping)
            else type(content).__name__
        )
        raise InputError(
            f"{path} holds no state_dict, but {kind}",
            hint="write it with torch.save(module.state_dict(), path)",
        )
    return found


def build(factory: str) -> nn.Module:
    """The module that `pkg.mod:name` makes: a module, or what a class or function returns without arguments.

    Raises InputError if that fails or gives anything else.
    """
    found = resolve(factory, flag="--model")
    if not isinstance(found, nn.Module):
        if not callable(found):
            raise InputError(
                f"{factory} is a {type(found).__name__}, neither a function nor a module",
                hint="name a function without arguments that returns an nn.Module, or a module object",
            )
        try:
            with current_directory_importable():
                found = found()
        except Exception as error:  # the factory is the user's and may raise anything
            raise InputError(
                f"{factory}() failed: {first_line(error)}",
                hint="bridge calls it without arguments; wrap it: def build(): return Net(num_classes=10)",
                where=source_line(error),
            ) from error
    if not isinstance(found, nn.Module):
        raise InputError(
            f"{factory}() returned a {type(found).__name__}, not an nn.Module",
            hint="name a function without arguments that returns an nn.Module",
        )
    return found


def load_into(module: nn.Module, tensors: Tensors, *, path: Path, factory: str) -> None:
    """Copy tensors into a module by name; a common prefix such as `module.` is taken off where that fits.

    Raises InputError listing every missing, unexpected and differently shaped tensor.
    """
    own = module.state_dict()
    best = _best_match(tensors, own)
    # Tied tensors are saved once by safetensors; the other names are filled by the one that is there.
    missing = [name for name in own if name not in best and not _tied_to_any(name, own, best)]
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    unexpected = [name for name in best if name not in own]
    reshaped = [
        f"{name} (file {_shape(best[name])}, model {_shape(own[name])})"
        for name in own
        if name in best and best[name].shape != own[name].shape
    ]
    if missing or unexpected or reshaped:
        lines = [f"the weights in {path} do not fit the module that {factory} builds:"]
        for label, names in (("missing", missing), ("unexpected", unexpected), ("reshaped", reshaped)):
            if names:
                lines.append(f"  {label} ({len(names)}): {_some(names)}")
        raise InputError(
            "\n".join(lines),
            hint="check that the factory builds the same architecture and sizes as the training run",
        )
    module.load_state_dict(best, strict=False)


def _best_match(tensors: Tensors, own: Mapping[str, torch.Tensor]) -> Tensors:
    candidates = [tensors]
    for prefix in _PREFIXES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            candidates.append({name.removeprefix(prefix): each for name, each in tensors.items()})
    return max(candidates, key=lambda each: sum(name in own for name in each))


def _tied_to_any(name: str, own: Mapping[str, torch.Tensor], given: Tensors) -> bool:
    pointer = own[name].data_ptr()
    return any(other in own and own[other].data_ptr() == pointer and pointer != 0 for other in given)


def _find_tensors(content: Any) -> Tensors | None:
    if not isinstance(content, Mapping):
        return None
    if content and all(isinstance(name, str) for name in content):
        tensors = {name: each for name, each in content.items() if isinstance(each, torch.Tensor)}
        if len(tensors) == len(content):
            return tensors
    for wrapper in _WRAPPERS:
        if wrapper in content and (inner := _find_tensors(content[wrapper])) is not None:
            return inner
    return None


def _needs_factory(path: Path, format: str, tensors: Tensors) -> InputError:
    kind = "safetensors file" if format == "safetensors" else "state_dict"
    return InputError(
        f"{path} is a {kind}: weights without the model they belong to ({_some(list(tensors))})",
        hint=f"add --model package.module:build, where build() returns the nn.Module with these weights: "
        f"bridge convert {path} --model my_model:build",
    )


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:_SHOWN]))
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"
