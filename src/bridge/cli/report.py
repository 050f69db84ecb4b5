"""`bridge report`."""

from __future__ import annotations

from pathlib import Path

import click

from bridge.cli.options import output_options
from bridge.cli.reports import Wanted, deliver, report_options
from bridge.errors import ExitCode


@click.command()
@click.argument("file", metavar="REPORT", type=click.Path(path_type=Path))
@report_options(json_file=False)
@output_options
def command(file: Path, wanted: Wanted, as_json: bool, quiet: bool, debug: bool) -> int:
    """Show the report in REPORT, or write it in other forms.

    REPORT is what bridge verify --report FILE wrote, of one pair or of a suite. The exit code is 0 whatever
    its verdict.

    \b
    bridge report report.json --html report.html
    bridge report suite.json --markdown comment.md --sarif bridge.sarif
    """
    from bridge.verification.report.json import read_any

    deliver(read_any(file), wanted, as_json=as_json, quiet=quiet)
    return int(ExitCode.OK)
