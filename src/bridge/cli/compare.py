"""`bridge compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bridge.cli.environments import setting_options
from bridge.cli.options import chosen_inputs, output_options, source_options
from bridge.cli.progress import Progress

if TYPE_CHECKING:
    from bridge.settings import SettingArguments


@click.command()
@click.argument("source", metavar="MODEL", type=click.Path())
@click.argument("other", metavar="[OTHER]", type=click.Path(), required=False)
@source_options
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="An .npz or .safetensors file with an array for each input, and one of labels for accuracy.",
)
@click.option("--labels", metavar="NAME", help="The array of labels in --data.  [default: labels, y, ...]")
@click.option("--batch", "batches", metavar="N,N,...", help="Batch sizes to time.  [default: 1,8]")
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    help="How long each row of the table may be timed.  [default: 30]",
)
@click.option("--compile", "compiled", is_flag=True, help="Time torch.compile and jit_compile=True, too.")
@click.option("--train/--no-train", "training", default=True, help="Time training steps, too.")
@click.option("--map-inputs", metavar="MAP", default="", help="As of bridge verify.")
@click.option("--map-outputs", metavar="MAP", default="", help="As of bridge verify.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each version.  [default: all cores]")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=1800,
    show_default=True,
    metavar="SECONDS",
    help="After this long, the versions could not be compared.",
)
@click.option("--html", type=click.Path(path_type=Path), metavar="FILE", help="Write it as a web page.")
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE", help="Write it as JSON.")
@setting_options
@output_options
def command(
    source: str,
    other: str | None,
    specs: tuple[str, ...],
    examples: str | None,
    batches: str | None,
    html: Path | None,
    report: Path | None,
    setting: SettingArguments,
    as_json: bool,
    quiet: bool,
    debug: bool,
    **options: Any,
) -> int:
    """TensorFlow or PyTorch for MODEL on this machine?

    MODEL is converted to the other framework, an ONNX model to both; or OTHER is the other version. Both are
    verified and timed in turn, for inference and training, their memory is measured, and with --data
    how well they do on it. The answer comes with its uncertainty. The exit code is that of the verification.

    \b
    bridge compare model.keras --html compare.html
    bridge compare model.pt2 --data test.npz --batch 1,32 --compile
    bridge compare ours.pt2 theirs_saved_model/
    """
    from bridge.comparison.api import compare
    from bridge.verification.sizes import parse_batches

    with Progress(quiet=quiet) as progress:
        found = compare(
            source,
            other,
            inputs=chosen_inputs(specs, examples),
            batches=None if batches is None else parse_batches(batches),
            on_progress=progress,
            **options,
            **setting,
        )
    if html is not None:
        found.to_html(html)
    if report is not None:
        found.to_json(report)
    if as_json:
        from bridge.verification.report.json import dump

        click.echo(dump(found.to_dict()), nl=False)
    elif not quiet:
        click.echo(found.summary())
    return int(found.exit_code)
