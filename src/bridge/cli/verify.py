"""`bridge verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from bridge.cli.environments import setting_options
from bridge.cli.options import arrays_and_shapes, output_options, source_options
from bridge.cli.progress import Progress
from bridge.cli.reports import Wanted, deliver, report_options, with_command
from bridge.cli.speed import speed_options
from bridge.cli.suite import SuiteCall, suite_options, verify_suite

if TYPE_CHECKING:
    from bridge.settings import SettingArguments

_STEPS = 20


@click.command()
@click.argument("source", metavar="SOURCE", type=click.Path(), required=False)
@click.argument("target", metavar="TARGET", type=click.Path(), required=False)
@source_options
@click.option("--batch", "batches", metavar="N,N,...", help="Sizes of a dynamic axis 0.  [default: 3,1,17]")
@click.option(
    "--shapes",
    metavar="SPEC",
    multiple=True,
    help="Sizes of dynamic axes, such as x=2x3x64x64,y=2x7. Repeat it for more sets.",
)
@click.option(
    "--map-inputs",
    metavar="MAP",
    default="",
    help="Which input is which where names and shapes do not tell: tokens=input_ids,image=x:0231.",
)
@click.option("--map-outputs", metavar="MAP", default="", help="The same for outputs: logits=output_0.")
@click.option(
    "--dtype",
    type=click.Choice(["float16", "bfloat16"]),
    help="Let both versions compute in this type instead of their own.",
)
@click.option("--grad", "gradients", is_flag=True, help="Compare the gradients of inputs and parameters.")
@click.option(
    "--train",
    "training",
    metavar="STEPS",
    type=click.IntRange(min=1),
    is_flag=False,
    flag_value=_STEPS,
    default=None,
    help=f"Compare training steps.  [{_STEPS} if no number is given]",
)
@click.option(
    "--localise/--no-localise", default=True, help="Name the first wrong node where the versions differ."
)
@click.option(
    "--repro",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a minimal reproduction of a difference to this directory.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=600,
    show_default=True,
    metavar="SECONDS",
    help="After this long, the versions could not be checked.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of each version.  [default: all cores]")
@click.option(
    "--depth",
    is_flag=True,
    help="Compare the values inside both versions as well: errors along the depth of the network.",
)
@setting_options
@report_options()
@speed_options
@suite_options
@output_options
def command(
    source: str,
    target: str,
    specs: tuple[str, ...],
    examples: str | None,
    model: str | None,
    custom_objects: str | None,
    trust: bool,
    seed: int,
    batches: str | None,
    shapes: tuple[str, ...],
    map_inputs: str,
    map_outputs: str,
    dtype: Literal["float16", "bfloat16"] | None,
    gradients: bool,
    training: int | None,
    localise: bool,
    repro: Path | None,
    timeout: float,
    threads: int | None,
    depth: bool,
    setting: SettingArguments,
    wanted: Wanted,
    speed: bool,
    speed_batch: str | None,
    speed_seconds: float | None,
    compiled: bool,
    max_slowdown: float | None,
    max_memory: str | None,
    suite: SuiteCall | None,
    as_json: bool,
    quiet: bool,
    debug: bool,
) -> int:
    """Run the models in SOURCE and TARGET side by side and compare them.

    Each is a model of any format, a directory by bridge convert, or a Python factory pkg.mod:build.

    \b
    bridge verify model.pt2 model_tf/
    bridge verify saved_model/ out/ --grad --train --junit junit.xml --html report.html
    bridge verify ours.nets:build theirs.keras --map-inputs "x=image:0231"
    bridge verify --suite suite.toml --jobs 4 --resume --junit junit.xml
    """
    from bridge.api import verify
    from bridge.verification.sizes import parse_batches

    if suite is not None:
        found = verify_suite(suite, quiet=quiet)
        deliver(found, wanted, as_json=as_json, quiet=quiet)
        return int(found.exit_code)
    inputs = arrays_and_shapes(specs, examples)
    with Progress(quiet=quiet) as progress:
        result = verify(
            source,
            target,
            inputs=inputs,
            seed=seed,
            batches=None if batches is None else parse_batches(batches),
            shapes=shapes,
            map_inputs=map_inputs,
            map_outputs=map_outputs,
            gradients=gradients,
            training=training or 0,
            dtype=dtype,
            localise=localise,
            repro=repro,
            depth=depth,
            speed=speed,
            speed_batches=None if speed_batch is None else parse_batches(speed_batch),
            speed_seconds=speed_seconds,
            compiled=compiled,
            max_slowdown=max_slowdown,
            max_memory=max_memory,
            timeout=timeout,
            threads=threads,
            trust=trust,
            model=model,
            custom_objects=custom_objects,
            on_progress=progress,
            **setting,
        )
    deliver(with_command(result), wanted, as_json=as_json, quiet=quiet)
    return int(result.exit_code)
