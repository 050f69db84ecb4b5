"""From the keyword arguments of `convert` and `verify` to the setting of each side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict

from bridge.environments.choice import EnvironmentChoice
from bridge.errors import InputError
from bridge.verification.setting import Setting, checked_device

AUTOCAST = ("bfloat16", "float16")


class SettingArguments(TypedDict, total=False):
    """Where and how the versions compute.

    `source_python` is another interpreter (a program, the directory of a virtual environment, a version such
    as `"3.8"`), `source_env` a requirements file that an environment is made of and cached; both together say
    which interpreter makes it. `device` is where both compute their outputs (`cpu`, `cuda`, `cuda:1`, `gpu`),
    `source_device` and `target_device` where one does. `allow_tf32` and `autocast` allow a narrower precision
    on a GPU and in PyTorch, which the verdict then judges by; `deterministic` asks for algorithms that give
    the same bits every time.
    """

    source_python: str | Path | None
    source_env: str | Path | None
    target_python: str | Path | None
    target_env: str | Path | None
    device: str | None
    source_device: str | None
    target_device: str | None
    allow_tf32: bool
    autocast: Literal["bfloat16", "float16"] | None
    deterministic: bool


def side_setting(role: Literal["source", "target"], arguments: Mapping[str, Any]) -> Setting:
    """The setting of one side. Raises InputError for values that mean nothing."""
    python, requirements = arguments.get(f"{role}_python"), arguments.get(f"{role}_env")
    autocast = arguments.get("autocast")
    if autocast is not None and autocast not in AUTOCAST:
        raise InputError(f"autocast={autocast!r} is not a type", hint=f"choose {' or '.join(AUTOCAST)}")
    return Setting(
        environment=EnvironmentChoice(
            None if python is None else str(python), None if requirements is None else str(requirements)
        ),
        device=checked_device(arguments.get(f"{role}_device") or arguments.get("device") or "cpu"),
        allow_tf32=bool(arguments.get("allow_tf32")),
        autocast=autocast,
        deterministic=bool(arguments.get("deterministic")),
    )
