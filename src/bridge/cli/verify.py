"""`bridge verify`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from bridge.cli.options import chosen_inputs, output_options, source_options
from bridge.cli.progress import Progress


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.argument("target", metavar="TARGET", type=click.Path())
@source_options
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="FILE", help="Write the report as a web page."
)
@click.option(
    "--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JUnit XML for CI."
)
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JSON.")
@output_options
def command(
    source: str,
    target: str,
    specs: tuple[str, ...],
    examples: Path | None,
    model: str | None,
    custom_objects: str | None,
    trust: bool,
    seed: int,
    html: Path | None,
    junit: Path | None,
    report: Path | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Run the model in SOURCE and its converted version in TARGET side by side and compare them.

    \b
    bridge verify model.pt2 model_tf/
    bridge verify saved_model/ out/ --junit junit.xml --html report.html
    """
    from bridge.verification.api import verify

    inputs = chosen_inputs(specs, examples)
    with Progress(quiet=quiet) as progress:
        result = verify(
            source,
            target,
            inputs=inputs,
            model=model,
            custom_objects=custom_objects,
            trust=trust,
            seed=seed,
            on_progress=progress,
        )
    if html is not None:
        result.to_html(html)
    if junit is not None:
        result.to_junit(junit)
    if report is not None:
        result.to_json(report)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2, allow_nan=False))
    elif not quiet:
        click.echo(result.summary())
    return int(result.exit_code)
