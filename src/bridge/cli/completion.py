"""`bridge completion`."""

from __future__ import annotations

import click

_INSTALL = {
    "bash": 'add to ~/.bashrc:  eval "$(bridge completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$(bridge completion zsh)"',
    "fish": "run:  bridge completion fish > ~/.config/fish/completions/bridge.fish",
}


@click.command(epilog="; ".join(f"{shell}: {text}" for shell, text in _INSTALL.items()))
@click.argument("shell", type=click.Choice(sorted(_INSTALL)))
def command(shell: str) -> None:
    """Print the script that completes bridge's commands, options and file names in SHELL."""
    from click.shell_completion import get_completion_class

    from bridge.cli.app import cli

    completion = get_completion_class(shell)
    assert completion is not None
    click.echo(completion(cli, {}, "bridge", "_BRIDGE_COMPLETE").source())
