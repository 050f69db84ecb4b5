"""Errors for inputs that the user must describe, with an example made from the model at hand."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence

from torch import nn

from bridge.errors import InputError

_IMAGE = 224
_SERIES = 100
_TOKENS = 16
_STEPS = 10
_VOLUME = 32


def missing_inputs(file: str, module: nn.Module, parameters: Sequence[inspect.Parameter]) -> InputError:
    """The error for a model whose file says nothing about its inputs."""
    names = required_names(parameters)
    flags = suggestion(names, module)
    shown = ", ".join(names) if names else "any inputs"
    return InputError(
        f"{file} does not say what shape the inputs of the model have (its forward takes {shown})",
        hint=f"add {flags} (SHAPE is written like 1x3x224x224, with :int64 after it for another dtype)"
        if "SHAPE" in flags
        else f"add {flags}, with the shape that you use",
    )


def required_names(parameters: Iterable[inspect.Parameter]) -> list[str]:
    """The parameters of forward that have no default."""
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is inspect.Parameter.empty
        and parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]


def suggestion(names: Sequence[str], module: nn.Module) -> str:
    """`--input 1x3x224x224`, from the first layer of a module with weights; other inputs as SHAPE."""
    shape = next((text for each in module.modules() if (text := _taken_by(each)) is not None), "SHAPE")
    if len(names) <= 1:
        return f"--input {shape}"
    return " ".join(
        f"--input {name}={shape if position == 0 else 'SHAPE'}" for position, name in enumerate(names)
    )


def _taken_by(module: nn.Module) -> str | None:
    """The shape of the input that a layer takes, with common sizes for the axes it leaves open."""
    kind = getattr(module, "original_name", type(module).__name__)
    weights = {name: tuple(each.shape) for name, each in module.named_parameters(recurse=False)}
    weight = weights.get("weight")
    if "weight_ih_l0" in weights:
        features = weights["weight_ih_l0"][1]
        return f"1x{_STEPS}x{features}" if getattr(module, "batch_first", True) else f"{_STEPS}x1x{features}"
    if "in_proj_weight" in weights:
        return f"1x{_TOKENS}x{weights['in_proj_weight'][1]}"
    if weight is None:
        return None
    if kind.startswith("Embedding"):
        return f"1x{_TOKENS}:int64"
    if len(weight) == 2:
        return f"1x{weight[1]}"
    sides = {3: (_SERIES,), 4: (_IMAGE, _IMAGE), 5: (_VOLUME, _VOLUME, _VOLUME)}.get(len(weight))
    if sides is None:
        return None
    groups = getattr(module, "groups", 1)
    channels = weight[0] if "Transpose" in kind else weight[1] * (groups if isinstance(groups, int) else 1)
    return "x".join(map(str, (1, channels, *sides)))
