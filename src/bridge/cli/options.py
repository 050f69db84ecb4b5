"""Options that several subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def source_options(function: Function) -> Function:
    """What a reader may have to be told about a source beside its path."""
    for option in reversed(
        (
            click.option(
                "--input",
                "specs",
                metavar="SPEC",
                multiple=True,
                help="Shape of an input, [NAME=]AxBxC[:DTYPE], such as 1x3x224x224 or tokens=Nx16:int64; "
                "a letter or word makes an axis dynamic. Repeat it for more inputs. Beside --inputs it says "
                "which axes of the arrays vary.",
            ),
            click.option(
                "--inputs",
                "examples",
                metavar="FILE|PKG.MOD:GENERATOR",
                help="Inputs to run the model on: .npz or .safetensors, or a Python generator of them.",
            ),
            click.option(
                "--model",
                metavar="PKG.MOD:FACTORY",
                help="A function without arguments that builds the module for a file of weights only.",
            ),
            click.option(
                "--custom-objects",
                metavar="PKG.MOD",
                help="A module whose import registers custom layers or operators.",
            ),
            click.option(
                "--trust",
                is_flag=True,
                help="Run code that is stored in the file (pickles). Only for files you would run.",
            ),
            click.option("--seed", type=int, default=0, show_default=True, help="Seed of drawn inputs."),
        )
    ):
        function = option(function)
    return function


def output_options(function: Function) -> Function:
    """How much to print, and in which form."""
    for option in reversed(
        (
            click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout."),
            click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
            click.option("--debug", is_flag=True, help="Show tracebacks."),
        )
    ):
        function = option(function)
    return function


def chosen_inputs(specs: tuple[str, ...], examples: str | None) -> str | list[str] | None:
    """What the API takes as `inputs`. Both options at once are a mistake."""
    if specs and examples is not None:
        raise click.UsageError("--input and --inputs exclude each other: a file already has shapes")
    if examples is not None:
        return examples
    return list(specs) or None


def arrays_and_shapes(specs: tuple[str, ...], examples: str | None) -> str | list[str] | None:
    """What `verify` takes as `inputs`: a file of arrays, shapes to draw others by, or both."""
    return [examples, *specs] if specs and examples is not None else chosen_inputs(specs, examples)


def inputs_and_axes(
    specs: tuple[str, ...], examples: str | None
) -> tuple[str | list[str] | None, list[str] | None]:
    """What the API takes as `inputs` and `dynamic_axes`: beside a file, shapes say which of its axes vary."""
    if specs and examples is not None:
        return examples, list(specs)
    return chosen_inputs(specs, examples), None
