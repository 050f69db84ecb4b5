"""The `bridge` command: its subcommands, and how every error leaves it."""

from __future__ import annotations

import importlib
import json
import signal
import sys
import traceback
from types import FrameType
from typing import Any

import click

from bridge.errors import BridgeError, ExitCode

_COMMANDS = {
    "convert": ("bridge.cli.convert", "Convert a model and verify the result."),
    "verify": ("bridge.cli.verify", "Compare two versions of a model."),
    "report": ("bridge.cli.report", "Show a report, or write it in other forms."),
    "compare": ("bridge.cli.compare", "Compare one model in both frameworks: speed, memory, accuracy."),
    "inspect": ("bridge.cli.inspect", "Show what is in a model, and whether it would convert."),
    "doctor": ("bridge.cli.doctor", "Show versions, devices and plug-ins."),
    "environments": ("bridge.cli.environments", "List or remove the environments of old frameworks."),
    "completion": ("bridge.cli.completion", "Print the completion script of a shell."),
}


class Commands(click.Group):
    """The subcommands, each imported only when it is run or its help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"bridge {version('bridge-ml')}")
        ctx.exit()


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done and equivalent, 1 the two versions differ, "
    "2 the request cannot be done, 3 something outside bridge failed.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show bridge's version and exit.",
)
def cli() -> None:
    """Move trained models between TensorFlow and PyTorch, and prove that both versions are equivalent."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with the exit code of its outcome."""
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run the command line; returns the exit code. Every error is printed here and nowhere else."""
    options = _up_to_end_of_options(arguments)
    debug, as_json = "--debug" in options, "--json" in options
    try:
        code = cli.main(arguments, prog_name="bridge", standalone_mode=False, obj=tuple(arguments))
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        return _fail(error, _usage_error(error), debug=debug, as_json=as_json)
    except (click.Abort, KeyboardInterrupt) as error:
        interrupted = BridgeError("interrupted", hint="nothing was written; run the command again")
        interrupted.exit_code = ExitCode.ENVIRONMENT
        return _fail(error, interrupted, debug=debug, as_json=as_json)
    except MemoryError as error:
        full = BridgeError("out of memory", hint="free some memory, or use a machine with more")
        full.exit_code = ExitCode.ENVIRONMENT
        return _fail(error, full, debug=debug, as_json=as_json)
    except BridgeError as error:
        return _fail(error, error, debug=debug, as_json=as_json)
    except Exception as error:
        # The last resort of a program: a fault of bridge itself must end like every other error.
        fault = BridgeError(
            f"bridge itself failed: {type(error).__name__}: {_first_line(error)}",
            hint="run it again with --debug, and report the traceback with the output of bridge doctor",
        )
        fault.exit_code = ExitCode.ENVIRONMENT
        return _fail(error, fault, debug=debug, as_json=as_json)
    return code if isinstance(code, int) else ExitCode.OK


def _up_to_end_of_options(arguments: list[str]) -> list[str]:
    return arguments[: arguments.index("--")] if "--" in arguments else arguments


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    """A job that is cancelled cleans up like one that is interrupted from the keyboard."""
    raise KeyboardInterrupt


def _usage_error(error: click.ClickException) -> BridgeError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "bridge"
    message = " ".join(error.format_message().split()).rstrip(".")
    return BridgeError(message[:1].lower() + message[1:], hint=f"{command} --help shows what it takes")


def _fail(cause: BaseException, error: BridgeError, *, debug: bool, as_json: bool) -> int:
    """Print an error on stderr, and as JSON on stdout if that was asked for; returns its exit code."""
    if debug:
        traceback.print_exception(cause, file=sys.stderr)
    place = f"{error.where}: " if error.where else ""
    click.echo(f"error: {place}{error.message}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
    if as_json:
        click.echo(json.dumps({"error": error_record(error)}, indent=2))
    return int(error.exit_code)


def error_record(error: BridgeError) -> dict[str, Any]:
    """An error as a JSON object."""
    return {
        "kind": type(error).__name__,
        "message": error.message,
        "hint": error.hint,
        "where": error.where,
        "exit_code": int(error.exit_code),
    }


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else ""
