"""`bridge convert`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

import click

from bridge.cli.environments import setting_options
from bridge.cli.options import inputs_and_axes, output_options, source_options
from bridge.cli.progress import Progress
from bridge.errors import ExitCode

if TYPE_CHECKING:
    from bridge.api import Result
    from bridge.formats.artifacts import Target
    from bridge.settings import SettingArguments


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path())
@click.option(
    "--to", required=True, type=click.Choice(["torch", "tf", "onnx"]), help="The framework to convert to."
)
@click.option(
    "-o",
    "--output",
    metavar="OUT",
    help="Where to write; the suffix chooses the artifact (none: a directory). Default: beside SOURCE.",
)
@source_options
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--no-verify", is_flag=True, help="Do not compare the result with the source.")
@click.option(
    "--io-layout",
    type=click.Choice(["source", "native"]),
    default="source",
    show_default=True,
    help="Layout of inputs and outputs: the source's (drop-in), or the target's own.",
)
@click.option(
    "--engine",
    type=click.Choice(["onnx2torch"]),
    help="Convert an ONNX file with another library instead of bridge's own lowerings; gives a .pt2 alone.",
)
@click.option(
    "--exact-training",
    is_flag=True,
    help="Keep the source's tensors and rules of training where the target's own layers have others.",
)
@click.option("--static-batch", is_flag=True, help="Keep the first axis of the inputs fixed.")
@setting_options
@output_options
def command(
    source: str,
    to: Target,
    output: str | None,
    specs: tuple[str, ...],
    examples: str | None,
    model: str | None,
    custom_objects: str | None,
    trust: bool,
    seed: int,
    force: bool,
    no_verify: bool,
    io_layout: Literal["source", "native"],
    engine: str | None,
    exact_training: bool,
    static_batch: bool,
    setting: SettingArguments,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Convert the model in SOURCE, a file or directory, and verify the result.

    \b
    bridge convert model.pt2 --to tf
    bridge convert saved_model/ --to torch -o out/
    bridge convert weights.safetensors --model pkg.mod:build --to tf --input 1x3x224x224
    """
    from bridge import api
    from bridge.formats.artifacts import default_output

    inputs, axes = inputs_and_axes(specs, examples)
    destination = output if output is not None else str(default_output(source, to))
    with Progress(quiet=quiet) as progress:
        result = api.convert(
            source,
            to=to,
            inputs=inputs,
            trust=trust,
            io_layout=io_layout,
            engine=engine,
            exact_training=exact_training,
            force=force,
            output=destination,
            model=model,
            custom_objects=custom_objects,
            static_batch=static_batch,
            dynamic_axes=axes,
            verify=not no_verify,
            seed=seed,
            on_progress=progress,
            **setting,
        )
    if as_json:
        click.echo(json.dumps(record(result), indent=2))
    elif not quiet:
        click.echo(text(result))
    return exit_code(result)


def exit_code(result: Result) -> int:
    """0 where the two versions are equivalent or were not compared, else the report's."""
    return int(ExitCode.OK if result.report is None else result.report.exit_code)


def record(result: Result) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "output": None if result.output is None else str(result.output),
        "verdict": "not checked" if result.report is None else result.report.verdict,
        "source": {
            "framework": result.info.framework,
            "format": result.info.format,
            "inputs": list(result.info.inputs),
            "outputs": list(result.info.outputs),
        },
        "notes": list(result.notes),
        "timings": {name: round(seconds, 3) for name, seconds in result.timings.items()},
        "peak_bytes": dict(result.peak_bytes),
        "report": None if result.report is None else result.report.to_dict(),
    }


def text(result: Result) -> str:
    """The result in a few lines: where it is, whether it is right, what to know about it."""
    seconds = sum(result.timings.values())
    lines = [f"wrote {result.output} ({seconds:.1f} s)"]
    if result.report is None:
        lines.append("verdict: not checked")
    else:
        lines.append(result.report.summary())
    known = set() if result.report is None else set(result.report.notes)
    lines += [f"note: {note}" for note in result.notes if note not in known]
    return "\n".join(lines)
