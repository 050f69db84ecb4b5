"""`bridge doctor`."""

from __future__ import annotations

import json

import click

from bridge.cli.options import output_options
from bridge.cli.progress import Progress
from bridge.errors import ExitCode


@click.command()
@output_options
def command(as_json: bool, quiet: bool, debug: bool) -> int:
    """Show versions, devices and plug-ins, and say what is missing.

    Exit code 3 says that something installed does not work.
    """
    from bridge.doctor import diagnose

    with Progress(quiet=quiet) as progress:
        diagnosis = diagnose(on_progress=progress)
    if as_json:
        click.echo(json.dumps(diagnosis.to_dict(), indent=2))
    elif not quiet:
        click.echo(diagnosis.summary())
    return int(ExitCode.OK if diagnosis.healthy else ExitCode.ENVIRONMENT)
