"""`bridge inspect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from bridge.cli.options import chosen_inputs, output_options, source_options
from bridge.cli.progress import Progress
from bridge.errors import ExitCode

if TYPE_CHECKING:
    from bridge.formats.artifacts import Target


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.option(
    "--to", type=click.Choice(["torch", "tf", "onnx"]), help="Also list what would not convert to it."
)
@source_options
@output_options
def command(
    source: str,
    to: Target | None,
    specs: tuple[str, ...],
    examples: str | None,
    model: str | None,
    custom_objects: str | None,
    trust: bool,
    seed: int,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Show the format, signature, weights, operators and modules of the model in SOURCE.

    With --to, exit code 2 says that it would not convert.

    \b
    bridge inspect model.pt2
    bridge inspect model.keras --to torch
    """
    from bridge.inspect import inspect

    inputs = chosen_inputs(specs, examples)
    with Progress(quiet=quiet) as progress:
        found = inspect(
            source,
            to=to,
            inputs=inputs,
            model=model,
            custom_objects=custom_objects,
            trust=trust,
            on_progress=progress,
        )
    if as_json:
        click.echo(json.dumps(found.to_dict(), indent=2))
    elif not quiet:
        click.echo(found.summary())
    return int(ExitCode.CANNOT if found.unsupported else ExitCode.OK)
