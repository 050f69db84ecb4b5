"""The options of `bridge verify` that measure speed and memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


def speed_options(function: Function) -> Function:
    """Whether to measure, how, and which limits the target has to keep."""
    for option in reversed(
        (
            click.option(
                "--speed",
                is_flag=True,
                help="Measure the speed and memory of both versions, with --train of a training step too.",
            ),
            click.option(
                "--speed-batch",
                metavar="N,N,...",
                help="Sizes of a dynamic axis 0 to measure with.  [default: 1,8]",
            ),
            click.option(
                "--speed-seconds",
                type=click.FloatRange(min=0, min_open=True),
                metavar="SECONDS",
                help="Time both versions for so long at most, for each way to run them.  [default: 30]",
            ),
            click.option(
                "--compile",
                "compiled",
                is_flag=True,
                help="Measure both through their compilers as well: torch.compile, jit_compile=True.",
            ),
            click.option(
                "--max-slowdown",
                type=click.FloatRange(min=0, min_open=True),
                metavar="RATIO",
                help="Fail where the target takes longer than so many times the source's time, such as 1.1.",
            ),
            click.option(
                "--max-memory",
                metavar="RATIO|SIZE",
                help="Fail where the target takes more memory: 1.2 times the source's, or 2GiB.",
            ),
        )
    ):
        function = option(function)
    return function
