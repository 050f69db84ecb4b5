"""Options that say where each version computes, and `bridge environments`."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bridge.cli.options import output_options
from bridge.errors import ExitCode

Function = TypeVar("Function", bound=Callable[..., Any])

NAMES = (
    "source_python",
    "source_env",
    "target_python",
    "target_env",
    "device",
    "source_device",
    "target_device",
    "allow_tf32",
    "autocast",
    "deterministic",
)
"""The keyword arguments of `bridge.convert` and `bridge.verify` that these options give."""


def setting_options(function: Function) -> Function:
    """Which interpreter, environment and device each version runs with; `setting` holds the arguments."""
    options = (
        click.option(
            "--source-python",
            metavar="PYTHON",
            help="Run the source with another interpreter: a program, the directory of a virtual environment "
            "or a version such as 3.8.",
        ),
        click.option(
            "--source-env",
            metavar="FILE",
            type=click.Path(),
            help="Run the source in an environment of these requirements, made once and cached.",
        ),
        click.option("--target-python", metavar="PYTHON", help="The same for the target."),
        click.option("--target-env", metavar="FILE", type=click.Path(), help="The same for the target."),
        click.option(
            "--device",
            metavar="DEVICE",
            help="Where both versions compute their outputs: cpu, cuda, cuda:0, gpu.  [default: cpu]",
        ),
        click.option("--source-device", metavar="DEVICE", help="Where the source does."),
        click.option("--target-device", metavar="DEVICE", help="Where the target does."),
        click.option(
            "--allow-tf32",
            is_flag=True,
            help="Let a GPU round factors of float32 products to 10 bits, and judge by that.",
        ),
        click.option(
            "--autocast",
            type=click.Choice(["bfloat16", "float16"]),
            help="Run versions in PyTorch with autocast to this type, and judge by it.",
        ),
        click.option(
            "--deterministic", is_flag=True, help="Use the algorithms that give the same bits every time."
        ),
    )

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> Any:
        setting = {name: kwargs.pop(name) for name in NAMES}
        return function(*args, setting=setting, **kwargs)

    wrapped: Any = command
    for option in reversed(options):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[no-any-return]


@click.command()
@click.option(
    "--remove", "keys", metavar="KEY", multiple=True, help="Remove the environment with this key. Repeatable."
)
@click.option("--remove-all", is_flag=True, help="Remove all of them.")
@output_options
def command(keys: tuple[str, ...], remove_all: bool, as_json: bool, quiet: bool, debug: bool) -> int:
    """List the environments that --source-env and --target-env made, or remove them.

    \b
    bridge environments
    bridge environments --remove 3f2a
    """
    from bridge import environments

    chosen = [each.key for each in environments.cached()] if remove_all else list(keys)
    removed = [environments.remove(key) for key in chosen]
    left = environments.cached()
    if as_json:
        record = {
            "directory": str(environments.cache_directory()),
            "environments": [environments.as_record(each) for each in left],
            "removed": [each.key for each in removed],
        }
        click.echo(json.dumps(record, indent=2))
    elif not quiet:
        for each in removed:
            click.echo(f"removed {each.summary}")
        click.echo(f"{len(left)} cached environments in {environments.cache_directory()}")
        for each in left:
            click.echo(f"  {each.summary}")
    return int(ExitCode.OK)
